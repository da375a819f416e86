"""The reading loop and the membership, on a fake broker."""

from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from pipeline.components import Position, Read
from pipeline.errors import PermanentError, RetryableError, StateError
from pipeline.events import Event
from pipeline.options import Duration
from pipeline.testing.context import FakeContext
from pipeline.testing.intake import FakeIntake
from receivers.kafka_members import Tp, source_of
from receivers.kafka_options import KafkaReceiverConfig
from receivers.kafka_partition import Record
from receivers.kafka_reading import Fetched, OutOfRange, Reading

pytestmark = pytest.mark.anyio
P0, P1 = ("t", 0), ("t", 1)


class Rec:
    key, timestamp, headers = b"k", 5, ()

    def __init__(self, offset: int, topic: bytes = b"") -> None:
        self.offset, self.value = offset, b"%s%d" % (topic, offset)


def decode(raw: bytes, source: str, offset: int, record_ns: int = 0, headers: Any = (), texts: Any = None) -> Event:
    return Event(raw, "LOG", "", 0, 20, "", "", "", source=source, offset=offset)


class FakeBroker:
    """Partitions with `size` records each; gives `most` of them a fetch."""

    def __init__(self, sizes: Mapping[Tp, int]) -> None:
        self.sizes, self.cursors, self.committed = dict(sizes), dict[Tp, int](), dict[Tp, int]()
        self.paused, self.rejoined, self.polls = False, 0, 0
        self.on_fetch: Callable[[], None] = lambda: None
        self.begins: dict[Tp, int] = {}
        self.bounds_fail = 0
        self.counts = {"t": 2}
        self.is_renewed = False
        self.topic = b""

    async def fetch(self, timeout_s: float, most: int) -> Sequence[Fetched]:
        await anyio.sleep(0)
        self.polls += 1
        self.on_fetch()
        gone = [tp for tp, at in self.cursors.items() if at < self.begins.get(tp, 0)]
        if gone:
            raise OutOfRange(gone)
        return [] if self.paused else [self._part(tp, most) for tp in self.cursors]

    def _part(self, tp: Tp, most: int) -> Fetched:
        first = self.cursors[tp]
        last = self.cursors[tp] = min(first + most, self.sizes[tp])
        records: list[Record] = [Rec(n, self.topic) for n in range(first, last)]
        return Fetched(tp, records, last, self.sizes[tp])

    async def bounds(self, partitions: Iterable[Tp]) -> Mapping[Tp, tuple[int, int]]:
        if self.bounds_fail:
            self.bounds_fail -= 1
            raise RetryableError("no answer")
        return {tp: (self.begins.get(tp, 0), self.sizes[tp]) for tp in partitions}

    async def at_time(self, partitions: Iterable[Tp], at_ms: int) -> Mapping[Tp, int | None]:
        return dict.fromkeys(partitions)

    async def cursor(self, tp: Tp) -> int | None:
        return self.cursors.get(tp)

    def end(self, tp: Tp) -> int | None:
        return self.sizes[tp]

    def seek(self, tp: Tp, offset: int) -> None:
        self.cursors[tp] = offset

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        self.paused = False

    async def commit(self, offsets: Mapping[Tp, int]) -> None:
        self.committed |= offsets

    def partition_counts(self) -> Mapping[str, int]:
        return self.counts

    def rejoin(self) -> None:
        self.rejoined += 1

    def renewed(self) -> bool:
        renewed, self.is_renewed = self.is_renewed, False
        return renewed


class NoFigures:
    def read(self, tp: Tp, records: int, size: int) -> None: ...
    def lag(self, tp: Tp, records: int) -> None: ...


def reading(broker: FakeBroker, intake: FakeIntake, **options: Any) -> Reading:
    given: dict[str, Any] = {"max_poll_records": 2, "commit_interval": Duration(0)} | options
    return Reading(KafkaReceiverConfig(**given), broker, intake, decode, NoFigures(), FakeContext("kafka").log)


@asynccontextmanager
async def running(loop: Reading) -> AsyncIterator[None]:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(loop.run)
        yield
        tasks.cancel_scope.cancel()


def offsets(intake: FakeIntake) -> list[int]:
    return [item.offset for item in intake.items if isinstance(item, Event)]


async def test_once_reads_all_partitions_to_their_end() -> None:
    intake = FakeIntake(once=True)
    loop = reading(FakeBroker({P0: 3, P1: 5}), intake)
    loop.members.given([P0, P1])
    await loop.run()
    assert {source: len(items) for source, items in intake.by_source().items()} == {"t/0": 3, "t/1": 5}


async def test_what_is_in_hand_of_a_revoked_partition_is_never_put() -> None:
    broker, intake = FakeBroker({P0: 4, P1: 4}), FakeIntake()
    loop = reading(broker, intake)
    loop.members.given([P0, P1])

    def full_after_the_first_events(read: Read[object]) -> None:
        intake.full = bool(read.items)

    intake.on_put = full_after_the_first_events
    async with running(loop):
        await intake.until(lambda: intake.full)
        first, second = (P0, P1) if intake.reads[-1].source == "t/0" else (P1, P0)
        assert offsets(intake) == [0, 1]  # of the first partition; the second one's are in hand
        await loop.members.taken()
        assert intake.calls[-1] == ("revoke", frozenset({"t/0", "t/1"}))
        intake.on_put = None
        intake.fill(False)
        loop.members.given([second])
        await intake.until(lambda: intake.stored[source_of(second)].next == 4)
    assert offsets(intake) == [0, 1, 0, 1, 2, 3]  # nothing of the second partition is missing or doubled
    sources = [read.source for read in intake.reads if read.items]
    assert sources == [source_of(first), source_of(second), source_of(second)]


async def test_what_was_put_is_told_to_kafka_when_it_is_given_up() -> None:
    broker, intake = FakeBroker({P0: 4}), FakeIntake()
    loop = reading(broker, intake, commit_interval=Duration("1h"))
    loop.members.given([P0])
    async with running(loop):
        await intake.until(lambda: intake.stored.get("t/0", Position(0)).next == 4)
        await loop.members.taken()
    assert broker.committed == {P0: 4}


async def test_a_revocation_that_takes_too_long_is_an_error_of_the_loop() -> None:
    class Stuck(FakeIntake):
        async def revoke(self, sources: Iterable[str]) -> None:
            await anyio.sleep_forever()

    loop = reading(FakeBroker({P0: 1}), intake := Stuck(), rebalance_timeout=Duration("50ms"))
    loop.members.given([P0])

    async def revoke() -> None:
        await intake.until(lambda: bool(intake.reads))
        await loop.members.taken()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(revoke)
        with pytest.raises(RetryableError, match="rebalance_timeout"):
            await loop.run()


async def test_what_a_revocation_raises_is_raised_by_the_loop() -> None:
    class Fenced(FakeIntake):
        async def revoke(self, sources: Iterable[str]) -> None:
            raise StateError("somebody else owns it")

    loop = reading(FakeBroker({P0: 1}), intake := Fenced())
    loop.members.given([P0])

    async def revoke() -> None:
        await intake.until(lambda: bool(intake.reads))
        await loop.members.taken()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(revoke)
        with pytest.raises(StateError):
            await loop.run()


async def test_a_stop_does_not_wait_for_a_revocation() -> None:
    class Stuck(FakeIntake):
        async def revoke(self, sources: Iterable[str]) -> None:
            self._note("revoking", None)
            await anyio.sleep_forever()

    loop = reading(FakeBroker({P0: 1}), intake := Stuck())
    loop.members.given([P0])
    async with running(loop):
        await intake.until(lambda: bool(intake.reads))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(loop.members.taken)
            await intake.until(lambda: ("revoking", None) in intake.calls)
            loop.members.stop()


async def test_a_rebalance_while_state_is_loaded_opens_only_what_is_ours_then() -> None:
    class Slow(FakeIntake):
        async def assign(self, sources: Iterable[str]) -> Mapping[str, Position | None]:
            found = await super().assign(sources)
            if self.calls[-1] == ("assign", frozenset({"t/0"})):
                await self.until(lambda: ("full", False) in self.calls)
            return found

    loop = reading(FakeBroker({P0: 2, P1: 2}), intake := Slow())
    loop.members.given([P0])
    async with running(loop), anyio.create_task_group() as tasks:
        await intake.until(lambda: bool(intake.calls))
        tasks.start_soon(loop.members.taken)  # waits for the load, then gives it up
        await anyio.wait_all_tasks_blocked()
        intake.fill(False)
        await intake.until(lambda: ("revoke", frozenset({"t/0"})) in intake.calls)
        loop.members.given([P1])
        await intake.until(lambda: offsets(intake) == [0, 1])
    assert {read.source for read in intake.reads} == {"t/1"}


async def test_a_member_without_partitions_tells_the_intake_that_it_stands_by() -> None:
    loop = reading(FakeBroker({}), intake := FakeIntake())
    loop.members.given([])
    async with running(loop):
        await intake.until(lambda: intake.calls == [("assign", frozenset())])


async def test_who_must_see_all_refuses_a_part_once_the_group_was_asked_again() -> None:
    broker, intake = FakeBroker({P0: 2}), FakeIntake()
    intake.alone = "connectors.metrics must see every event"
    loop = reading(broker, intake)
    loop.members.given([P0])
    broker.on_fetch = lambda: loop.members.given([P0]) if broker.rejoined else None
    with pytest.raises(PermanentError, match=r"others of group dagtel read 1 of the 2 .* must see every event"):
        await loop.run()
    assert (broker.rejoined, intake.calls) == (1, [])


async def test_who_must_see_all_reads_all_and_stands_by_with_nothing() -> None:
    broker, intake = FakeBroker({P0: 1, P1: 1}), FakeIntake()
    intake.alone = "connectors.metrics must see every event"
    loop = reading(broker, intake)
    loop.members.given([])
    async with running(loop):
        await intake.until(lambda: bool(intake.calls))
        loop.members.given([P0, P1])
        await intake.until(lambda: {read.source for read in intake.reads if read.items} == {"t/0", "t/1"})
    assert broker.rejoined == 0


async def test_a_broker_that_does_not_say_where_partitions_begin_is_asked_again() -> None:
    broker, intake = FakeBroker({P0: 2}), FakeIntake(once=True)
    broker.bounds_fail = 2
    loop = reading(broker, intake)
    loop.members.given([P0])
    await loop.run()
    assert offsets(intake) == [0, 1]
    assert [what for what, _ in intake.calls].count("assign") == 1


async def test_retention_that_overtakes_goes_on_where_it_is_told_to() -> None:
    broker, intake = FakeBroker({P0: 9}), FakeIntake(once=True)
    loop = reading(broker, intake, on_lost="earliest")
    loop.members.given([P0])
    intake.on_put = lambda read: broker.begins.update({P0: 6}) if read.items else None
    await loop.run()
    assert offsets(intake) == [0, 1, 6, 7, 8]


async def test_a_topic_that_has_grown_is_joined_again_once() -> None:
    broker, intake = FakeBroker({P0: 2}), FakeIntake()
    loop = reading(broker, intake)
    loop.members.given([P0])
    async with running(loop):
        await intake.until(lambda: offsets(intake) == [0, 1])
        broker.counts = {"t": 3}
        seen = broker.polls
        with anyio.fail_after(5):
            while broker.polls < seen + 10:
                await anyio.sleep(0)
    assert broker.rejoined == 1


async def test_a_full_intake_is_polled_past_its_pause() -> None:
    broker, intake = FakeBroker({P0: 2}), FakeIntake(full=True)
    loop = reading(broker, intake)
    loop.members.given([P0])
    async with running(loop):
        await intake.until(lambda: bool(intake.assigned))
        with anyio.fail_after(5):
            while not broker.paused:
                await anyio.sleep(0.01)
        seen = broker.polls
        while broker.polls < seen + 3:
            await anyio.sleep(0.01)
        intake.fill(False)
        await intake.until(lambda: offsets(intake) == [0, 1])
    assert not broker.paused


async def test_a_longer_topic_made_anew_under_our_hands_is_noticed_once_the_cluster_tells_of_its_topics() -> None:
    broker, intake = FakeBroker({P0: 3}), FakeIntake()
    loop = reading(broker, intake)
    loop.members.given([P0])

    def anew() -> None:
        if len(intake.items) == 3 and not broker.topic:
            broker.topic, broker.sizes, broker.is_renewed = b"another", {P0: 9}, True

    broker.on_fetch = anew
    with anyio.fail_after(5), pytest.raises(PermanentError, match="on_recreated: accept"):
        await loop.run()
    assert offsets(intake) == [0, 1, 2]


class InPieces(FakeBroker):
    """A fetch gives two pieces of a partition."""

    async def fetch(self, timeout_s: float, most: int) -> Sequence[Fetched]:
        first = await super().fetch(timeout_s, most)
        return [*first, *(self._part(tp, most) for tp in self.cursors if not self.paused)]


async def test_of_a_topic_made_anew_nothing_is_skipped_where_a_fetch_gives_it_in_pieces() -> None:
    broker, intake = InPieces({P0: 3}), FakeIntake()
    loop = reading(broker, intake, on_recreated="accept")
    loop.members.given([P0])

    def anew() -> None:
        if len(intake.items) == 3 and not broker.topic:
            broker.topic, broker.sizes, broker.is_renewed = b"another", {P0: 9}, True

    broker.on_fetch = anew
    async with running(loop):
        with anyio.fail_after(5):
            while len(intake.items) < 12:
                await anyio.sleep(0)
    assert offsets(intake) == [*range(3), *range(9)]


async def test_a_cluster_that_tells_of_the_same_topics_again_costs_no_record_and_repeats_none() -> None:
    broker, intake = FakeBroker({P0: 7, P1: 0}), FakeIntake()
    loop = reading(broker, intake)
    loop.members.given([P0, P1])

    def renew() -> None:
        broker.is_renewed = broker.polls % 2 == 0
        broker.sizes[P1] = min(broker.polls // 4, 3)

    broker.on_fetch = renew
    async with running(loop):
        with anyio.fail_after(5):
            while len(intake.items) < 10:
                await anyio.sleep(0)
    assert sorted(offsets(intake)) == sorted([*range(7), *range(3)])


async def test_after_a_pause_the_topic_is_looked_at_again() -> None:
    broker, intake = FakeBroker({P0: 4}), FakeIntake()
    loop = reading(broker, intake)
    loop.members.given([P0])

    def anew() -> None:
        if broker.paused:
            broker.topic, broker.sizes = b"another", {P0: 9}
            intake.fill(False)
        elif intake.items and not broker.topic:
            intake.fill()

    broker.on_fetch = anew
    with anyio.fail_after(5), pytest.raises(PermanentError, match="on_recreated: accept"):
        await loop.run()
    assert set(offsets(intake)) <= set(range(4))
