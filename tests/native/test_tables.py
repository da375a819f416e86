"""The twin of a state table's rows holds what Python's hold after any calls, and is no leak."""

import gc
import importlib.util
import weakref
from types import ModuleType
from typing import Any
from unittest.mock import patch

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from pipeline.native import HAS_NATIVE, native
from pipeline.runtime import tables
from pipeline.runtime.table_rows import TableRows

pytestmark = pytest.mark.skipif(not HAS_NATIVE, reason="dagtel-native is not installed")


def without_twin() -> ModuleType:
    """`pipeline.runtime.tables` as it is where there is no native module."""
    spec = importlib.util.spec_from_file_location("tables_without_twin", tables.__file__)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with patch("pipeline.native.HAS_NATIVE", False):
        spec.loader.exec_module(module)
    return module


class Text(str):
    """A text of another class."""


PYTHON = without_twin()
ODD = ["", "ключ", "\ud800", "a\0b", 0, 1, -(2**70), (), ("a",), ("a", "\x00"), Text("a")]
KEYS = st.just("a") | st.just(("a", "b")) | st.sampled_from(ODD)
"""The first two often: most is to be seen where a key comes again."""


def outcome(call: Any, *args: object) -> object:
    try:
        return call(*args)
    except Exception as error:
        return error


class Count(msgspec.Struct):
    n: int


def test_each_is_what_it_is_taken_for() -> None:
    assert issubclass(tables.StateTable, native.TableRows)
    assert not issubclass(tables.StateTable, TableRows)
    assert issubclass(PYTHON.StateTable, TableRows)


class Tables(RuleBasedStateMachine):
    """One of each, and all that is done to both."""

    kind: Any = Count
    values = st.integers(-(2**40), 2**40).map(Count)

    def __init__(self) -> None:
        super().__init__()
        made = [module.StateTable("owner", "name", str, self.kind, 3) for module in (tables, PYTHON)]
        self.twin, self.python = made
        self.number = 0

    def both(self, name: str, *args: object) -> Any:
        """What a method gives or raises, the same of both."""
        given = [outcome(getattr(table, name), *args) for table in (self.twin, self.python)]
        assert repr(given[0]) == repr(given[1])
        return given

    @rule(key=KEYS, data=st.data())
    def put(self, key: object, data: st.DataObject) -> None:
        value = data.draw(self.values)
        for table in (self.twin, self.python):
            table.put(key, Count(value.n) if isinstance(value, Count) else value)

    @rule(key=KEYS)
    def get(self, key: object) -> None:
        self.both("get", key)
        self.both("__contains__", key)

    @rule(key=KEYS)
    def edit(self, key: object) -> None:
        self.number += 1
        for value in self.both("edit", key):
            if isinstance(value, Count):
                value.n = self.number

    @rule(key=KEYS)
    def delete(self, key: object) -> None:
        self.both("delete", key)

    @rule()
    def begin(self) -> None:
        self.both("begin")

    @rule()
    def undo(self) -> None:
        self.both("undo")

    @rule()
    def take_dirty(self) -> None:
        self.both("take_dirty")

    @rule()
    def take_changes(self) -> None:
        self.both("take_changes")

    @rule(method=st.sampled_from(["get", "edit", "delete", "__contains__"]), key=st.sampled_from([[], {}, ([],)]))
    def refuse(self, method: str, key: object) -> None:
        assert all(isinstance(error, TypeError) for error in [*self.both(method, key), *self.both("put", key, 1)])

    @invariant()
    def hold_the_same(self) -> None:
        assert len(self.twin) == len(self.python)
        assert list(self.twin.items()) == list(self.python.items())
        assert self.twin.items().mapping == self.twin._rows
        for name in ("_rows", "_dirty", "_undo"):
            mine, its = (list(getattr(table, name).items()) for table in (self.twin, self.python))
            assert mine == its, name
        assert self.twin._born == self.python._born
        assert self.python._born <= self.python._dirty.keys()


class StillTables(Tables):
    """Of values that are only noted, None and other falsy ones among them."""

    kind = int | str | None
    values = st.none() | st.integers(-2, 2) | st.text(max_size=2) | st.builds(Text)


TestTables = Tables.TestCase
TestStillTables = StillTables.TestCase
TestTables.settings = TestStillTables.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)


def test_a_value_that_cannot_be_encoded_is_not_given_out_for_editing() -> None:
    for module in (tables, PYTHON):
        table = module.StateTable("owner", "name", str, dict, 1)
        table.put("a", {"x": object()})
        table.begin()
        before = dict(table._dirty)
        with pytest.raises(TypeError):
            table.edit("a")
        assert (table._undo, table._dirty) == ({}, before)


@pytest.mark.parametrize("through", ["_rows", "_dirty", "_undo"])
def test_a_table_in_a_cycle_is_collected(through: str) -> None:
    """Whichever of its dicts the cycle goes through."""
    table = tables.StateTable("owner", "name", str, list, 1)
    getattr(table, through)["a"] = [table]
    gone = weakref.ref(table)
    del table
    assert gone() is not None
    gc.collect()
    assert gone() is None


def test_a_table_that_is_used_is_not_collected() -> None:
    table = tables.StateTable("owner", "name", str, list, 1)
    table.put("a", [table])
    gc.collect()
    assert table.get("a") == [table]
    assert len(table) == 1


def test_the_class_needs_its_marks() -> None:
    class Unmarked(native.TableRows[str, int]):
        pass

    with pytest.raises(AttributeError, match="marks"):
        Unmarked()
