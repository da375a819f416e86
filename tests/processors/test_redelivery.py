"""What comes again is dropped: exactly, over the last N events, across crashes."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.batch import Batch
from pipeline.events import Event
from pipeline.testing.context import FakeContext, MemoryState
from processors.redelivery import SPEC, EventIds, RedeliveryConfig

pytestmark = pytest.mark.anyio


def stored(storage_id: object, run: str = "r1", instance: str = "prod", raw: bytes = b"x") -> Event:
    headers = (
        ("dagtel-storage-id", str(storage_id).encode()),
        ("dagtel-instance", instance.encode()),
        ("dagster-event-type", b"LOG"),
    )
    return Event(raw, "LOG", run, 1, 20, "job", "", "", headers=headers)


def plain(raw: bytes) -> Event:
    return Event(raw, "LOG", "r1", 1, 20, "job", "", "")


def ids(*events: Event) -> list[int]:
    return EventIds().of(events)


class Life:
    """One processor after another on the same state."""

    def __init__(self, remember: int = 1000) -> None:
        self.config, self.state = RedeliveryConfig(remember=remember), MemoryState("redelivery")

    async def feed(self, *batches: list[Event], crash: bool = False) -> list[bytes]:
        """Run the batches through a fresh process, with a checkpoint after each; what passed, as offsets."""
        passed: list[bytes] = []
        async with SPEC.build(self.config, FakeContext("redelivery", "s", self.state)) as processor:
            for batch in batches:
                passed += [event.raw for event in (await processor.process(Batch(batch, "s", 1))).items]
                if not crash:
                    assert await processor.flush(1) == ()  # type: ignore[attr-defined]  # of Flushes
                    self.state.checkpoint()
        self.state = self.state.restart()
        return passed


async def test_an_event_that_comes_again_is_dropped_in_a_batch_across_batches_and_across_restarts() -> None:
    life = Life()
    assert await life.feed([plain(b"a"), plain(b"b"), plain(b"a")], [plain(b"b"), plain(b"c")]) == [b"a", b"b", b"c"]
    assert await life.feed([plain(b"c"), plain(b"d"), plain(b"a")]) == [b"d"]


async def test_what_was_not_committed_before_a_crash_passes_again() -> None:
    life = Life()
    assert await life.feed([plain(b"a")]) == [b"a"]
    assert await life.feed([plain(b"b")], crash=True) == [b"b"]
    assert await life.feed([plain(b"a"), plain(b"b")]) == [b"b"]


async def test_a_batch_without_repeats_is_the_same_batch() -> None:
    async with SPEC.build(RedeliveryConfig(), FakeContext("redelivery")) as processor:
        batch = Batch([plain(b"a"), plain(b"b")], "s", 1)
        assert await processor.process(batch) is batch
        assert list((await processor.process(Batch([], "s", 1))).items) == []


def test_instance_run_and_storage_id_together_are_an_identity() -> None:
    events = [stored(1), stored(2), stored(1, run="r2"), stored(1, instance="staging"), stored(1, run=""), plain(b"x")]
    assert len(set(ids(*events))) == len(events)
    assert ids(stored(1, raw=b"one")) == ids(stored(1, raw=b"other"))


def test_the_bytes_are_the_identity_where_nobody_says_more() -> None:
    assert len(set(ids(plain(b"x"), plain(b"y"), plain(b"")))) == 3


@pytest.mark.parametrize("storage_id", ["", "abc", "-1", str(2**62), str(2**70), "1.5"])
def test_a_storage_id_that_is_none_is_not_used(storage_id: str) -> None:
    assert ids(stored(storage_id, raw=b"x")) == ids(plain(b"x"))


def test_headers_are_found_wherever_they_stand() -> None:
    event, turned = stored(7), stored(7)
    turned.headers = tuple(reversed(event.headers))
    only = stored(7)
    only.headers = event.headers[:1]
    assert ids(event, turned, event, only) == [ids(event)[0]] * 3 + ids(plain(b"x"))


def test_ids_are_the_same_in_every_process() -> None:
    assert ids(stored(5), plain(b"abc")) == [7694273421604954706, 7674422142938552745]


@pytest.mark.parametrize("size", [1, 7, 1000])
async def test_the_last_n_are_remembered_and_state_stays_bounded(size: int) -> None:
    life, events = Life(remember=64), [stored(n) for n in range(500)]
    assert len(await life.feed(*(events[at : at + size] for at in range(0, 500, size)))) == 500
    assert sum(len(row.value or b"") for row in life.state.stored.values()) <= 8 * (64 + 8)
    assert await life.feed(events[-64:]) == []
    assert len(await life.feed(events[:64])) == 64


async def test_few_events_a_checkpoint_do_not_make_many_rows() -> None:
    life = Life(remember=10_000)
    await life.feed(*([stored(n)] for n in range(1000)))
    assert len(life.state.stored) == 2


_batches = st.lists(st.lists(st.integers(0, 40), max_size=9), max_size=9)


@settings(max_examples=80, deadline=None)
@given(_batches, st.sets(st.integers(0, 8)))
async def test_each_id_passes_once_whatever_the_batches_and_restarts(
    batches: list[list[int]], restarts: set[int]
) -> None:
    life, passed = Life(), list[bytes]()
    parts: list[list[list[Event]]] = [[]]
    for number, batch in enumerate(batches):
        if number in restarts:
            parts.append([])
        parts[-1].append([stored(n, raw=str(n).encode()) for n in batch])
    for part in parts:
        passed += await life.feed(*part)
    assert passed == [str(n).encode() for n in dict.fromkeys(n for batch in batches for n in batch)]


async def test_chunks_of_another_size_are_remembered_too() -> None:
    """Stored when `remember` was another number."""
    life, events = Life(remember=1000), [stored(n) for n in range(700)]
    await life.feed(events[:300])
    for remember in (64, 5000, 320):
        life.config = RedeliveryConfig(remember=remember)
        assert await life.feed(events[236:300]) == []
    assert len(await life.feed(events[200:])) >= 400
    assert await life.feed(events[400:]) == []


async def test_many_more_than_are_remembered_within_one_checkpoint() -> None:
    life, events = Life(remember=1), [stored(n) for n in range(500)]
    assert len(await life.feed(events)) == 500
    assert await life.feed(events[-1:]) == []
    assert len(life.state.stored) <= 2


def test_remembering_nothing_is_a_problem() -> None:
    assert [option for option, _ in RedeliveryConfig(remember=0).problems()] == ["remember"]
