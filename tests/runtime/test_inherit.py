"""What a new graph inherits of stored state: moved, forgotten, reset, and the same after a restart."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from pipeline.batch import Batch
from pipeline.components import Context, ProcessorSpec, Table
from pipeline.errors import StateError
from pipeline.events import Event
from pipeline.options import Duration, Secret
from pipeline.runtime.inherit import SETTINGS, Bequest, inherited, latest
from pipeline.signals import Signal
from pipeline.store.state import StateRow
from pipeline.testing.clock import VirtualClock
from pipeline.testing.fakes import CollectingExporter, MemoryReceiver, a_plan, events
from pipeline.testing.harness import harness
from pipeline.topology.plan import Node, Plan

pytestmark = pytest.mark.anyio
ROW = (b"k", 1, b"v")
STORED = {("processors.a", "t"): [ROW], ("processors.b", "t"): [(b"x", 2, b"y")]}


def test_what_nobody_names_is_inherited_as_it_is() -> None:
    assert inherited("s", STORED, {}, Bequest()) == (STORED, [])


def test_moved_state_is_written_under_its_new_owner_and_deleted_under_the_old() -> None:
    rows, changes = inherited("s", STORED, {}, Bequest({"processors.a": "processors.c"}))
    assert rows == {("processors.c", "t"): [ROW], ("processors.b", "t"): STORED["processors.b", "t"]}
    assert changes == [
        StateRow("s", "processors.a", "t", b"k", 1, None),
        StateRow("s", "processors.c", "t", b"k", 1, b"v"),
    ]


def test_state_is_not_moved_onto_other_state() -> None:
    with pytest.raises(StateError, match=r"processors\.b has state of its own"):
        inherited("s", STORED, {}, Bequest({"processors.a": "processors.b"}))


def test_state_that_is_forgotten_makes_room_for_what_is_moved() -> None:
    rows, _ = inherited("s", STORED, {}, Bequest({"processors.a": "processors.b"}, frozenset({"processors.b"})))
    assert rows == {("processors.b", "t"): [ROW]}


def test_forgotten_state_is_deleted() -> None:
    rows, changes = inherited("s", STORED, {}, Bequest({}, frozenset({"processors.a"})))
    assert list(rows) == [("processors.b", "t")]
    assert changes == [StateRow("s", "processors.a", "t", b"k", 1, None)]


def test_state_goes_when_the_options_that_it_hangs_on_are_others() -> None:
    known, changes = inherited("s", STORED, {"processors.a": b"1"}, Bequest())
    assert known["processors.a", "t"] == [ROW], "from before the options were kept: taken for the same"
    assert [(row.name, row.value) for row in changes] == [(SETTINGS, b"1")]
    assert inherited("s", known, {"processors.a": b"1"}, Bequest()) == (known, [])
    rows, changes = inherited("s", known, {"processors.a": b"2"}, Bequest())
    assert ("processors.a", "t") not in rows
    assert [(row.name, row.value) for row in changes] == [("t", None), (SETTINGS, None), (SETTINGS, b"2")]


def test_what_was_written_later_counts() -> None:
    gone = StateRow("s", "a", "t", b"k", 1, None)
    new = StateRow("s", "a", "t", b"k", 1, b"v")
    assert latest([gone], [new]) == [new]
    assert latest([new], [gone]) == [gone]


class CountConfig(msgspec.Struct, frozen=True):
    """`window` and `key` are what the counts hang on."""

    window: Duration = Duration("1h")
    key: Secret = Secret("a")
    other: int = 0


class Count:
    def __init__(self, table: Table[str, int]) -> None:
        self.table = table

    async def process(self, batch: Batch[Event]) -> Batch[Event]:
        self.table.put("n", (self.table.get("n") or 0) + len(batch.items))
        return batch


@asynccontextmanager
async def build(config: CountConfig, context: Context) -> AsyncIterator[Count]:
    yield Count(context.state.table("counts", str, int, version=1))


SPEC = ProcessorSpec("count", CountConfig, build, frozenset({Signal.EVENTS}), resets_state=("window", "key"))


def plan(path: Path, config: CountConfig) -> Plan:
    made = a_plan(MemoryReceiver(events("a")), [], {"out": CollectingExporter()}, path)
    pipeline = msgspec.structs.replace(made.pipelines["events"], processors=(Node("count", SPEC, config, None),))
    return msgspec.structs.replace(made, pipelines={"events": pipeline})


@pytest.mark.parametrize(
    ("changed", "kept"),
    [
        (CountConfig(other=5), 3),
        (CountConfig(window=Duration("2h")), None),
        (CountConfig(key=Secret("b")), None),
    ],
)
@pytest.mark.parametrize("restart", [False, True])
async def test_a_reload_and_a_restart_reset_the_same_state(
    tmp_path: Path, changed: CountConfig, kept: int | None, restart: bool
) -> None:
    path = tmp_path / "state.db"
    async with harness(plan(path, CountConfig()), path, VirtualClock()) as process:
        await process.assign("memory")
        await process.take("memory", events("a", "b", "c"), 3)
        await process.commit()
        if not restart:
            new = msgspec.structs.replace(process.workshop, plan=plan(path, changed))
            await process.reload(new)
            assert count_of(process) == kept
            await process.take("memory", events("d"), 4)
            await process.commit()
    async with harness(plan(path, changed), path, VirtualClock()) as process:
        await process.assign("memory")
        assert count_of(process) == (kept if restart else (kept or 0) + 1)
        await process.commit()
    async with harness(plan(path, changed), path, VirtualClock()) as process:
        await process.assign("memory")
        assert count_of(process) == (kept if restart else (kept or 0) + 1), "reset once"


def count_of(process: object) -> int | None:
    stages = process.engine._lanes["memory"].stages  # type: ignore[attr-defined]
    (component,) = [stage.component for stage in stages if stage.id == "processors.count"]
    found: int | None = component.table.get("n")
    return found
