"""Chunks of ids in the twin are those of the Python class: what is known, what is stored, what is struck out."""

import resource
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.msgpack import encode

from pipeline.native import HAS_NATIVE, native
from processors.id_codes import encoded
from processors.redelivery_ids import MOST, Ids

pytestmark = pytest.mark.skipif(not HAS_NATIVE, reason="dagtel-native is not installed")

STATM = Path("/proc/self/statm")

_ids = st.one_of(st.integers(0, 2**64 - 1), st.integers(0, 40).map(lambda n: n << 40), st.integers(0, 200))
_runs = st.builds(lambda first, count: list(range(first, first + count)), st.integers(0, 2**63), st.integers(1, 300))
_batches = st.lists(st.one_of(st.lists(_ids, max_size=40), _runs), max_size=20)


class Pair:
    """Both, driven alike, with the state that they write."""

    def __init__(self, most: int) -> None:
        self.most, self.stored = most, dict[int, bytes]()
        self.restart()

    def restart(self) -> None:
        self.python, self.native = Ids(self.most, self.stored), native.IdChunks(self.most, MOST, self.stored)

    def same(self, call: Callable[[Any], object]) -> object:
        told = call(self.python)
        assert call(self.native) == told
        assert len(self.native) == len(self.python)
        return told

    def take(self, ids: list[int]) -> None:
        if not self.same(lambda each: each.take_new(ids)):
            once = list(dict.fromkeys(ids))
            self.same(lambda each: each.take(once))

    def flush(self) -> None:
        self.stored.update(self.same(lambda each: each.take_changed()))  # type: ignore[call-overload]
        gone = self.same(lambda each: each.strike_beyond(self.most))
        assert isinstance(gone, list)
        for number in gone:
            del self.stored[number]


@settings(max_examples=300, deadline=None)
@given(st.sampled_from([1, 16, 40, 100, 5000]), _batches, st.sets(st.integers(0, 19)), st.sets(st.integers(0, 19)))
def test_whatever_comes_they_are_the_same(
    most: int, batches: list[list[int]], flushes: set[int], restarts: set[int]
) -> None:
    pair = Pair(most)
    for number, batch in enumerate(batches):
        pair.take(batch)
        if number in flushes | restarts:
            pair.flush()
        if number in restarts:
            pair.restart()


def test_they_are_the_same_when_many_come_and_go() -> None:
    random, pair = Random(1), Pair(20_000)
    last: list[int] = []
    for round in range(60):
        batch = [random.getrandbits(64) for _ in range(2000)]
        pair.take(batch + random.sample(last, len(last) // 100))
        pair.take(random.sample(batch, 50))
        last = (last + batch)[-20_000:]
        if round % 3 == 0:
            pair.flush()
        if round % 20 == 19:
            pair.flush()
            pair.restart()
    pair.same(lambda each: each.take(last))


def test_a_batch_with_one_that_is_there_leaves_nothing_behind() -> None:
    ids = native.IdChunks(100, MOST, {})
    assert ids.take_new([0, 1, 2])
    assert not ids.take_new([3, 4, 0])
    assert not ids.take_new([5, 5])
    assert len(ids) == 3
    assert ids.take([0, 3, 4, 5]) == {0}


@pytest.mark.parametrize("id", [-1, 2**64, "1", None])
def test_what_is_no_id_is_refused(id: object) -> None:
    ids = native.IdChunks(100, MOST, {})
    with pytest.raises((OverflowError, TypeError)):
        ids.take_new([1, id])  # type: ignore[list-item]
    assert len(ids) == 0
    assert ids.take([1]) == set()


def test_a_torn_chunk_is_refused_and_a_huge_number_to_remember_takes_no_memory_for_now() -> None:
    for torn in (b"", b"1234567", b"\x92\x01", b"\x91\x01\x01", b"\xc4\x07" + bytes(7), encode([2**63, 2**63])):
        with pytest.raises(ValueError, match="damaged"):
            native.IdChunks(100, MOST, {0: torn})
    assert native.IdChunks(2**60, MOST, {}).take_new([1])


@pytest.mark.skipif(not STATM.exists(), reason="the system does not tell")
def test_a_million_take_no_more_memory_than_promised() -> None:
    def taken() -> int:
        return int(STATM.read_text().split()[1]) * resource.getpagesize()

    random, before = Random(1), taken()
    ids = native.IdChunks(1_000_000, MOST, {})
    for _ in range(200):
        assert ids.take_new([random.getrandbits(64) for _ in range(5000)])
        ids.take_changed()
    assert taken() - before < 30_000_000


def test_ids_of_runs_take_less_than_two_bytes_beside_the_table() -> None:
    random, ids, stored = Random(1), native.IdChunks(100_000, MOST, {}), dict[int, bytes]()
    for _ in range(1000):
        run = random.getrandbits(63)
        assert ids.take_new(list(range(run, run + 90)))
        stored.update(ids.take_changed())
    assert sum(map(len, stored.values())) < 2 * len(ids)


@given(st.one_of(st.lists(_ids, unique=True), _runs))
def test_a_chunk_is_stored_as_the_python_class_stores_it(ids: list[int]) -> None:
    twin = native.IdChunks(10**6, MOST, {})
    assert twin.take_new(ids)
    assert [stored for _, stored in twin.take_changed()] == [encoded(ids)][: len(ids)]
