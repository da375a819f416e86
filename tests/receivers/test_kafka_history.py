"""Partitions as one history, in order of time. On fakes; `tests/scenario/test_history_of_a_topic.py` has a broker."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import RetryableError
from receivers.kafka_history import merged
from receivers.kafka_members import Tp
from receivers.kafka_partition import Headers, Record

pytestmark = pytest.mark.anyio


class One(NamedTuple):
    offset: int
    timestamp: int
    key: bytes | None = None
    value: bytes | None = b"{}"
    headers: Headers = ()


class Fake:
    """Gives `most` records a fetch. `skips` are offsets that hold nothing to be read (markers of transactions)."""

    def __init__(self, times: Mapping[Tp, Sequence[int]], most: int = 2, skips: int = 0) -> None:
        self.times, self.most, self.skips = times, most, skips
        self.at = dict.fromkeys(times, 0)

    async def fetch(self, tp: Tp) -> Sequence[Record]:
        begin = self.at[tp]
        end = self.at[tp] = min(len(self.times[tp]) + self.skips, begin + self.most)
        return [One(n, self.times[tp][n]) for n in range(begin, min(end, len(self.times[tp])))]

    async def cursor(self, tp: Tp) -> int:
        return self.at[tp]


async def read(topics: Fake, ends: Mapping[Tp, int], patience_s: float = 60) -> list[tuple[int, int, int]]:
    """Time, partition and offset of each record."""
    return [(r.timestamp, tp[1], r.offset) async for tp, r in merged(topics, ends, patience_s)]


async def test_the_oldest_of_all_partitions_comes_first() -> None:
    topics = Fake({("t", 0): [1, 4, 9], ("t", 1): [2, 3, 5, 8]})
    found = await read(topics, {("t", 0): 3, ("t", 1): 4})
    assert found == [(1, 0, 0), (2, 1, 0), (3, 1, 1), (4, 0, 1), (5, 1, 2), (8, 1, 3), (9, 0, 2)]


async def test_it_ends_before_the_end_and_after_what_holds_no_record() -> None:
    assert await read(Fake({("t", 0): [1, 2, 3, 4]}, most=3), {("t", 0): 2}) == [(1, 0, 0), (2, 0, 1)]
    assert await read(Fake({("t", 0): [1]}, most=1, skips=3), {("t", 0): 4}) == [(1, 0, 0)]


async def test_a_partition_that_gives_nothing_is_an_error_and_no_end() -> None:
    with pytest.raises(RetryableError, match="t/0 gives no records though there are some before offset 9"):
        await read(Fake({("t", 0): [1]}, most=1), {("t", 0): 9}, patience_s=-1)


@given(st.lists(st.lists(st.integers(0, 50)), max_size=4), st.integers(1, 5))
async def test_nothing_is_left_out_and_each_partition_keeps_its_order(times: list[list[int]], most: int) -> None:
    by_tp = {("t", n): sorted(each) for n, each in enumerate(times)}
    found = await read(Fake(by_tp, most), {tp: len(each) for tp, each in by_tp.items()})
    assert [at for at, _, _ in found] == sorted(at for each in times for at in each)
    for tp, each in by_tp.items():
        assert [offset for _, partition, offset in found if partition == tp[1]] == list(range(len(each)))
