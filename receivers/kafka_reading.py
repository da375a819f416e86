"""The reading loop of the `kafka` receiver, from joining the group to the end.

A turn: open what was newly assigned, put what is in hand as long as the intake has room, fetch, decode. Where there is
no room for long the partitions are paused and polling goes on, so that the group does not miss us; what the client had
fetched ahead is then fetched again. It is the loop alone that puts, one read at a time.
"""

import logging
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import anyio
import msgspec

from pipeline.components import Intake, Position, Read
from pipeline.errors import DagtelError, PermanentError, RetryableError
from receivers.kafka_members import Membership, Tp, source_of
from receivers.kafka_options import KafkaReceiverConfig
from receivers.kafka_partition import Decode, DecodeAll, Partition, Record
from receivers.kafka_positions import Start, begin_at, go_on, overtaken

POLL_S = 0.2
JOINING_S = 0.05
ROOM_CHECK_S = 0.01
PAUSE_AFTER_S = 1.0
MILLISECOND = 1_000_000


class Fetched(msgspec.Struct, frozen=True, gc=False):
    """What one fetch gave of one partition: `cursor` is the offset behind it, `end` the known end of the partition."""

    tp: Tp
    records: Sequence[Record]
    cursor: int
    end: int | None


class OutOfRange(DagtelError):
    """The wanted offset of these partitions is not there (any more)."""

    def __init__(self, partitions: Iterable[Tp]) -> None:
        self.partitions = tuple(partitions)
        super().__init__(f"no such offset in {', '.join(map(source_of, self.partitions))}")


class Broker(Protocol):
    """What the loop asks of Kafka's client. Raises RetryableError, PermanentError, OutOfRange."""

    async def fetch(self, timeout_s: float, most: int) -> Sequence[Fetched]: ...
    async def bounds(self, partitions: Iterable[Tp]) -> Mapping[Tp, tuple[int, int]]:
        """The oldest offset that is there, and the one that comes next."""
        ...

    async def at_time(self, partitions: Iterable[Tp], at_ms: int) -> Mapping[Tp, int | None]:
        """The first offset at or after a time, None where there is none yet."""
        ...

    async def cursor(self, tp: Tp) -> int | None: ...
    def end(self, tp: Tp) -> int | None: ...
    def seek(self, tp: Tp, offset: int) -> None: ...
    def pause(self) -> None: ...
    def resume(self) -> None: ...
    async def commit(self, offsets: Mapping[Tp, int]) -> None: ...
    def partition_counts(self) -> Mapping[str, int]: ...
    def renewed(self) -> bool:
        """Whether the cluster has told of its topics anew since this was asked last: now and then, and after errors."""
        ...

    def rejoin(self) -> None: ...


class Figures(Protocol):
    """Where the loop counts."""

    def read(self, tp: Tp, records: int, size: int) -> None: ...
    def lag(self, tp: Tp, records: int) -> None: ...


class Reading:
    """One membership in the group, from its start to its end."""

    def __init__(
        self,
        config: KafkaReceiverConfig,
        broker: Broker,
        intake: Intake[object],
        decode: Decode,
        figures: Figures,
        log: logging.LoggerAdapter[logging.Logger],
        decode_all: DecodeAll | None = None,
    ) -> None:
        self._config, self._broker, self._intake = config, broker, intake
        self._decode, self._decode_all = decode, decode_all
        self._figures, self._log = figures, log
        self.members = Membership(intake, config.rebalance_timeout, self._tell_last, log)
        self._opened = -1
        self._in_hand: deque[tuple[Tp, Partition, Read[object]]] = deque()
        self._told: dict[Tp, int] = {}
        self._last_put: dict[Tp, int] = {}
        self._counts: Mapping[str, int] = {}
        self._doubted: int | None = None
        self._commit_at = anyio.current_time() + config.commit_interval
        self._full_since: float | None = None
        self._paused = False

    async def run(self) -> None:
        """Read until cancelled, or with `intake.once` to the end that was there at the start."""
        while True:
            if self.members.failure is not None:
                raise self.members.failure
            if self.members.generation != self._opened and self.members.assigned is not None:
                await self._open()
            if not await self._put():
                await self._wait_for_room()
                continue
            if self._is_done():
                return
            await self._fetch(JOINING_S if self.members.assigned is None else POLL_S)
            await self._tell_when_due()

    # --- opening -----------------------------------------------------------------------------------------------------

    async def _open(self) -> None:
        """Take on what was assigned: load its state, see where to go on, set the cursors. A broker that does not
        answer is asked again in the next turn."""
        generation, partitions = self.members.generation, self.members.assigned or frozenset()
        if self._intake.alone and not self._has_all(generation, partitions):
            return
        stored = await self.members.load()
        try:
            bounds = await self._broker.bounds(partitions)
            starts = await self._starts(stored, bounds)
        except RetryableError as error:
            self._log.warning("The broker does not say where partitions begin and end; asking again.", exc_info=error)
            return
        if generation != self.members.generation:
            return  # a rebalance came in between: what is ours now is opened in the next turn
        self._in_hand.clear()
        for tp, start in starts.items():
            partition = Partition(
                source_of(tp), start, *bounds[tp], self._config.on_recreated, self._decode, self._decode_all
            )
            self.members.open[tp] = partition
            self._begin(tp, partition)
        self._opened, self._counts = generation, self._broker.partition_counts()

    def _has_all(self, generation: int, partitions: frozenset[Tp]) -> bool:
        """Whether all of the input is ours, or nothing, as one who stands by. A topic may have grown since the group
        spread it: so it is spread once more before we give up. Raises PermanentError."""
        counts = self._broker.partition_counts()
        missing = sum(counts.values()) - len(partitions)
        if not partitions or missing <= 0:
            self._doubted = None
            return True
        if self._doubted is None:
            self._doubted = generation
            self._broker.rejoin()
        if self._doubted == generation:
            return False  # the new assignment is on its way
        raise PermanentError(
            f"others of group {self._config.group_id} read {missing} of the {sum(counts.values())} partitions of "
            f"{', '.join(counts)}, but {self._intake.alone}"
        )

    async def _starts(
        self, stored: Mapping[str, Position | None], bounds: Mapping[Tp, tuple[int, int]]
    ) -> dict[Tp, Start]:
        config, starts, new = self._config, {}, []
        for tp, (begin, end) in bounds.items():
            source = source_of(tp)
            position = stored.get(source)
            if position is None:
                new.append(tp)
            else:
                starts[tp] = go_on(source, position, begin, end, config.on_lost)
        return starts | await self._first_starts(new, bounds)

    async def _first_starts(self, new: Sequence[Tp], bounds: Mapping[Tp, tuple[int, int]]) -> dict[Tp, Start]:
        """Where to begin partitions that were never read."""
        if not new or self._config.initial_timestamp is None:
            side = 1 if self._config.initial_position == "latest" else 0
            return {tp: begin_at(bounds[tp][side]) for tp in new}
        found = await self._broker.at_time(new, self._config.initial_ms)
        return {tp: begin_at(bounds[tp][1] if (at := found.get(tp)) is None else at) for tp in new}

    def _begin(self, tp: Tp, partition: Partition) -> None:
        self._seek(tp, partition)
        self._figures.lag(tp, partition.lag)
        self._in_hand.append((tp, partition, partition.opening()))

    async def _reopen(self, partitions: Iterable[Tp]) -> None:
        """Retention overtook us, or the topic was made anew while we read: look again, as after a start."""
        self._log.warning("The next offset is not there.", extra={"partitions": sorted(map(source_of, partitions))})
        wanted = {tp: partition for tp in partitions if (partition := self.members.open.get(tp)) is not None}
        bounds = await self._broker.bounds(wanted)
        for tp, partition in wanted.items():
            if self.members.open.get(tp) is partition:
                begin, end = bounds[tp]
                start = overtaken(
                    partition.source, partition.position, begin, end, self._config.on_lost, self._config.on_recreated
                )
                partition.restart(start, begin, end, end)  # what the client knows of the end is older than this
                self._begin(tp, partition)

    def _seek(self, tp: Tp, partition: Partition) -> None:
        if partition.seek_to is not None:
            self._broker.seek(tp, partition.seek_to)
            partition.seek_to = None

    # --- putting -----------------------------------------------------------------------------------------------------

    async def _put(self) -> bool:
        """Put what is in hand. False: there is no room (for it, or for more)."""
        while self._in_hand:
            if not self._intake.has_room():
                return False
            tp, partition, read = self._in_hand.popleft()
            if self.members.open.get(tp) is partition:  # else revoked since: dropped, the next owner reads it
                await self._intake.put(read)
                self._last_put[tp] = read.position.next
        return self._intake.has_room()

    async def _wait_for_room(self) -> None:
        """A short wait keeps what the client fetched ahead; in a long one we poll, or the group would drop us."""
        now = anyio.current_time()
        if self._full_since is None:
            self._full_since = now
        if now - self._full_since < PAUSE_AFTER_S:
            await anyio.sleep(ROOM_CHECK_S)
            return
        self._broker.pause()
        self._paused = True
        self._take(await self._fetched(POLL_S / 4))
        await self._tell_when_due()

    # --- fetching ----------------------------------------------------------------------------------------------------

    async def _fetch(self, timeout_s: float) -> None:
        if self._full_since is not None:
            self._full_since = None
            self._broker.resume()
        fetched = await self._fetched(timeout_s)
        if self._broker.renewed() or self._paused:
            self._paused = False
            self._recheck()  # and what was fetched is fetched again: it may be another topic's
        else:
            self._take(fetched)
        await self._look_at_ends()

    def _recheck(self) -> None:
        """A topic that was deleted and made anew under our hands, and is longer than where we stand, gives records as
        if nothing had happened. The client then had no topic for a moment and asked the cluster; or we were not
        fetching. After either the record read last is compared again."""
        for tp, partition in self.members.open.items():
            partition.recheck()
            self._seek(tp, partition)

    async def _fetched(self, timeout_s: float) -> Sequence[Fetched]:
        try:
            return await self._broker.fetch(timeout_s, self._config.max_poll_records)
        except OutOfRange as error:
            await self._reopen(error.partitions)
            return ()

    def _take(self, fetched: Sequence[Fetched]) -> None:
        sought: set[Tp] = set()
        for part in fetched:
            partition = self.members.open.get(part.tp)
            if partition is None or part.tp in sought:
                continue  # fetched from where the client thinks that it stands; the seek fetches it again
            read = partition.take(part.records, part.cursor, part.end)
            if partition.seek_to is not None:
                sought.add(part.tp)
            self._seek(part.tp, partition)
            self._figures.lag(part.tp, partition.lag)
            if read is not None:
                self._figures.read(part.tp, len(read.items) + len(read.rejected), read.size)
                self._in_hand.append((part.tp, partition, read))

    async def _look_at_ends(self) -> None:
        """What a fetch tells without records: how far the partition goes, and that the cursor stands behind markers of
        transactions, over which our position moves too."""
        for tp, partition in self.members.open.items():
            if partition.goal is not None and not partition.lag:
                continue
            cursor = await self._broker.cursor(tp)
            if cursor is not None and (read := partition.advance(cursor, self._broker.end(tp))) is not None:
                self._seek(tp, partition)
                self._figures.lag(tp, partition.lag)
                self._in_hand.append((tp, partition, read))

    def _is_done(self) -> bool:
        """With `once`: every partition of ours was read to the end that was there at the start."""
        if not self._intake.once or self._opened != self.members.generation:
            return False
        return all(partition.is_at_goal for partition in self.members.open.values())

    # --- telling Kafka -----------------------------------------------------------------------------------------------

    async def _tell_when_due(self) -> None:
        """Commit to Kafka now and then, and see whether the topics have grown."""
        if anyio.current_time() < self._commit_at:
            return
        self._commit_at = anyio.current_time() + self._config.commit_interval
        await self._tell(self.members.open)
        counts = self._broker.partition_counts()
        if self._opened == self.members.generation and any(counts[t] > self._counts.get(t, 0) for t in counts):
            # The group's leader would see it; but one that came back as the same static member does not know that it
            # leads (JoinGroup before version 9), and nobody looks.
            self._log.info("A topic has more partitions; joining again.", extra={"partitions": dict(counts)})
            self._counts = counts
            self._broker.rejoin()

    async def _tell(self, partitions: Iterable[Tp]) -> None:
        """A courtesy: what is committed here is committed to Kafka too."""
        committed = self._intake.committed()
        await self._commit({tp: p.next for tp in partitions if (p := committed.get(source_of(tp))) is not None})

    async def _tell_last(self, partitions: Iterable[Tp]) -> None:
        """The same for partitions that were given up: all that was put is committed by then."""
        await self._commit({tp: self._last_put[tp] for tp in partitions if tp in self._last_put})
        for tp in partitions:
            self._figures.lag(tp, 0)  # not ours any more: a lag that stays for ever would be a lie

    async def _commit(self, offsets: Mapping[Tp, int]) -> None:
        """Failing is logged and forgotten: nothing depends on it."""
        offsets = {tp: offset for tp, offset in offsets.items() if self._told.get(tp) != offset}
        if not offsets:
            return
        try:
            await self._broker.commit(offsets)
        except RetryableError as error:
            self._log.warning("Offsets could not be committed to Kafka; our own are.", exc_info=error)
        else:
            self._told |= offsets
