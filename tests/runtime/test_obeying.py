"""What was asked reaches who obeys: each once, in order, committed together with the position behind it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal

import anyio
import msgspec
import pytest

from pipeline.alert_commands import Acknowledge, Command, Resolve, Silence
from pipeline.batch import WHOLE, Batch
from pipeline.components import Context, ProcessorSpec
from pipeline.runtime.launch import run_service
from pipeline.signals import Signal
from pipeline.store import acts
from pipeline.store.beside import open_beside
from pipeline.store.state import StateStore
from pipeline.testing.fakes import CollectingExporter, MemoryReceiver, NoOptions, a_plan, events
from pipeline.topology.plan import Node, Plan
from tests.runtime.test_replay import no_web

pytestmark = pytest.mark.anyio

NOW = 1_795_435_200_000_000_000
T0 = 1_700_000_000_000_000_000  # of the events


class Obedient:
    """Counts in its state how often it was given each command; raises on one whose reason says so."""

    obeys_commands: Literal[True] = True

    def __init__(self, context: Context) -> None:
        self.given = context.state.table("given", str, int, 1)
        self.at = context.state.table("at", str, int, 1)

    async def process(self, batch: Batch[Any], /) -> Batch[Any]:
        for item in batch.items:
            if isinstance(item, Silence | Acknowledge | Resolve):
                self.given.put(item.id, (self.given.get(item.id) or 0) + 1)
                self.at.put(item.id, item.now_ns)
                if isinstance(item, Silence):
                    self.at.put(f"{item.id} until", item.until_ns)
                if getattr(item, "why", "") == "raise":
                    raise ValueError("I will not")
        return batch.carrying([item for item in batch.items if not isinstance(item, Silence | Acknowledge | Resolve)])


@asynccontextmanager
async def build(options: object, context: Context) -> AsyncIterator[Obedient]:
    yield Obedient(context)


def plan(state: Path, *messages: str, obedient: bool = True) -> Plan:
    made = a_plan(MemoryReceiver(events(*messages)), [], {"out": CollectingExporter()}, state)
    if not obedient:
        return made
    spec = ProcessorSpec("obedient", NoOptions, build, frozenset({Signal.EVENTS}), scope="whole")
    stage = Node("obedient", spec, NoOptions(), None)
    pipeline = msgspec.structs.replace(made.pipelines["events"], processors=(stage,))
    return msgspec.structs.replace(made, pipelines={"events": pipeline})


async def run(plan: Plan) -> None:
    with anyio.fail_after(60):
        assert await run_service(plan, True, no_web) == 0


def ask(state: Path, *commands: Command) -> None:
    with open_beside(str(state)) as beside:
        for command in commands:
            acts.ask(beside.engine, command)


def stored(state: Path, table: str) -> dict[str, int]:
    store = StateStore(state)
    rows = store.take_shard(WHOLE).rows.get(("processors.obedient", table), ())
    store.close()
    return {msgspec.msgpack.decode(key): msgspec.msgpack.decode(value) for key, _, value in rows}


@pytest.fixture
async def state(tmp_path: Path) -> Path:
    """A store on which a daemon has run."""
    path = tmp_path / "state.db"
    await run(plan(path, "a"))
    return path


def acknowledge(id: str, why: str = "") -> Acknowledge:
    return Acknowledge(id, NOW, "v1:ab", "Ann", why)


async def test_each_is_obeyed_once_however_often_the_daemon_starts(state: Path) -> None:
    ask(state, *(acknowledge(f"c{n}") for n in range(450)))  # more than one look takes
    await run(plan(state, "a", "b"))
    ask(state, acknowledge("later"), acknowledge("c7"))
    await run(plan(state, "a", "b", "c"))
    await run(plan(state, "a", "b", "c", "d"))
    given = stored(state, "given")
    assert len(given) == 451
    assert set(given.values()) == {1}


async def test_a_command_that_raises_is_a_dead_letter_and_the_others_are_obeyed(state: Path) -> None:
    ask(state, acknowledge("first"), acknowledge("second", "raise"), acknowledge("third"))
    await run(plan(state, "a", "b"))
    assert stored(state, "given") == {"first": 1, "third": 1}
    store = StateStore(state)
    (letter,) = store.dead_letters()
    store.close()
    assert (letter.component, letter.reason, letter.kind) == ("processors.obedient", "ValueError: I will not", "item")


async def test_a_row_that_cannot_be_read_is_left_out(state: Path) -> None:
    with open_beside(str(state)) as beside:
        acts._append(beside.engine, acts.ALERT, "strange", NOW, b"{}")
    ask(state, acknowledge("after"))
    await run(plan(state, "a", "b"))
    assert stored(state, "given") == {"after": 1}


async def test_with_the_clock_of_events_it_takes_effect_in_their_time_and_lasts_as_long(state: Path) -> None:
    ask(state, Silence("s", NOW, 'asset == "x"', NOW + 3600 * 10**9))
    await run(plan(state, "a", "b", "c"))
    at = stored(state, "at")
    assert T0 <= at["s"] <= T0 + 2 * 10**9
    assert at["s until"] - at["s"] == 3600 * 10**9


async def test_where_nobody_obeys_it_waits_for_a_configuration_that_does(
    state: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    ask(state, acknowledge("a"))
    await run(plan(state, "a", "b", obedient=False))
    said = "What was asked of alerts waits: no pipeline has a processor that obeys, such as dedup."
    assert capfd.readouterr().err.count(said) == 1
    await run(plan(state, "a", "b", "c"))
    assert stored(state, "given") == {"a": 1}


async def test_what_was_obeyed_is_committed_with_how_far_was_read(state: Path) -> None:
    ask(state, acknowledge("a"))
    await run(plan(state, "a", "b"))
    store = StateStore(state)
    position = store.positions([WHOLE])[WHOLE]
    rows = store.within(partial(acts.to_obey, next=0))
    store.close()
    assert [row.id + 1 for row in rows] == [position.next]
