"""Between built and stored: payloads are joined and compressed off the loop's thread, some before their checkpoint.

At full load a second brings 40 MiB of payloads. They wait for the next checkpoint as what they become, a tenth of that.
So a checkpoint need not come sooner for them: what a second changes in the state is written once and not four times.
Nothing is stored before the checkpoint, and nothing is sent before it is stored.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import anyio.to_thread

from pipeline.runtime.outbox import Outbox
from pipeline.store.state import OutboxRow

AHEAD: Final = 3 << 20
"""Bytes of an exporter's payloads, as they are built, from which on they do not wait for the checkpoint."""


def sealed(
    outboxes: Mapping[str, Outbox], built: list[OutboxRow], rest: list[OutboxRow] | None = None
) -> list[OutboxRow]:
    """Payloads as they are stored, taken out of `built`, and what is left in `rest`: see `Joining.stored`. By exporter,
    and so not in the order of their ids."""
    by_exporter: dict[str, list[OutboxRow]] = {}
    for row in built:
        by_exporter.setdefault(row.exporter, []).append(row)
    built.clear()
    return [row for id, rows in by_exporter.items() for row in outboxes[id].sealed(rows, rest)]


def settled(outboxes: Mapping[str, Outbox], built: Mapping[int, str], rows: Sequence[OutboxRow]) -> None:
    """Of `built` (exporters by id) these payloads are left, of the size they have now; the others were joined to
    these."""
    for row in rows:
        outboxes[row.exporter].resized(row)
    for joined in built.keys() - {row.id for row in rows}:
        outboxes[built[joined]].acked(joined)


def released(outboxes: Mapping[str, Outbox], stored: Sequence[OutboxRow]) -> None:
    """These are stored now and may be sent."""
    for id, outbox in outboxes.items() if stored else ():
        outbox.release([row for row in stored if row.exporter == id])


class Sealing:
    """What one committer has sealed, and not stored yet. One call at a time."""

    def __init__(self, outboxes: Mapping[str, Outbox]) -> None:
        self._outboxes = outboxes
        self._rest: list[OutboxRow] = []
        """As they were built: there is room for more."""
        self._done: list[OutboxRow] = []
        """As they will be stored."""
        self._kept = 0
        """Bytes of both, and of what is being sealed."""

    @property
    def bytes(self) -> int:
        """Bytes of all that wait for a checkpoint, as they stand in memory."""
        return self._kept + sum(outbox.unsealed for outbox in self._outboxes.values())

    @property
    def due(self) -> bool:
        """Whether an exporter has so much that `ahead` is worth it."""
        return any(outbox.unsealed >= AHEAD for outbox in self._outboxes.values())

    async def ahead(self) -> None:
        """Seal what exporters have much of, for the next checkpoint. Raises what an exporter's `seal` raises."""
        much = {id: outbox for id, outbox in self._outboxes.items() if outbox.unsealed >= AHEAD}
        rows = [row for row in self._rest if row.exporter in much]
        rest = [row for row in self._rest if row.exporter not in much]
        built = [row for outbox in much.values() for row in outbox.take_built()]
        self._rest = rest
        self._kept += sum(len(row.payload.body) for row in built)
        rows += built
        del built  # nobody but who seals holds them
        self._done += await self._sealed(rows, rest)
        self._kept = sum(len(row.payload.body) for row in (*self._done, *rest))

    async def finished(self, built: list[OutboxRow]) -> list[OutboxRow]:
        """All payloads of a checkpoint as they are stored, in the order of their ids: those that were sealed ahead, and
        those in `built`, which are taken out of it. Raises what an exporter's `seal` raises."""
        rows = self._rest + built
        built.clear()
        done = self._done + await self._sealed(rows, None)
        self._rest, self._done, self._kept = [], [], 0
        return sorted(done, key=lambda row: row.id)

    async def _sealed(self, rows: list[OutboxRow], rest: list[OutboxRow] | None) -> list[OutboxRow]:
        built = {row.id: row.exporter for row in rows}
        done = await anyio.to_thread.run_sync(sealed, self._outboxes, rows, rest)
        settled(self._outboxes, built, [*done, *(rest or ())])
        return done
