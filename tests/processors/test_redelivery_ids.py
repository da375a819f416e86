"""Many ids in little memory: the same as a plain set of the last chunks, however their low bits collide."""

import tracemalloc
from collections.abc import Iterator
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from processors.id_codes import decoded
from processors.redelivery_ids import Ids

_id = st.one_of(
    st.integers(0, 2**64 - 1),
    st.integers(0, 40).map(lambda n: n << 40),  # of one place
    st.integers(0, 200),
)
_batches = st.lists(st.lists(_id, max_size=30, unique=True), max_size=20)


class Model:
    """The same with sets: chunks in the order in which they came."""

    def __init__(self, chunk: int) -> None:
        self._size, self.chunks = chunk, list[list[int]]()

    def take(self, ids: list[int]) -> set[int]:
        known = {id for id in ids if any(id in chunk for chunk in self.chunks)}
        for id in ids:
            if id not in known:
                if not self.chunks or len(self.chunks[-1]) >= self._size:
                    self.chunks.append([])
                self.chunks[-1].append(id)
        return known

    def strike_beyond(self, least: int) -> int:
        gone = 0
        while self.chunks and sum(map(len, self.chunks[1:])) >= least:
            del self.chunks[0]
            gone += 1
        return gone


@settings(max_examples=200, deadline=None)
@given(st.sampled_from([1, 16, 40, 100]), _batches, st.sets(st.integers(0, 19)), st.sets(st.integers(0, 19)))
def test_they_are_those_of_the_last_chunks(
    most: int, batches: list[list[int]], flushes: set[int], restarts: set[int]
) -> None:
    ids, model, stored = Ids(most, {}), Model(max(1, most // 16)), dict[int, bytes]()
    for number, batch in enumerate(batches):
        assert ids.take(batch) == model.take(batch)
        if number in flushes | restarts:
            stored.update(ids.take_changed())
            gone = ids.strike_beyond(most)
            assert len(gone) == model.strike_beyond(most)
            for struck in gone:
                del stored[struck]
            assert len(ids) == sum(map(len, model.chunks))
        if number in restarts:
            ids = Ids(most, stored)


def test_a_chunk_is_stored_again_only_when_something_came() -> None:
    ids = Ids(32, {})
    ids.take([1, 2, 3])
    assert [number for number, _ in ids.take_changed()] == [0, 1]
    assert ids.take_changed() == []
    ids.take([1, 4])
    assert [(number, list(decoded(data))) for number, data in ids.take_changed()] == [(1, [3, 4])]


def _random(count: int) -> Iterator[list[int]]:
    random = Random(1)
    for _ in range(0, count, 5000):
        yield [random.getrandbits(64) for _ in range(5000)]


def test_an_id_takes_less_than_half_of_what_it_takes_in_a_set() -> None:
    tracemalloc.start()
    try:
        ids = Ids(131_072, {})
        for batch in _random(131_072):
            ids.take(batch)
        del batch
        ids.take_changed()
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert taken < 44 * len(ids)
