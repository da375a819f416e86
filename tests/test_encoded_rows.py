"""A table that keeps its values encoded answers as one that does not, whatever is undone in between."""

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from pipeline.encoded_rows import EncodedRows, encoded
from pipeline.runtime.tables import Row
from pipeline.testing.context import MemoryState


class Value(msgspec.Struct, frozen=True):
    number: int
    text: str | None = None


_keys = st.sampled_from("abcde")


class AsAPlainTable(RuleBasedStateMachine):
    """Beside a dict that is copied where a call begins."""

    alike = 3

    def __init__(self) -> None:
        super().__init__()
        self.state = MemoryState()
        self.open()
        self.model: dict[str, Value] = {}
        self.before = dict(self.model)

    def open(self) -> None:
        self.rows = EncodedRows(self.state, "rows", Value, 1, at_hand=2, alike=self.alike)
        self.table = self.state.tables["rows"]

    @rule(key=_keys, value=st.builds(Value, st.integers(0, 9), st.sampled_from([None, "x"])))
    def put(self, key: str, value: Value) -> None:
        self.rows.put(key, value)
        self.model[key] = value

    @rule(key=_keys)
    def delete(self, key: str) -> None:
        self.rows.delete(key)
        self.model.pop(key, None)

    @rule()
    def begin(self) -> None:
        self.table.begin()
        self.before = dict(self.model)

    @rule()
    def undo(self) -> None:
        self.table.undo()
        self.model = dict(self.before)

    @rule()
    def restart(self) -> None:
        self.state.checkpoint()
        self.state = self.state.restart()
        self.open()
        self.before = dict(self.model)

    @invariant()
    def same(self) -> None:
        assert {key: self.rows.get(key) for key in "abcdef"} == {key: self.model.get(key) for key in "abcdef"}
        assert dict(self.rows.items()) == self.model
        assert len(self.rows) == len(self.model)
        assert ("a" in self.rows) == ("a" in self.model)


class AsAPlainTableOfNamedValues(AsAPlainTable):
    alike = 0


AsAPlainTable.TestCase.settings = AsAPlainTableOfNamedValues.TestCase.settings = settings(
    max_examples=60, deadline=None
)
TestAsAPlainTable, TestOfNamedValues = AsAPlainTable.TestCase, AsAPlainTableOfNamedValues.TestCase


def test_a_value_at_hand_is_one_object() -> None:
    rows = EncodedRows(MemoryState(), "rows", Value, 1)
    value = Value(1)
    rows.put("a", value)
    assert rows.get("a") is value


def test_rows_that_were_not_encoded_are_lifted() -> None:
    state = MemoryState()
    stored = msgspec.msgpack.encode(Value(1, "x"))
    state.stored["rows", b"\xa1a"] = Row("component", "rows", b"\xa1a", 1, stored)
    assert EncodedRows(state, "rows", Value, 2, {1: encoded}).get("a") == Value(1, "x")


def test_of_equal_values_one_encoding_is_kept() -> None:
    rows = EncodedRows(MemoryState(), "rows", Value, 1)
    for number in range(1000):
        rows.put(f"{number}", Value(number % 2))
    assert len({id(row) for _, row in rows._rows.items()}) == 2
    for number in range(1000):
        rows.put(f"{number}", Value(number))
    assert len(rows._same) < 300


def test_where_none_are_alike_none_are_looked_for() -> None:
    rows = EncodedRows(MemoryState(), "rows", Value, 1, alike=0)
    for key in "ab":
        rows.put(key, Value(1, key))
    assert [rows.get(key) for key in "ab"] == [Value(1, "a"), Value(1, "b")]
    assert not rows._same
