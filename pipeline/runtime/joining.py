"""One exporter's payloads as they are stored: several as one, and compressed, where the exporter does so.

Called off the loop's thread. Nothing stands in memory twice: what was built is let go of as it is sealed.
"""

import logging
from collections import deque
from collections.abc import Iterator
from typing import Any, Final

from pipeline.components import Exporter, Joins, Payload, Seals
from pipeline.delivery import Delivery
from pipeline.store.state import OutboxRow

log = logging.getLogger("dagtel.outbox")

REST: Final = 1 << 20
"""Bytes of an exporter's payloads, as they are built, that may be left to go out with others."""


class Joining:
    """Chooses which payloads become one, by their shard, their headers, and how much the exporter takes at once."""

    def __init__(self, id: str, exporter: Exporter[Any], delivery: Delivery) -> None:
        self.id, self.exporter, self._delivery = id, exporter, delivery
        self.sealed: set[int] = set()
        """Ids of payloads that come again as they were stored."""
        self.joins = exporter.joins if isinstance(exporter, Joins) else 0
        """Bytes of payloads that may become one; 0: none do."""

    def stored(self, built: list[OutboxRow], rest: list[OutboxRow] | None = None) -> list[OutboxRow]:
        """These payloads, which are taken out of `built`, as they are stored. Ids that are no more there were joined to
        others: the first stays, so that the order of ids is still that of building. Of each shard the last that would
        become one are left in `rest`, if there is one and it is little: there is room for more. Raises what `seal`
        raises for a payload alone."""
        stored: list[OutboxRow] = []
        by_shard: dict[str, deque[OutboxRow]] = {}
        for row in built:
            if self._stays_whole(row):
                stored.append(self._as_it_is(row))
            else:
                by_shard.setdefault(row.shard, deque()).append(row)
        built.clear()
        last: list[list[OutboxRow]] = []
        for rows in by_shard.values():
            for group in self._groups(rows):
                if rows or rest is None:
                    stored += self._as_one(group)
                else:
                    last.append(group)
        if rest is not None and sum(len(row.payload.body) for group in last for row in group) <= REST:
            rest += [row for group in last for row in group]
        else:
            stored += [row for group in last for row in self._as_one(group)]
        return stored

    def _stays_whole(self, row: OutboxRow) -> bool:
        """Sealed already, or one of those that have an order or tell of somebody's life."""
        payload = row.payload
        alone = payload.key or payload.life or payload.ends or payload.about
        return not self.joins or row.id in self.sealed or bool(alone)

    def _groups(self, rows: deque[OutboxRow]) -> Iterator[list[OutboxRow]]:
        """Those that become one, taken out of `rows`."""
        most = self._delivery.sending_queue.batch.max_size
        while rows:
            group: list[OutboxRow] = []
            items = size = 0
            while rows:
                payload = rows[0].payload
                items, size = items + payload.items, size + len(payload.body)
                if group and (items > most or size > self.joins or payload.headers != group[0].payload.headers):
                    break
                group.append(rows.popleft())
            yield group

    def _as_one(self, group: list[OutboxRow]) -> list[OutboxRow]:
        """They are taken out of `group`."""
        payloads, first = [row.payload for row in group], group[0]
        try:
            sealed = self._sealed(payloads)
        except Exception:  # whatever an exporter raises must not stop the others
            if len(group) == 1:
                raise
            log.exception("An exporter could not join payloads; they go out one by one.", extra={"exporter": self.id})
            return [self._as_it_is(row) for row in group]
        group.clear()
        return [OutboxRow(first.id, self.id, sealed, first.shard)]

    def _sealed(self, payloads: list[Payload]) -> Payload:
        assert isinstance(self.exporter, Joins)
        sealed = self.exporter.seal(*payloads)
        if sealed.items != sum(payload.items for payload in payloads):
            raise ValueError(f"payloads of {sum(p.items for p in payloads)} items became one of {sealed.items}")
        return sealed

    def _as_it_is(self, row: OutboxRow) -> OutboxRow:
        """By itself; sealed, unless it is."""
        if row.id in self.sealed:
            self.sealed.discard(row.id)
            return row
        if isinstance(self.exporter, Seals):
            return OutboxRow(row.id, row.exporter, self.exporter.seal(row.payload), row.shard)
        return row
