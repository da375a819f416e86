"""The twin of the spans connector makes the same spans of the same events, and leaves the same in its state."""

from functools import cache
from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors import ended_runs
from connectors import spans as module
from connectors.ended_runs import EndedRuns
from connectors.spans import MAX_EVENTS, MAX_INNER, OpenRun, Spans, SpansConfig, Waiting
from pipeline.batch import Batch
from pipeline.events import Event
from pipeline.facts import ErrorInfo, RunFacts
from pipeline.lineage import AssetFacts, Catalog
from pipeline.native import HAS_NATIVE
from pipeline.outcomes import (
    AssetFailed,
    AssetGone,
    AssetMaterialized,
    AssetObserved,
    AssetPlanned,
    CheckEvaluated,
    InnerEnded,
    Outcome,
    RunEnded,
    StepEnded,
)
from pipeline.signals import Span, SpanEvent
from pipeline.testing.context import FakeContext
from tests.native.recorded import RECORDED, annotated

pytestmark = pytest.mark.skipif(not HAS_NATIVE, reason="dagtel-native is not installed")

RUN = "0af76519-16cd-43dd-8448-eb211c80319c"
ERROR = ErrorInfo("TimeoutError", "after 30s", stack="Traceback …")
CATALOG = Catalog({"a": AssetFacts("a", group="g", owners=("me",), kinds=("dbt",)), "b/c": AssetFacts("b/c")})
FACTS = RunFacts({"team": "x", ".dagster/y": "z"}, "shop", "2026-03-01", "backfill", RUN.replace("a", "b"))


UNFIT = (UnicodeEncodeError, OverflowError)
"""What ids and state raise for lone surrogates and numbers beyond 64 bits."""


class Side:
    """A connector with its tables."""

    def __init__(self, config: SpansConfig) -> None:
        self.context = FakeContext()
        self.runs = self.context.state.table("runs", str, OpenRun, version=1)
        self.ended = EndedRuns(self.context.state, module.MAX_ENDED)
        self.spans = Spans(config, self.runs, self.ended)

    @property
    def tables(self) -> list[Any]:
        return list(self.context.memory.tables.values())

    def state(self) -> str:
        return repr([list(table.items()) for table in self.tables])

    def rows(self) -> str:
        """Without their order: what is taken back comes to stand at the end."""
        return repr([sorted(table.items(), key=repr) for table in self.tables])

    def checkpoint(self) -> str:
        try:
            return repr([table.take_dirty() for table in self.tables])
        except UNFIT as error:
            return str(error)


class Pair:
    """Two connectors, one with the twin; which outcomes the twin left to Python."""

    def __init__(self, config: SpansConfig = SpansConfig()) -> None:  # noqa: B008
        self.python, self.native = Side(config), Side(config)
        assert self.native.spans._twin is not None
        self.python.spans._twin = None
        self.left: list[Outcome] = []

    def assert_same(self, events: list[Event]) -> list[Span]:
        """One call, as the runtime does it: taken back if it fails."""
        before = self.python.rows()
        for table in [*self.python.tables, *self.native.tables]:
            table.begin()
        python, native = self._python(events), self._native(events)
        assert repr(native) == repr(python)  # which tells True from 1
        assert self.native.state() == self.python.state()
        if isinstance(python, str):
            self.undo()
            assert self.native.rows() == before
            return []
        return python

    def undo(self) -> None:
        for table in [*self.python.tables, *self.native.tables]:
            table.undo()
        assert self.native.state() == self.python.state()

    def assert_same_checkpoint(self) -> None:
        assert self.native.checkpoint() == self.python.checkpoint()

    def _python(self, events: list[Event]) -> list[Span] | str:
        try:
            return list(anyio.run(self.python.spans.process, Batch(events, "s", 0)))
        except UNFIT as error:
            return str(error)

    def _native(self, events: list[Event]) -> list[Span] | str:
        spans = self.native.spans
        assert spans._twin is not None
        try:
            return spans._twin.process(events, self._rest, spans._ended.add)
        except UNFIT as error:
            return str(error)

    def _rest(self, outcome: Outcome, event: Event, spans: list[Span]) -> None:
        self.left.append(outcome)
        self.native.spans._take(outcome, event, spans)


@cache
def corpus(name: str) -> list[Event]:
    """The recorded log behind the ledger, with what enrichment may put on it."""
    events = list(anyio.run(annotated, name).items)
    for place, event in enumerate(events):
        event.run = FACTS if place % 3 else None
        event.catalog = CATALOG if place % 2 else None
    return events


@pytest.mark.parametrize("size", [1, 7, 100, 5000])
@pytest.mark.parametrize("name", RECORDED)
def test_spans_of_recorded_runs_are_the_same_and_none_is_left_to_python(name: str, size: int) -> None:
    pair, events = Pair(SpansConfig(run_url="http://dagster:3000/runs/{run_id}")), corpus(name)
    spans = []
    for start in range(0, len(events), size):
        spans += pair.assert_same(events[start : start + size])
        if start % 3 == 0:
            pair.assert_same_checkpoint()
    assert len(spans) > 20
    assert pair.left == []


@pytest.mark.parametrize("name", RECORDED)
def test_a_call_is_taken_back_the_same(name: str) -> None:
    pair, events = Pair(), corpus(name)
    for start in range(0, len(events), 50):
        before = pair.python.rows()
        pair.assert_same(events[start : start + 50])
        pair.undo()
        assert pair.native.rows() == before
        pair.assert_same(events[start : start + 50])
        pair.assert_same_checkpoint()


def event(*outcomes: Any, **fields: Any) -> Event:
    told = Event(b"{}", "LOG", RUN, 5, 10, "daily", "load", "hello", now_ns=7, attempt=1, outcomes=outcomes)
    for name, value in fields.items():
        setattr(told, name, value)
    return told


def step(attempt: Any = 1, status: Any = "success", error: ErrorInfo | None = None, **more: Any) -> StepEnded:
    fields = {"run": RUN, "job": "daily", "step": "load", "at_ns": 90, "started_ns": 50, "kind": "COMPUTE", **more}
    return StepEnded(attempt=attempt, status=status, error=error, **fields)


def inner(name: str = "io", at_ns: int = 60, error: ErrorInfo | None = None, **more: Any) -> InnerEnded:
    fields = {"run": RUN, "job": "daily", "step": "load", "attempt": 1, "kind": "io", "started_ns": 55, **more}
    return InnerEnded(name=name, at_ns=at_ns, error=error, **fields)


def made(run: str = RUN, at_ns: int = 80, metadata: Any = None, partition: Any = "p", **more: Any) -> AssetMaterialized:
    fields = {
        "job": "daily",
        "step": "load",
        "attempt": 1,
        "asset": "a",
        "duration_ns": None,
        "execution": True,
        **more,
    }
    return AssetMaterialized(run=run, at_ns=at_ns, metadata=metadata or {}, partition=partition, tags={}, **fields)


def observed(run: str = RUN) -> AssetObserved:
    return AssetObserved(run, "daily", "a", None, 70, {"dagster/row_count": 3}, {})


def check(step: str = "load", severity: str = "ERROR", passed: bool = False) -> CheckEvaluated:
    return CheckEvaluated(
        RUN, "daily", step, "a", "is_good", passed, severity, True, "p", 75, None, {"dagster/row_count": 1}
    )


def ended(status: Any = "success", run: str = RUN, **more: Any) -> RunEnded:
    return RunEnded(run, more.pop("job", "daily"), status, 200, more.pop("started_ns", 30), **more)


LONG = ErrorInfo("E" * 400, "é" * 5000, stack="ü" * 16_384)
STATUSES = ("success", "failure", "retry", "canceled", "unfinished")


def test_what_is_common_is_not_left_to_python() -> None:
    for error in (None, ERROR, LONG, ErrorInfo("E", "", stack="")):
        for status in STATUSES:
            for facts, catalog in ((None, None), (FACTS, CATALOG), (RunFacts(), Catalog({}))):
                pair = Pair()
                told = [
                    event(inner(), inner(error=error), inner(), made(), check(), observed()),
                    event(made(metadata={"dagster/row_count": 1, "dagster/partition_row_count": True}), made("")),
                    event(
                        made(metadata={"dagster/row_count": 1, "dagster/partition_row_count": "1"}), made(asset="b/c")
                    ),
                    event(step(1, status, error), step(2, status, error, begun=False, interrupted=True, kind="")),
                    event(step(2, status, error, assets=("a",), partition="p", at_ns=10), inner(step="", attempt=0)),
                    event(inner(step="", attempt=0, error=error), inner(attempt=9), made(attempt=9, at_ns=3)),
                    event(ended(status, error=error, reason="START_TIMEOUT", raised=error is ERROR, enqueued_ns=9)),
                    event(
                        made(),
                        check(),
                        ended(late=True),
                        ended("", run="run-1", starting_ns=4, job=""),
                        AssetGone("a", (), 1),
                    ),
                ]
                for one in told:
                    one.run, one.catalog = facts, catalog
                assert len(pair.assert_same(told)) == 11
                assert pair.left == []


def test_what_is_rare_is_left_to_python() -> None:
    heavy = ErrorInfo("E", "", stack="x" * 16_385)
    odd: list[Any] = [
        inner(error=heavy),
        step(step=""),
        step(attempt=2**70),
        step(at_ns=2**70),
        ended(job="daily "),
        inner(),  # its run has ended
        made(asset=1),
        made(attempt=True),
        made("\ud800"),
    ]
    pair = Pair()
    pair.assert_same([event(one) for one in odd])
    assert pair.left == odd
    pair.assert_same([event(inner("io", 2**70, run="other")), event(step(run="other"))])
    assert pair.left == [*odd, step(run="other")]


def test_more_than_may_wait_is_counted() -> None:
    pair = Pair()
    for _ in range(2):
        pair.assert_same([event(made(), inner()) for _ in range(MAX_EVENTS - 1)])
    pair.assert_same([event(inner(f"i{n}", attempt=3), made(attempt=4)) for n in range(MAX_INNER + 9)])
    pair.assert_same([event(step()), event(ended())])
    assert pair.left == []


def test_a_row_that_was_stored_is_taken_up_and_changed_in_its_place() -> None:
    pair = Pair()
    for side in (pair.python, pair.native):
        side.runs.put(RUN, OpenRun({"load#1": Waiting([SpanEvent("x", 1, {})], [inner()], 3, 4), "": Waiting()}))
    pair.assert_same_checkpoint()
    pair.assert_same([event(step(2), step(run="other"))])
    assert pair.native.checkpoint() == pair.python.checkpoint() == "[[], [], []]"  # nothing waited for these
    pair.assert_same([event(step(), made(), made("other"))])
    pair.undo()
    pair.assert_same([event(made(), step(), inner())])
    pair.assert_same_checkpoint()


@pytest.mark.parametrize("apart", [1, 1024])
def test_tombstones_that_make_room_are_seen_at_once(apart: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where old ones are packed."""
    monkeypatch.setattr(ended_runs, "_APART", apart)
    monkeypatch.setattr(ended_runs, "TOGETHER", 2)
    monkeypatch.setattr(module, "MAX_ENDED", 16)
    pair = Pair()
    runs = [f"run-{n}" for n in range(40)]
    pair.assert_same([event(ended(run="run-0"), now_ns=0)])
    told = [event(made(runs[0]), ended(run=run), made(run), made(runs[n // 2]), now_ns=n) for n, run in enumerate(runs)]
    pair.assert_same(told)
    assert len(pair.native.runs) > 0
    assert pair.left == []


@pytest.mark.parametrize(
    "run", [RUN, RUN.upper(), RUN.replace("-", ""), "{" + RUN + "}", RUN[:-1], RUN[:-1] + "g", "läuft", "\0", ""]
)
def test_ids_are_those_of_python(run: str) -> None:
    pair = Pair()
    for name, number in (("load", 1), ("lösch", 12), ("a#1", 2), ("\0", -3), ("load", 2**63 - 1), ("load", -(2**63))):
        again = [inner(n, run=run, step=name, attempt=number) for n in ("io", "io'", "io", "io", "", "io\0end")]
        pair.assert_same([event(*again, step(run=run, step=name, attempt=number), *again)])
    facts = RunFacts(parent_run_id=run)
    pair.assert_same([event(ended(run=run), run=facts), event(ended(), run=facts)])
    assert pair.left == []


def test_an_event_or_outcomes_of_another_class_are_python_s() -> None:
    class Other(Event):
        pass

    other = Other(b"{}", "LOG", RUN, 5, 10, "daily", "load", "hello", attempt=1, outcomes=(made(), step()))
    as_list = event(outcomes=[made(), step(), AssetPlanned(RUN, "daily", "load", "a", None, 1)])
    pair = Pair()
    assert len(pair.assert_same([event(made()), as_list, other])) == 2
    assert len(pair.left) == 5


texts = st.text(st.characters(exclude_categories=()), max_size=4) | st.text(max_size=4)
run_ids = st.sampled_from([RUN, RUN, RUN, "run-1", "", RUN.upper()]) | texts
steps = st.sampled_from(["load", "load", "save", ""]) | texts
attempts = st.integers(0, 3) | st.integers()
times = st.integers(0, 9) | st.integers()
assets = st.sampled_from(["a", "b/c"]) | texts
partitions = st.none() | texts
jobs = st.sampled_from(["daily", "daily ", ""]) | texts
errors = st.none() | st.just(ERROR) | st.builds(ErrorInfo, texts, texts, stack=texts) | st.sampled_from(
    [LONG, ErrorInfo("E", "", stack="x" * 16_385), ErrorInfo("E", "m" * 4097, stack="y\ud800" * 9000)]
)  # fmt: skip
metadata = st.dictionaries(
    st.sampled_from(["dagster/row_count", "dagster/partition_row_count", "x"]),
    st.integers() | st.floats() | st.booleans() | texts | st.none(),
    max_size=3,
)
words = st.sampled_from(STATUSES) | texts
kinds = st.sampled_from(["resource", "io", "marker"])  # state is read again only if it is one of these
inners = st.builds(
    InnerEnded, run_ids, jobs, steps, attempts, st.sampled_from(["io", "io'"]) | texts, kinds, times, times, errors
)
outcomes = st.one_of(
    st.builds(
        StepEnded,
        run_ids,
        jobs,
        steps,
        attempts,
        words,
        times,
        times,
        texts,
        st.lists(assets, max_size=2).map(tuple),
        partitions,
        errors,
        st.booleans(),
        st.booleans(),
        st.booleans(),
    ),
    inners,
    inners,
    st.builds(
        AssetMaterialized,
        run_ids,
        jobs,
        steps,
        attempts,
        assets,
        partitions,
        times,
        st.none(),
        st.booleans(),
        metadata,
        st.just({}),
    ),
    st.builds(
        CheckEvaluated,
        run_ids,
        jobs,
        steps,
        assets,
        texts,
        st.booleans(),
        texts,
        st.booleans(),
        partitions,
        times,
        st.none(),
        metadata,
    ),
    st.builds(AssetObserved, run_ids, jobs, assets, partitions, times, metadata, st.just({})),
    st.builds(
        RunEnded,
        run_ids,
        jobs,
        words,
        times,
        times,
        st.none() | times,
        st.none() | times,
        errors,
        st.sampled_from(["", "START_TIMEOUT", "STEP_FAILURE"]) | texts,
        st.booleans(),
        st.booleans(),
    ),
    st.builds(AssetPlanned, run_ids, jobs, steps, assets, partitions, times),
    st.builds(AssetFailed, run_ids, jobs, steps, attempts, assets, partitions, times, st.none(), errors),
)
tags = st.dictionaries(texts | texts.map(lambda key: f".{key}"), texts | st.just("t" * 4097), max_size=3)
facts = st.none() | st.builds(RunFacts, tags, texts, partitions, texts, run_ids)
events = st.builds(
    event,
    st.none(),
    outcomes=st.lists(outcomes, max_size=4).map(tuple),
    step_key=steps,
    attempt=attempts,
    now_ns=times,
    run=facts,
    catalog=st.sampled_from([None, CATALOG]),
)
configs = st.builds(SpansConfig, run_url=st.sampled_from(["", "http://x/{run_id}/{run_id}"]), run_tags=st.booleans())


@settings(max_examples=400, deadline=None)
@given(st.lists(st.lists(events, max_size=8), max_size=3), configs, st.booleans())
def test_spans_of_arbitrary_outcomes_are_the_same(
    batches: list[list[Event]], config: SpansConfig, stores: bool
) -> None:
    pair = Pair(config)
    for batch in batches:
        pair.assert_same(batch)
        if stores:
            pair.assert_same_checkpoint()
    pair.assert_same_checkpoint()


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(st.text(max_size=3), st.text(max_size=3), min_size=60, max_size=70))
def test_as_many_tags_are_kept(tags: dict[str, str]) -> None:
    pair = Pair()
    pair.assert_same([event(ended(), run=RunFacts(tags))])
    assert pair.left == []
