"""What the next checkpoint says: gathered as it happens, and handed out as one moment.

A moment holds the rows that changed, where the sources stand, the payloads that were built, and what became of others.
Whoever asks for one has flushed the stages before; nothing may be read while it is made.
"""

import gc
import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from pipeline.batch import WHOLE
from pipeline.clock import Clock
from pipeline.runtime.changes import StateRows
from pipeline.runtime.dead_letters import DeadLetters, as_log
from pipeline.runtime.domain_time import DomainTime
from pipeline.runtime.inherit import latest
from pipeline.runtime.outbox import Outbox
from pipeline.runtime.ownership import Ownership
from pipeline.runtime.seldom import Seldom
from pipeline.store.state import Ack, Commit, DeadLetter, StateRow

log = logging.getLogger("dagtel.engine")

LOG_DROPS_S = 10.0
"""One line about dropped payloads in this time."""


@contextmanager
def uncollected() -> Iterator[None]:
    """No garbage collection meanwhile: nearly all that a barrier makes is dropped before its end, and a collection in
    the middle looks at all of it for nothing (5 to 20 ms of 23,000 samples)."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


class Barrier:
    """Between two checkpoints. `moved`: the sources that were read."""

    def __init__(self, owned: Ownership, dead: DeadLetters, clock: Clock) -> None:
        self.moved: set[str] = set()
        self.acks: list[Ack] = []
        self.replayed: list[int] = []
        self._owned, self._dead, self._clock = owned, dead, clock
        self._drops = Seldom(LOG_DROPS_S)

    async def moment(self, wall_ns: int, now_ns: int, time: DomainTime) -> Commit:
        """Build what stands in the outboxes and hand out all that happened, at this time of the wall and the whole.
        `time` says what the shards have come to."""
        owned, outboxes = self._owned, self._owned.shop.outboxes.values()
        acks, self.acks = self.acks, []  # what comes from here on is told with the next
        await self._record(acks, wall_ns)
        dead = await self._build(outboxes, now_ns)
        for outbox in outboxes:
            acks += self._drop_excess(outbox)
        moved = self.moved | ({WHOLE} & owned.lanes.keys() if time.mode == "events" else set())
        commit = Commit(
            epochs={shard: lane.epoch for shard, lane in owned.lanes.items()},
            positions={source: owned.positions[source] for source in moved if source in owned.positions},
            times=time.to_store(moved & owned.lanes.keys()),
            rows=self._changed_rows(),
            outbox=sorted((row for outbox in outboxes for row in outbox.take_built()), key=lambda row: row.id),
            acks=acks,
            dead=dead,
            replayed=self.replayed,
        )
        self.moved, self.replayed = set(), []
        return commit

    async def _record(self, acks: Sequence[Ack], now_ns: int) -> None:
        """What became of payloads, to those who keep records: it is committed with the acknowledgements."""
        told = [ack for ack in acks if ack.told is not None]
        for outbox in self._owned.shop.outboxes.values() if told else ():
            for ack in told if outbox.spec.records else ():
                await outbox.push([ack.told], now_ns, ack.shard)

    def _changed_rows(self) -> Sequence[StateRow]:
        lanes = self._owned.lanes
        rows = StateRows((shard, table.take_changes()) for shard, lane in lanes.items() for table in lane.tables)
        changes = [row for lane in lanes.values() for row in lane.inherited]
        if not changes:
            return rows
        for lane in lanes.values():
            lane.inherited = []
        return latest(changes, rows)

    async def _build(self, outboxes: Iterable[Outbox], now_ns: int) -> list[DeadLetter]:
        """Build what has gathered. Dead letters are exported too; those that this makes are only kept."""
        kept: list[DeadLetter] = []
        shop, lanes = self._owned.shop, self._owned.lanes
        targets = shop.plan.service.dead_letters.exporters
        for _ in range(2):
            for outbox in outboxes:
                outbox.build(now_ns)
            dead = self._dead.take()
            kept += dead
            for id in targets if dead and lanes else ():
                await shop.outboxes[id].push([as_log(letter) for letter in dead], now_ns, self._any_shard())
        for outbox in outboxes:
            outbox.build(now_ns)
        return kept + self._dead.take()

    def _drop_excess(self, outbox: Outbox) -> list[Ack]:
        gone = outbox.drop_excess()
        if not gone:
            return []
        self._owned.shop.telemetry.exporter(outbox.id).dropped(len(gone))
        if self._drops.due(self._clock.monotonic()):
            facts = {"exporter": outbox.id, "payloads": len(gone), "all": outbox.dropped}
            log.error("Payloads dropped: the outbox is full.", extra=facts)
        return [Ack(id, outbox.id, shard=shard) for id, shard in gone]

    def _any_shard(self) -> str:
        """For what belongs to no shard: the whole, or where another process may have that, one of ours."""
        return WHOLE if WHOLE in self._owned.lanes else next(iter(self._owned.lanes), WHOLE)
