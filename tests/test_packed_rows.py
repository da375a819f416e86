"""Packed rows give what was put, as a dict would, whatever is undone or restarted between."""

import hashlib
from collections.abc import Callable
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import packed_rows
from pipeline.errors import StateError
from pipeline.packed_rows import PackedRows
from pipeline.testing.context import MemoryState

PUT = st.dictionaries(st.text("abcdefgh", min_size=1, max_size=2), st.binary(max_size=5), min_size=1, max_size=5)
Calls = list[tuple[dict[str, bytes], str]]


def rows(state: MemoryState, most: int = 3) -> PackedRows:
    return PackedRows(state, "packed", most)


def poor(name: str) -> int:
    """A hash that many names have in common."""
    return (hashlib.md5(name.encode(), usedforsecurity=False).digest()[0] % 4 - 2) << 40


def test_what_was_put_is_found_and_nothing_else() -> None:
    packed = rows(MemoryState())
    assert "a" not in packed
    assert len(packed) == 0
    packed.add({"a": b"1", "b": b""})
    assert (packed.get("a"), packed.get("b"), packed.get("c")) == (b"1", b"", None)
    assert "b" in packed
    assert 1 not in packed
    assert len(packed) == 2


def test_what_was_put_last_holds() -> None:
    packed = rows(MemoryState())
    packed.add({"a": b"1", "b": b"2"})
    packed.add({"a": b"3"})
    assert (packed.get("a"), packed.get("b")) == (b"3", b"2")
    packed.add({"c": b""})
    packed.add({"d": b""})  # the first goes
    assert (packed.get("a"), packed.get("b")) == (b"3", None)


def test_none_is_kept_where_none_may_be() -> None:
    packed = rows(MemoryState(), most=0)
    packed.add({"a": b"1"})
    assert packed.get("a") is None
    assert len(packed) == 0


@pytest.mark.parametrize("hashed", [hash, poor])
@given(calls=st.lists(st.tuples(PUT, st.sampled_from(["done", "undone", "restart"])), max_size=30))
def test_it_is_as_many_dicts_whatever_happens(hashed: Callable[[str], int], calls: Calls) -> None:
    state = MemoryState()
    told = list[dict[str, bytes]]()
    with patch.object(packed_rows, "hash", hashed, create=True):
        packed = rows(state)
        for values, then in calls:
            for table in state.tables.values():
                table.begin()
            packed.add(values)
            if then == "undone":
                for table in state.tables.values():
                    table.undo()
            else:
                told = [*told, values][-3:]
            if then == "restart":
                state.checkpoint()
                state = state.restart()
                packed = rows(state)
            joined: dict[str, bytes] = {}
            for each in told:
                joined |= each
            assert {name: packed.get(name) for name in {*joined, *values}} == {**dict.fromkeys(values), **joined}
            assert len(packed) == sum(map(len, told))
    state.checkpoint()
    assert len(state.stored) == len(told)


def test_numbers_of_rows_may_go_beyond_what_the_index_holds_of_them() -> None:
    state = MemoryState()
    rows(state).add({"first": b"1"})
    table = state.tables["packed"]
    row = table.get(1)
    assert isinstance(row, bytes)
    table.delete(1)
    table.put(2**20 - 1, row)
    state.checkpoint()
    state = state.restart()
    packed = rows(state)
    packed.add({"first": b"2", "second": b""})
    packed.add({"third": b"3"})
    assert [packed.get(name) for name in ("first", "second", "third")] == [b"2", b"", b"3"]
    packed.add({"fourth": b""})
    packed.add({"fifth": b""})
    assert [packed.get(name) for name in ("first", "third", "fifth")] == [None, b"3", b""]
    assert len(state.tables["packed"]) == 3


def test_a_row_that_is_damaged_is_told() -> None:
    state = MemoryState()
    rows(state).add({"a": b"1"})
    state.tables["packed"].put(1, b"no zlib")
    state.checkpoint()
    state = state.restart()
    with pytest.raises(StateError, match="state table packed: row 1 is damaged"):
        rows(state)


def test_fewer_may_be_kept_than_there_are() -> None:
    state = MemoryState()
    many = rows(state)
    for name in "abc":
        many.add({name: b""})
    state.checkpoint()
    few = rows(state.restart(), most=1)
    few.trim()
    assert ["a" in few, "b" in few, "c" in few] == [False, False, True]
