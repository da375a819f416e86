"""State tables: what changed, and how a call is undone."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import StateError
from pipeline.runtime.changes import StateRows
from pipeline.runtime.tables import StateTable
from pipeline.store.state import StateRow


class Count(msgspec.Struct):
    n: int


def table(version: int = 1) -> StateTable[str, Count]:
    return StateTable("processors.test", "counts", str, Count, version)


def stored(of: StateTable[str, Count]) -> list[tuple[bytes, int, bytes]]:
    return [(r.key, r.version, r.value) for r in of.take_dirty() if r.value is not None]


OPS = st.lists(st.tuples(st.sampled_from(["put", "edit", "delete"]), st.sampled_from("abc"), st.integers(0, 9)))


def apply(to: StateTable[str, Count], ops: list[tuple[str, str, int]]) -> None:
    for op, key, n in ops:
        if op == "put":
            to.put(key, Count(n))
        elif op == "delete":
            to.delete(key)
        elif value := to.edit(key):
            value.n += n


@given(OPS, OPS, OPS)
def test_undo_takes_back_exactly_the_call_in_progress(before: list, undone: list, after: list) -> None:
    touched, untouched = table(), table()
    for each in (touched, untouched):
        each.begin()
        apply(each, before)
        each.begin()
    apply(touched, undone)
    touched.undo()
    for each in (touched, untouched):
        each.begin()
        apply(each, after)
    assert dict(touched.items()) == dict(untouched.items())


@given(st.lists(OPS, max_size=5))
def test_the_dirty_rows_of_all_checkpoints_give_the_table_again(calls: list) -> None:
    live, rows = table(), {}
    for call in calls:
        live.begin()
        apply(live, call)
        rows.update({row.key: row for row in live.take_dirty()})
    again = table()
    again.load([(r.key, r.version, r.value) for r in rows.values() if r.value is not None], {})
    assert dict(again.items()) == dict(live.items())


class Still(msgspec.Struct, frozen=True):
    n: int


@given(st.lists(OPS, max_size=4), OPS)
def test_rows_that_are_made_later_say_what_the_table_was_when_they_were_taken(before: list, after: list) -> None:
    """Of values that are edited in place, and of those that are only ever replaced."""
    edited, twin = table(), table()
    replaced = StateTable("processors.test", "counts", str, Still, 1)
    for call in before:
        for each in (edited, twin, replaced):
            each.begin()
        apply(edited, call)
        apply(twin, call)
        put_alone(replaced, call)
    taken, expected = (edited.take_changes(), replaced.take_changes()), (twin.take_dirty(), rows_of(replaced))
    apply(edited, after)
    put_alone(replaced, after)
    assert taken[0].rows() == expected[0]
    assert {row.key: row.value for row in taken[1].rows() if row.value} == expected[1]


def put_alone(to: StateTable[str, Still], ops: list[tuple[str, str, int]]) -> None:
    for op, key, n in ops:
        if op == "delete":
            to.delete(key)
        else:
            to.put(key, Still(n))


def rows_of(live: StateTable[str, Still]) -> dict[bytes, bytes]:
    return {msgspec.msgpack.encode(key): msgspec.msgpack.encode(value) for key, value in live.items()}


def test_only_what_was_touched_is_written() -> None:
    live = table()
    live.put("a", Count(1))
    live.put("b", Count(2))
    assert len(live.take_dirty()) == 2
    assert live.take_dirty() == []
    live.edit("a")
    assert [msgspec.msgpack.decode(r.key) for r in live.take_dirty()] == ["a"]
    assert live.get("b") == Count(2)
    assert live.take_dirty() == []


def test_a_row_that_comes_and_goes_between_two_checkpoints_is_never_written() -> None:
    live = table()
    live.put("a", Count(1))
    live.delete("a")
    assert live.take_dirty() == []
    live.put("a", Count(1))
    live.take_dirty()
    live.delete("a")
    live.put("a", Count(2))
    live.delete("a")
    assert [row.value for row in live.take_dirty()] == [None]


@given(st.lists(st.tuples(OPS, st.booleans(), st.booleans()), max_size=6))
def test_with_calls_undone_in_between_the_written_rows_still_give_the_table(calls: list) -> None:
    live, rows = table(), {}
    for call, undone, checkpoint in calls:
        live.begin()
        apply(live, call)
        if undone:
            live.undo()
        if checkpoint:
            rows.update({row.key: row for row in live.take_dirty()})
    rows.update({row.key: row for row in live.take_dirty()})
    again = table()
    again.load([(r.key, r.version, r.value) for r in rows.values() if r.value is not None], {})
    assert dict(again.items()) == dict(live.items())


def test_old_values_are_lifted_step_by_step_and_written_anew() -> None:
    old: StateTable[str, int] = StateTable("processors.test", "counts", str, int, 1)
    old.put("a", 5)
    new = table(version=3)
    new.load(
        [(r.key, r.version, r.value) for r in old.take_dirty() if r.value],
        {1: lambda n: {"count": n}, 2: lambda v: {"n": v["count"]}},
    )
    assert new.get("a") == Count(5)
    assert [r.version for r in new.take_dirty()] == [3]


def test_newer_values_and_gaps_in_the_way_up_are_refused() -> None:
    newer = table(version=9)
    newer.put("a", Count(1))
    rows = stored(newer)
    with pytest.raises(StateError, match=r"version 9, this program knows 1.*forget"):
        table().load(rows, {})
    with pytest.raises(StateError, match="nothing lifts it from 9 to 10"):
        table(version=10).load(rows, {})


def test_a_damaged_value_is_named() -> None:
    with pytest.raises(StateError, match=r"processors\.test, table counts: a stored value is damaged"):
        table().load([(msgspec.msgpack.encode("a"), 1, b"\xc1")], {})


def test_the_rows_of_a_checkpoint_are_the_same_each_time_whatever_came_since() -> None:
    """A commit that failed is written again."""
    edited, still = table(), StateTable("processors.test", "moments", str, int, 1)
    edited.begin()
    edited.put("a", Count(1))
    still.put("a", 1)
    still.put("b", 2)
    still.take_changes()
    still.delete("b")
    still.put("a", 3)
    rows = StateRows([("s", edited.take_changes()), ("s", table().take_changes()), ("t", still.take_changes())])
    edited.begin()
    apply(edited, [("edit", "a", 8)])
    still.put("a", 4)
    a, b = (msgspec.msgpack.encode(key) for key in "ab")
    expected = [
        StateRow("s", "processors.test", "counts", a, 1, msgspec.msgpack.encode(Count(1))),
        StateRow("t", "processors.test", "moments", b, 1, None),
        StateRow("t", "processors.test", "moments", a, 1, msgspec.msgpack.encode(3)),
    ]
    assert len(rows) == 3
    assert list(rows) == list(rows) == expected
    assert rows[0] == expected[0]
    assert rows[1:] == expected[1:]
