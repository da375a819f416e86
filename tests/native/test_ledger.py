"""The twin of the ledger annotates events as Python does, and leaves the same state behind."""

import sys
from collections.abc import Callable, Coroutine, Iterator, Sequence
from random import Random
from typing import Any, TypeVar
from unittest.mock import patch

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import events as ev
from pipeline.batch import Batch
from pipeline.events import Event
from pipeline.facts import ErrorInfo
from pipeline.native import HAS_NATIVE
from pipeline.testing.context import FakeContext
from processors.ledger import book
from processors.ledger.book import digest
from processors.run_ledger import RunLedger, RunLedgerConfig
from receivers.dagster_wire import decode
from tests.native.recorded import DATA, RECORDED

pytestmark = pytest.mark.skipif(not HAS_NATIVE, reason="dagtel-native is not installed")

T = TypeVar("T")
ERROR = ErrorInfo("ValueError", "bad")
ODD_TIMES = (2**63 - 1, 2**63, -(2**63), -(2**63) - 1, 2**64, True, 0, -1)
Batches = Sequence[Sequence[Event]]


class Text(str):
    """A text of another class."""


class Twin:
    """The twin, and how many of the events it did."""

    def __init__(self, twin: Any) -> None:
        self.twin, self.done = twin, 0

    def take_all(self, *args: Any) -> int:
        done: int = self.twin.take_all(*args)
        self.done += done
        return done


def run(work: Callable[..., Coroutine[Any, Any, T]], *args: object) -> T:
    """Without an event loop: nothing waits."""
    try:
        work(*args).send(None)
    except StopIteration as end:
        given: T = end.value
        return given
    raise AssertionError("it waits")


class Followed:
    """What a ledger made of the events: annotated events, what it raised, its state."""

    def __init__(self, batches: Batches, native: bool, undone: bool, config: RunLedgerConfig) -> None:
        self.context = FakeContext()
        self.ledger = RunLedger(config, self.context)
        twin = Twin(self.ledger._ledger.twin)
        self.ledger._ledger.twin = twin if native else None  # type: ignore[assignment]
        self.items: list[Event] = []
        self.raised: list[str] = []
        self.is_broken = False
        for batch in batches:
            items = [msgspec.structs.replace(event) for event in batch]
            if undone:
                self.process(items[: len(items) // 2])
                self.undo()
                for item in items:
                    self.items += self.process([item])
            else:
                self.items += self.process(items)
        self.done = twin.done
        self.states = {name: dict(table.items()) for name, table in self.context.memory.tables.items()}
        self.stored = self.encoded()
        self.items += self.caught(self.ledger.finish, 2**40) or []

    def process(self, items: list[Event]) -> Sequence[Event]:
        for table in self.context.memory.tables.values():
            table.begin()
        given = self.caught(self.ledger.process, Batch(items, "test", 0))
        return items if given is None else given.items

    def caught(self, work: Callable[..., Coroutine[Any, Any, T]], *args: object) -> T | None:
        if self.is_broken:
            return None
        try:
            return run(work, *args)
        except Exception as error:  # whatever it is, the same is raised with the twin
            self.raised.append(repr(error))
            self.undo()
            return None

    def undo(self) -> None:
        try:
            for table in self.context.memory.tables.values():
                table.undo()
        except Exception as error:  # a state that cannot be read again: here the service would end
            self.raised.append(repr(error))
            self.is_broken = True

    def encoded(self) -> object:
        try:
            return self.context.memory.checkpoint()
        except Exception as error:  # a state that cannot be stored
            return repr(error)


def assert_same(batches: Batches, *, undone: bool = False, **limits: int) -> float:
    """The share of events that the twin did."""
    config = RunLedgerConfig(**limits)
    python, native = (Followed(batches, native, undone, config) for native in (False, True))
    return _same(python, native) / (sum(map(len, batches)) or 1)


def _same(python: Followed, native: Followed) -> int:
    assert native.items == python.items
    assert native.raised == python.raised
    assert native.states == python.states
    assert native.stored == python.stored
    assert [list(of["assets"]) for of in _plain(native)] == [list(of["assets"]) for of in _plain(python)]
    return native.done


def _plain(followed: Followed) -> Iterator[dict[str, Any]]:
    for run in followed.states["runs"].values():
        yield msgspec.structs.asdict(run)  # type: ignore[arg-type]


def recorded(name: str) -> list[Event]:
    lines = (DATA / name).read_bytes().splitlines()
    events = [decode(line, "file", place) for place, line in enumerate(lines, 1)]
    now_ns = 0
    for event in events:
        event.now_ns = now_ns = max(now_ns, event.at_ns)
    return events


def cut(events: Sequence[Event], size: int) -> Batches:
    return [events[start : start + size] for start in range(0, len(events), size)]


@pytest.mark.parametrize("name", RECORDED)
@pytest.mark.parametrize("size", [1, 7, 500, 100_000])
def test_recorded_events_are_the_twins(name: str, size: int) -> None:
    events = recorded(name)
    share = assert_same(cut(events, size))
    assert share > 0.8 or size < 500
    assert assert_same(cut([*events, *events[::-1]], size), tombstones=3, keep_ended=1, max_open_runs=2) <= share


@pytest.mark.parametrize("name", RECORDED)
def test_recorded_events_twice_and_undone_are_the_same(name: str) -> None:
    events = recorded(name)
    twice = [event for event in events for _ in range(2)]
    assert assert_same(cut(twice, 1000)) > 0.8
    assert_same(cut(events, 100), undone=True)


def test_more_open_runs_than_fit_are_closed_one_an_event() -> None:
    given = []
    for native in (False, True):
        context = FakeContext()
        before = [event("PIPELINE_START", run=f"r{n}", at_ns=n) for n in range(4)]
        run(RunLedger(RunLedgerConfig(), context).process, Batch(before, "test", 0))
        context.memory.checkpoint()
        ledger = RunLedger(RunLedgerConfig(max_open_runs=1), FakeContext(state=context.memory.restart()))
        if not native:
            ledger._ledger.twin = None
        logs = [event("LOG", run="r3", at_ns=9) for _ in range(5)]
        given.append([each.type for each in run(ledger.process, Batch(logs, "test", 0)).items])
    assert given[0] == given[1] == ["LOG", "RUN_UNFINISHED"] * 3 + ["LOG"] * 2


def event(type: str, key: str = "", detail: Any = None, at_ns: int = 5, run: str = "r", **more: Any) -> Event:
    message = more.pop("message", "")
    job = more.pop("job", "job")
    return Event(b"", type, run, at_ns, 20, job, key, message, detail=detail, now_ns=at_ns, **more)


BEGINNING = [
    event("PIPELINE_ENQUEUED"),
    event("PIPELINE_START"),
    event("ASSET_MATERIALIZATION_PLANNED", "g.a", ev.MaterializationPlanned("x")),
    event("ASSET_CHECK_EVALUATION_PLANNED", "g.a", ev.CheckPlanned("x", "c")),
    event("STEP_START", "a"),
]


def test_what_is_common_is_the_twins() -> None:
    common = [
        event("PIPELINE_ENQUEUED"),
        event("PIPELINE_ENQUEUED", detail=ev.RunQueued(partition="p")),
        event("PIPELINE_STARTING"),
        event("PIPELINE_START"),
        event("PIPELINE_START", "a"),
        event("ASSET_CHECK_EVALUATION_PLANNED", "a", ev.CheckPlanned("x", "c")),
        event("ASSET_CHECK_EVALUATION", "a", ev.CheckResult("x", "c", True, "ERROR", False, None, "d", {})),
        event("ASSET_CHECK_EVALUATION", "", ev.CheckResult("x", "e", True, "ERROR", False, None, "d", {})),
        event("ASSET_OBSERVATION", "a", ev.Observed("x", None, {}, {})),
        event("ASSET_OBSERVATION", "", ev.Observed("y", None, {}, {})),
        event("ASSET_MATERIALIZATION", "", ev.Materialized("n", None, {"dagster/row_count": 7}, {})),
        event("ASSET_MATERIALIZATION", "a", ev.Materialized("m", None, {"dagster/row_count": "7"}, {})),
        event("ASSET_MATERIALIZATION", "g.a", ev.Materialized("x", "p", {"dagster/row_count": 2**70}, {})),
        event("STEP_START", "a"),
        event("STEP_START", "b", step_kind="COMPUTE"),
        event("LOADED_INPUT", "b", ev.IoHandled("i", "io"), 7),
        event("STEP_INPUT", "b", at_ns=8),
        event("STEP_OUTPUT", "b", at_ns=9),
        event("HANDLED_OUTPUT", "b", ev.IoHandled("o", "io"), 12),
        event("HANDLED_OUTPUT", "b", ev.IoHandled("o", "io"), 12),
        event("LOG", "b"),
        event("LOG", "c"),
        event("LOG"),
        event("STEP_SUCCESS", "b", ev.StepSucceeded(1.0), 3),
        event("STEP_SUCCESS", "b", ev.StepSucceeded(1.0), 3),
        event("STEP_SUCCESS", "a", None, 33),
        event("STEP_WORKER_STARTING", "d", ev.Marker("m", "", None)),
        event("STEP_WORKER_STARTED", "d", ev.Marker("n", "m", ERROR), 11),
        event("RESOURCE_INIT_STARTED", "", ev.Marker("m", "", None)),
        event("RESOURCE_INIT_SUCCESS", "", ev.Marker("", "m", None), 11),
        event("ENGINE_EVENT", "", ev.Marker("m", "", None)),
        event("ENGINE_EVENT", "d", ev.Marker("", "m", None), 11),
        event("ENGINE_EVENT", "d", ev.Marker("", "none", None), 11),
        event("FRESHNESS_STATE_CHANGE", "", ev.FreshnessChanged("x", "PASS", "FAIL", 3)),
        event("NEW", "d"),
        event("PIPELINE_START", run="new"),
        event("STEP_START", "a.b", run="new"),
        event("STEP_UP_FOR_RETRY", "a.b", ev.RetryScheduled(ERROR), 7, "new"),
        event("STEP_RESTARTED", "a.b", None, 8, "new", message="Started (attempt # 2)."),
        event("STEP_UP_FOR_RETRY", "a.b", None, 9, "new"),
        event("STEP_RESTARTED", "a.b", None, 9, "new"),
        event("STEP_START", "w"),
        event("STEP_FAILURE", "w", ev.StepFailed(ERROR), 9),
        event("STEP_FAILURE", "never started", ev.StepFailed(ERROR), 9),
        event("STEP_WORKER_STARTING", "its process alone", ev.Marker("m", "", None)),
        event("STEP_FAILURE", "its process alone", ev.StepFailed(ERROR), 9),
        event("ASSET_CHECK_EVALUATION_PLANNED", "checks", ev.CheckPlanned("x", "c")),
        event("ASSET_CHECK_EVALUATION_PLANNED", "checks", ev.CheckPlanned("é", "d")),
        event("ASSET_CHECK_EVALUATION_PLANNED", "checks", ev.CheckPlanned("x", "\0")),
        event("STEP_START", "checks"),
        event("ASSET_CHECK_EVALUATION", "checks", ev.CheckResult("x", "c", True, "ERROR", False, None, "d", {})),
        event("STEP_FAILURE", "checks", ev.StepFailed(ERROR), 9),
    ]
    assert assert_same([BEGINNING, [BEGINNING[0], *common]]) >= len(common) / (len(common) + len(BEGINNING) + 1)


def test_what_is_odd_is_pythons() -> None:
    odd = [
        event("STEP_START", "a", run=Text("r")),
        event(Text("STEP_START"), "a"),
        event("STEP_START", Text("a")),
        event("ASSET_MATERIALIZATION", "a", ev.Observed("x", None, {}, {})),
        event("ASSET_MATERIALIZATION", "a", ev.Materialized(Text("x"), None, {}, {})),
        event("HANDLED_OUTPUT", "a", None),
        event("ENGINE_EVENT", "a", ev.Marker("m", "m", None)),
        event("STEP_FAILURE", "a", ev.StepFailed(msgspec.structs.replace(ERROR, stack="s" * 4097))),
        event("STEP_FAILURE", "a", ev.StepFailed(msgspec.structs.replace(ERROR, message="s" * 4097))),
        event("STEP_FAILURE", "a", ev.StepFailed(msgspec.structs.replace(ERROR, frames=("f",) * 17))),
        event("STEP_FAILURE", "g.b", ev.StepFailed(ERROR)),
        event("STEP_RESTARTED", "a"),
        event("STEP_RESTARTED", "b"),
        event("STEP_UP_FOR_RETRY", "b"),
        event("STEP_SUCCESS", "b"),
        event("STEP_START", "a", at_ns=2**63),
        event("RUN_RESUMED"),
        event("PIPELINE_SUCCESS"),
    ]
    for each in odd:
        first = [BEGINNING[0]]
        assert assert_same([BEGINNING, [*first, each]]) == assert_same([BEGINNING, first]) * 6 / 7, each


ENDING = [
    event("PIPELINE_START"),
    event("ASSET_MATERIALIZATION_PLANNED", "a", ev.MaterializationPlanned("x", "p")),
    event("ASSET_MATERIALIZATION_PLANNED", "b", ev.MaterializationPlanned("y", "p")),
    event("ASSET_MATERIALIZATION_PLANNED", "b", ev.MaterializationPlanned("y", "q")),
    event("ASSET_MATERIALIZATION_PLANNED", "b", ev.MaterializationPlanned("z")),
    event("ASSET_OBSERVATION", "", ev.Observed("z", None, {}, {})),
    event("STEP_START", "a"),
    event("ASSET_MATERIALIZATION", "a", ev.Materialized("x", "p", {}, {})),
    event("ASSET_MATERIALIZATION", "a", ev.Materialized("é", "p", {}, {})),
    event("STEP_SUCCESS", "a", at_ns=6),
]
ENDS = [
    event("PIPELINE_SUCCESS", at_ns=7),
    event("PIPELINE_FAILURE", at_ns=7),
    event("PIPELINE_FAILURE", "", ev.RunFailed(ERROR, "STEP_FAILURE"), 7),
    event("PIPELINE_CANCELED", at_ns=7),
    event("PIPELINE_CANCELED", "", ev.RunCanceled(ERROR), 7),
]


def in_run(run: str, *events: Event) -> list[Event]:
    return [msgspec.structs.replace(each, run_id=run) for each in events]


@pytest.mark.parametrize("undone", [False, True])
@pytest.mark.parametrize("end", ENDS)
def test_common_ends_of_runs_are_the_twins(end: Event, undone: bool) -> None:
    after = [event("ENGINE_EVENT"), event("ENGINE_EVENT", "a", ev.Marker("m", "", ERROR), 9), event("NEW", "b")]
    runs = [in_run(run, *ENDING, end, *after) for run in "stuvw"]
    early = [each for events in runs for each in events[:7]]
    late = [each for events in runs for each in events[7:]]
    with patch.multiple(book, _APART=1, TOGETHER=2):
        for tombstones in (2, 3, 5, 9, 100_000):
            assert assert_same([early, late, early, late], undone=undone, keep_ended=1, tombstones=tombstones) > 0.4
    for limits in ({}, {"keep_ended": 1, "tombstones": 2}, {"keep_ended": 2**70, "tombstones": 2**70}):
        assert assert_same([early, late], undone=undone, **limits) >= 1
        assert assert_same([[*early, *late]], undone=undone, **limits) >= 1
        assert assert_same([early, late, early, late], undone=undone, **limits) > 0.4


@pytest.mark.parametrize("end", ENDS)
def test_ends_that_decide_more_are_pythons(end: Event) -> None:
    odd = [
        [event("STEP_START", "b")],
        [event("ASSET_MATERIALIZATION_PLANNED", "g.x", ev.MaterializationPlanned("g")), event("STEP_FAILURE", "g.y")],
        [event("ASSET_MATERIALIZATION_PLANNED", "g.x", ev.MaterializationPlanned("g")), event("STEP_FAILURE", "w")],
        [event("ASSET_MATERIALIZATION", "", ev.Materialized("\ud800", None, {}, {}))],
        [event("PIPELINE_START", job=Text("job"))],
    ]
    for before in odd:
        for size in (1, 100):
            assert_same(cut([*ENDING, *before, end, event("STEP_SUCCESS", "b", at_ns=8), end], size))
            assert_same(
                cut([*in_run("s", *ENDING, *before, end), *in_run("t", *ENDING, *before, end)], size), keep_ended=1
            )


def test_what_is_said_after_the_end_is_pythons() -> None:
    materialized = event("ASSET_MATERIALIZATION", "a", ev.Materialized("x", "p", {}, {}), 8)
    after = [materialized, event("ASSET_OBSERVATION", "", ev.Observed("x", None, {}, {})), ENDS[1], ENDS[0]]
    run = [*ENDING, ENDS[0], *after]
    assert assert_same([run]) == (len(run) - len(after)) / len(run)


def test_many_markers_and_ends_are_kept_as_in_python() -> None:
    starts = [event("ENGINE_EVENT", key, ev.Marker(f"m{n}", "", None)) for n in range(70) for key in ("", "a")]
    ends = [event("ENGINE_EVENT", key, ev.Marker("", f"m{n}", None)) for n in range(70) for key in ("a", "", "a")]
    again = [
        event(type, "b", at_ns=n) for n in range(40) for type in ("STEP_RESTARTED", "STEP_UP_FOR_RETRY", "STEP_SUCCESS")
    ]
    assert_same([[*BEGINNING, *starts, *ends, *again]])


def test_what_python_raises_is_raised() -> None:
    class Broken(Exception):
        pass

    def broken(*_: Any) -> None:
        raise Broken

    ledger = RunLedger(RunLedgerConfig(), FakeContext())
    twin = ledger._ledger.twin
    assert twin is not None
    with pytest.raises(Broken):
        twin.take_all([event("RUN_RESUMED")], 1, broken)
    assert twin.take_all([event("PIPELINE_START")], 1, broken) == 1
    with pytest.raises(Broken):
        twin.take_all([event("PIPELINE_START", run="no room")], 1, broken)
    assert twin.take_all([event("PIPELINE_START", run="room")], 2**70, broken) == 1


def test_what_is_set_is_held_once_and_what_was_set_is_let_go() -> None:
    ledger = RunLedger(RunLedgerConfig(), FakeContext())
    texts = [f"{n} {sys.argv}" for n in range(3)]
    times = [10**15 + n for n in range(3)]
    events = [
        event("PIPELINE_START", run=texts[0], at_ns=times[0]),
        event("ASSET_MATERIALIZATION_PLANNED", texts[1], ev.MaterializationPlanned(texts[2]), times[1], texts[0]),
        event("STEP_START", texts[1], at_ns=times[1], run=texts[0]),
        event("ASSET_MATERIALIZATION", texts[1], ev.Materialized(texts[2], None, {}, {}), times[2], texts[0]),
        event("STEP_SUCCESS", texts[1], at_ns=times[2], run=texts[0]),
        event("PIPELINE_SUCCESS", run=texts[0], at_ns=times[2]),
    ]
    counts = []
    for _ in range(20):
        run(ledger.process, Batch([msgspec.structs.replace(each) for each in events], "test", 0))
        counts.append([sys.getrefcount(each) for each in (*texts, *times)])
    assert counts[5:] == counts[4:-1]


@pytest.mark.parametrize("end", ["PIPELINE_SUCCESS", "PIPELINE_FAILURE"])
def test_what_ended_is_held_as_often_as_by_python(end: str) -> None:
    counts: list[list[int]] = []
    for native in (False, True):
        digest.cache_clear()
        context = FakeContext()
        ledger = RunLedger(RunLedgerConfig(keep_ended=1, tombstones=1), context)
        if not native:
            ledger._ledger.twin = None
        texts = [f"{n} {sys.argv}" for n in range(4)]
        first, second = texts[:2]
        planned = ev.MaterializationPlanned(texts[3])
        events = [
            event("ASSET_MATERIALIZATION_PLANNED", texts[2], planned, run=first, job=texts[2]),
            event("STEP_START", texts[2], run=first),
            event("ASSET_MATERIALIZATION", texts[2], ev.Materialized(texts[3], None, {}, {}), run=first),
            event("STEP_FAILURE", texts[2], ev.StepFailed(ERROR), run=first),
            event(end, run=first),
            event("PIPELINE_START", run=second),
            event(end, run=second),
        ]
        for number in range(40):
            for table in context.memory.tables.values():
                table.begin()
            halves = [events[:4], events[4:]] if number % 2 else [events]
            for some in halves:
                run(ledger.process, Batch([msgspec.structs.replace(each) for each in some], "test", 0))
            context.memory.checkpoint()
        del events, some, halves, planned
        counts.append([sys.getrefcount(each) for each in texts])
    assert counts[0] == counts[1]


def test_states_stay_in_sight_of_the_garbage_collector() -> None:
    """What is tracked is what would be with Python."""
    import gc

    kinds: list[list[bool]] = []
    for native in (False, True):
        context = FakeContext()
        ledger = RunLedger(RunLedgerConfig(), context)
        if not native:
            ledger._ledger.twin = None
        marked = event("ENGINE_EVENT", "a", ev.Marker("m", "", None))
        run(ledger.process, Batch([*BEGINNING, marked, *BEGINNING], "test", 0))
        rows = [row for table in context.memory.tables.values() for row in dict(table.items()).values()]
        rows += [state for row in ledger._book.runs.items() for state in row[1].assets.values()]
        kinds.append([gc.is_tracked(row) for row in rows])
    assert kinds[0] == kinds[1]


# --- arbitrary ------------------------------------------------------------------------------------------------------


def harmed(events: Sequence[Event], chance: Random) -> list[Event]:
    """Some of the events, near where they were, some twice, some with fields of others."""
    runs = sorted({event.run_id for event in events})
    kept = {run for run in runs if chance.random() < 0.3} or set(runs[:2])
    chosen = [event for event in events if event.run_id in kept and chance.random() < 0.9]
    chosen += chance.sample(chosen, len(chosen) // 10)
    spread = chance.choice([0, 0, 5, 1000])
    places = sorted(range(len(chosen)), key=lambda place: place + chance.random() * spread)
    result = []
    for each in (msgspec.structs.replace(chosen[place]) for place in places):
        if chance.random() < 0.1:
            field = chance.choice(["type", "detail", "step_key", "run_id", "at_ns", "now_ns", "job", "step_kind"])
            setattr(each, field, getattr(chance.choice(events), field))
        if chance.random() < 0.02:
            field = chance.choice(["type", "step_key", "run_id", "job", "step_kind"])
            setattr(each, field, chance.choice(["", "é", "a.b", Text("x"), Text("")]))
        if chance.random() < 0.02:
            setattr(each, chance.choice(["at_ns", "now_ns"]), chance.choice([*ODD_TIMES, each.at_ns + 1]))
        result.append(each)
    return result


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(RECORDED), st.integers(0, 2**32), st.booleans())
def test_harmed_recordings_come_out_the_same(name: str, seed: int, undone: bool) -> None:
    chance = Random(seed)
    batches = in_batches(harmed(recorded_once(name), chance), chance)
    limits = chance.choice([{}, {}, {"max_open_runs": 2, "keep_ended": 1, "tombstones": 2}])
    assert_same(batches, undone=undone, **limits)


@given(st.sampled_from(RECORDED), st.integers(0, 2**32), st.booleans())
def test_harmed_recordings_whose_tombstones_are_packed_come_out_the_same(name: str, seed: int, undone: bool) -> None:
    chance = Random(seed)
    batches = in_batches(harmed(recorded_once(name), chance), chance)
    config = RunLedgerConfig(tombstones=chance.choice([7, 20, 100_000]), keep_ended=chance.choice([1, 256]))
    with patch.multiple(book, _APART=chance.choice([1, 3]), TOGETHER=2):
        python, native = (Followed(batches, native, undone, config) for native in (False, True))
    # Times that no decoder gives are packed and not read again: the service would end, the two at different events.
    if not any("ValidationError" in told for told in (*python.raised, *native.raised)):
        _same(python, native)


def in_batches(events: list[Event], chance: Random) -> list[Sequence[Event]]:
    batches: list[Sequence[Event]] = []
    while events:
        size = chance.choice([1, 2, 20, 300])
        batches.append(events[:size])
        events = events[size:]
    return batches


_once: dict[str, list[Event]] = {}


def recorded_once(name: str) -> list[Event]:
    if name not in _once:
        _once[name] = recorded(name)
    return _once[name]


keys = st.sampled_from(["", "a", "a", "b", "g.a", "g.h.b"])
assets = st.sampled_from(["x", "y", "z/x"]) | st.just("\ud800") | st.just("")
partitions = st.sampled_from([None, None, "p", "q", Text("p")])
times = st.integers(0, 6) | st.integers(0, 6) | st.sampled_from(ODD_TIMES)
names = st.sampled_from(["m", "m", "n", ""])
counts = st.sampled_from([7, 2**63, -(2**63), 1.5, True, "7", None])
metadata = st.just({}) | counts.map(lambda count: {"dagster/row_count": count})
errors = st.sampled_from(
    [
        None,
        ERROR,
        ErrorInfo("E", "m", chain=("E", "DagsterAssetCheckFailedError")),
        ErrorInfo("DagsterExecutionInterruptedError", "m" * 5000, frames=("f",) * 16),
        ErrorInfo("DagsterExecutionInterruptedError", "é" * 4096, frames=("f",) * 16, stack="\ud800"),
        ErrorInfo("E", "m", frames=tuple("abcdefghijklmnopq")),
    ]
)
DETAILS: dict[str, st.SearchStrategy[Any]] = {
    "PIPELINE_ENQUEUED": st.builds(ev.RunQueued, st.just("l"), st.just("r"), partitions),
    "PIPELINE_STARTING": st.none(),
    "PIPELINE_START": st.none(),
    "PIPELINE_CANCELING": st.none(),
    "RUN_RESUMED": st.none(),
    "PIPELINE_SUCCESS": st.none(),
    "PIPELINE_FAILURE": st.builds(ev.RunFailed, errors),
    "PIPELINE_CANCELED": st.builds(ev.RunCanceled, errors),
    "ASSET_MATERIALIZATION_PLANNED": st.builds(ev.MaterializationPlanned, assets, partitions),
    "ASSET_CHECK_EVALUATION_PLANNED": st.builds(ev.CheckPlanned, assets, names),
    "ASSET_MATERIALIZATION": st.builds(ev.Materialized, assets, partitions, metadata, st.just({})),
    "ASSET_OBSERVATION": st.builds(ev.Observed, assets, partitions, metadata, st.just({})),
    "ASSET_CHECK_EVALUATION": st.builds(
        ev.CheckResult, assets, names, st.booleans(), st.just("WARN"), st.booleans(), partitions, st.none(), metadata
    ),
    "ASSET_FAILED_TO_MATERIALIZE": st.builds(ev.MaterializationFailed, assets, partitions, errors),
    "STEP_START": st.none(),
    "STEP_RESTARTED": st.none(),
    "STEP_UP_FOR_RETRY": st.builds(ev.RetryScheduled, errors),
    "STEP_SUCCESS": st.builds(ev.StepSucceeded, st.sampled_from([0.0, 1e-6, 1e9, float("nan")])),
    "STEP_FAILURE": st.builds(ev.StepFailed, errors, st.sampled_from(["", "INTERRUPT", "USER_CODE_ERROR"])),
    "STEP_OUTPUT": st.none(),
    "STEP_INPUT": st.none(),
    "HANDLED_OUTPUT": st.builds(ev.IoHandled, names, st.just("io")),
    "LOADED_INPUT": st.builds(ev.IoHandled, names, st.just("io")),
    "LOG": st.none(),
    "ENGINE_EVENT": st.builds(ev.Marker, names, names, errors),
    "STEP_WORKER_STARTING": st.builds(ev.Marker, names, names, errors),
    "STEP_WORKER_STARTED": st.builds(ev.Marker, names, names, errors),
    "RESOURCE_INIT_STARTED": st.builds(ev.Marker, names, names, errors),
    "RESOURCE_INIT_SUCCESS": st.builds(ev.Marker, names, names, errors),
    "FRESHNESS_STATE_CHANGE": st.builds(ev.FreshnessChanged, assets, names, names, times),
    "NEW": st.none(),
}
OFTEN = [
    "STEP_START",
    "STEP_SUCCESS",
    "STEP_FAILURE",
    "STEP_UP_FOR_RETRY",
    "STEP_RESTARTED",
    "ASSET_MATERIALIZATION",
    "ASSET_MATERIALIZATION_PLANNED",
    "STEP_WORKER_STARTED",
]
MESSAGES = [
    "",
    "",
    "started (attempt # 3)",
    "(attempt # x) (attempt # 3)",
    "(attempt # 1234567)",
    "(attempt # ٣)",
    "(attempt # )(",
    "(attempt # 3",
    "Dependencies for step a were not met. Not executing.",
    "Dependencies for step a were not met. Not executing.",
]


@st.composite
def arbitrary(draw: st.DrawFn) -> Event:
    type = draw(st.sampled_from([*DETAILS, *OFTEN, *OFTEN]))
    detail = draw(DETAILS[type] if draw(st.integers(0, 9)) else DETAILS[draw(st.sampled_from(sorted(DETAILS)))])
    return Event(
        b"",
        type,
        draw(st.sampled_from(["r", "r", "r", "s", ""])),
        draw(times),
        20,
        draw(st.sampled_from(["job", "job", ""])),
        draw(keys) if draw(st.integers(0, 30)) else draw(st.sampled_from([Text("a"), "é", "\ud800", "."])),
        draw(st.sampled_from(MESSAGES)),
        step_kind=draw(st.sampled_from(["", "COMPUTE", Text("k")])),
        detail=detail,
        now_ns=draw(times),
    )


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.lists(arbitrary(), max_size=30), max_size=3),
    st.booleans(),
    st.sampled_from([{}, {"max_open_runs": 1, "keep_ended": 1, "tombstones": 1}]),
)
def test_arbitrary_events_come_out_the_same(batches: list[list[Event]], undone: bool, limits: dict[str, int]) -> None:
    assert_same(batches, undone=undone, **limits)
