"""The headers that travel with each event: what its bytes do not say. `docs/bridge.md` lists them.

The row of a run is looked up when the run is first seen, once a page for all new runs together; again when the run
starts (launchers add tags) and at its end (Dagster writes `dagster/failure_reason` and `dagster/will_retry` after it),
from when on it is not remembered: late events bring the newest row.
"""

from collections.abc import Iterable, Sequence

from pipeline.events import Event
from pipeline.names import STORAGE_ID_HEADER
from pipeline.run_rows import HEADER, RunRows, encode_header

INSTANCE = "dagtel-instance"
EVENT_TYPE = "dagster-event-type"

_ENDS = frozenset({"PIPELINE_SUCCESS", "PIPELINE_FAILURE", "PIPELINE_CANCELED"})
_CHANGES = _ENDS | {"PIPELINE_START"}


class RunHeaders:
    """Headers by run, at most `limit` of them; the run that is longest out of sight goes first."""

    def __init__(self, rows: RunRows, instance: str, limit: int) -> None:
        self._rows, self._limit = rows, limit
        self._instance = (INSTANCE, instance.encode())
        self._known: dict[str, tuple[str, bytes]] = {}

    async def attach(self, events: Sequence[Event]) -> None:
        """Set the headers of these events. Raises RetryableError when the storage does not answer."""
        changed = {event.run_id for event in events if event.type in _CHANGES}
        seen = {event.run_id for event in events} - {""}
        await self._look_up(run for run in seen if run in changed or run not in self._known)
        for event in events:
            run = self._known.get(event.run_id)
            event.headers = (
                (STORAGE_ID_HEADER, b"%d" % event.offset),
                self._instance,
                (EVENT_TYPE, event.type.encode("utf-8", "replace")),
                *((run,) if run else ()),
            )
        self._forget(seen, {event.run_id for event in events if event.type in _ENDS})

    def of_row(self, id: int) -> tuple[tuple[str, bytes], ...]:
        """The headers that say which row it is, for one that is no event."""
        return ((STORAGE_ID_HEADER, b"%d" % id), self._instance)

    async def _look_up(self, runs: Iterable[str]) -> None:
        wanted = list(runs)
        if wanted:
            for run, row in (await self._rows.look_up(wanted)).items():
                self._known[run] = (HEADER, encode_header(row))

    def _forget(self, seen: Iterable[str], ended: Iterable[str]) -> None:
        for run in seen:
            if (header := self._known.pop(run, None)) is not None:
                self._known[run] = header  # now the last to go
        for run in ended:
            self._known.pop(run, None)
        while len(self._known) > self._limit:
            del self._known[next(iter(self._known))]
