"""What the twin of the alerts connector passes over gives nothing: findings and state are the same with it."""

from functools import cache
from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.alerts import AlertsConfig, AlertsConnector
from pipeline.batch import Batch
from pipeline.events import Event
from pipeline.facts import ErrorInfo, RunFacts
from pipeline.native import HAS_NATIVE
from pipeline.outcomes import (
    AssetFailed,
    AssetMaterialized,
    AssetPlanned,
    AssetSkipped,
    CheckEvaluated,
    CheckRaised,
    InnerEnded,
    RunEnded,
    StepEnded,
    StepRaised,
)
from pipeline.testing.context import FakeContext
from tests.native.recorded import RECORDED, annotated

pytestmark = pytest.mark.skipif(not HAS_NATIVE, reason="dagtel-native is not installed")

ERROR = ErrorInfo("TimeoutError", "after 30s", frames=("a/b.py:f",), stack="Traceback …")


class Pair:
    """Two connectors of the same state, one with the twin; how many events the twin left to Python."""

    def __init__(self, config: AlertsConfig) -> None:
        self.contexts = FakeContext(), FakeContext()
        self.python, self.native = (AlertsConnector(config, context) for context in self.contexts)
        self.python._twin = None
        self.left = 0
        adds = self.native._add

        def add(event: Event, given: list[Any]) -> None:
            self.left += 1
            adds(event, given)

        self.native._add = add  # type: ignore[method-assign]

    def process(self, events: list[Event], undone: bool = False) -> None:
        for table in self._tables():
            table.begin()
        told = [self._told(connector, events) for connector in (self.python, self.native)]
        assert told[1] == told[0]
        if undone or isinstance(told[0], type):
            for table in self._tables():
                table.undo()
        states = [[(name, list(t.items())) for name, t in c.memory.tables.items()] for c in self.contexts]
        assert repr(states[1]) == repr(states[0])

    def _told(self, connector: AlertsConnector, events: list[Event]) -> str | type:
        try:
            return repr(anyio.run(connector.process, Batch(events, "s", 0)))
        except Exception as error:
            return type(error)

    def _tables(self) -> list[Any]:
        return [table for context in self.contexts for table in context.memory.tables.values()]


@cache
def recorded(name: str) -> list[Event]:
    return list(anyio.run(annotated, name).items)


@pytest.mark.parametrize("size", [1, 7, 100, 10_000])
@pytest.mark.parametrize("name", RECORDED)
def test_findings_of_recorded_runs_are_the_same_and_few_events_are_left_to_python(name: str, size: int) -> None:
    pair, events = Pair(AlertsConfig()), recorded(name)
    for start in range(0, len(events), size):
        pair.process(events[start : start + size])
    first, pair.left = pair.left, 0
    for start in range(0, len(events), size):
        pair.process(events[start : start + size])
    assert first < len(events) * 0.3
    assert pair.left < len(events) * 0.15  # failures and recoveries: the edges are known


def event(*outcomes: Any, run: RunFacts | None = None) -> Event:
    told = Event(b"{}", "LOG", "r", 5, 10, "daily", "load", "hello")
    told.outcomes, told.run, told.now_ns = outcomes, run, 9
    return told


def made(asset: str, *sources: Any, partition: str | None = None) -> AssetMaterialized:
    metadata: dict[str, Any] = {"dagster/column_lineage": {"c": list(sources)}} if sources else {}
    return AssetMaterialized("r", "daily", "load", 1, asset, partition, 5, 1, True, metadata, {"x": "y"})


def left(pair: Pair, *outcomes: Any, run: RunFacts | None = None) -> bool:
    """Whether the event is left to Python."""
    before = pair.left
    pair.process([event(*outcomes, run=run)])
    return pair.left > before


def test_successes_are_looked_at_where_something_fails() -> None:
    pair = Pair(AlertsConfig())
    planned, ended = AssetPlanned("r", "daily", "load", "a", None, 1), RunEnded("r", "daily", "success", 5, 1)
    step = StepEnded("r", "daily", "load", 1, "success", 5, 1)
    check = CheckEvaluated("r", "daily", "load", "a", "c", True, "ERROR", False, None, 5, None, {})
    well = (planned, made("a"), step, check, ended, InnerEnded("r", "daily", "", 0, "x", "io", 5, 1))
    assert left(pair, *well)  # an asset that is new
    assert not left(pair, *well)
    for failure, success in (
        (AssetFailed("r", "daily", "load", 1, "a", None, 5, 1, ERROR), made("a")),
        (CheckRaised("r", "daily", "load", 1, "a", "c", 5, ERROR), check),
        (StepRaised("r", "daily", "load", 1, 5, None, ERROR), step),
        (RunEnded("r", "daily", "failure", 5, 1), ended),
    ):
        assert left(pair, failure)
        assert [outcome for outcome in well if left(pair, outcome)] == [success]
        assert not left(pair, *well)


@pytest.mark.parametrize("resolve", ["partition", "asset"])
def test_a_partition_is_looked_at_where_it_fails_itself_or_nobody_knows_which_does(resolve: Any) -> None:
    def evaluated(passed: bool, partition: str | None) -> CheckEvaluated:
        return CheckEvaluated("r", "daily", "load", "a", "c", passed, "ERROR", False, partition, 5, None, {})

    def failed(partition: str | None) -> AssetFailed:
        return AssetFailed("r", "daily", "load", 1, "a", partition, 5, 1, ERROR)

    for fails, succeeds in (
        (failed, lambda partition: made("a", partition=partition)),
        (lambda partition: evaluated(False, partition), lambda partition: evaluated(True, partition)),
    ):
        pair = Pair(AlertsConfig(resolve=resolve, learn_edges=False))
        left(pair, *(succeeds(partition) for partition in ("p", "q", None)))
        assert left(pair, fails("p"))
        assert left(pair, succeeds("q")) == (resolve == "asset")
        assert left(pair, fails("p"))
        assert left(pair, succeeds("p"))
        assert not left(pair, succeeds("p"))
        for partition in ("q", None, ""):
            assert left(pair, fails(None))
            assert left(pair, succeeds(partition))
        for partition in (None, ""):
            assert left(pair, fails("p"))
            assert left(pair, succeeds(partition))
            assert left(pair, succeeds("p")) == (partition == "" and resolve == "partition")


def test_edges_that_are_known_are_passed_over() -> None:
    pair = Pair(AlertsConfig())
    left(pair, AssetPlanned("r", "daily", "load", "a", None, 1))
    for sources in ((), ({"asset_key": "b"},), ({"asset_key": "b"}, {"asset_key": "a"}, {}, {"asset_key": ""})):
        left(pair, made("a", *sources))
        left(pair, made("a", *sources))
        assert not left(pair, made("a", *sources))
    assert left(pair, made("a", {"asset_key": "c"}))
    assert left(pair, made("a", "odd"))
    pair.process([event(made("a", {"asset_key": "d"}))], undone=True)
    assert left(pair, made("a", {"asset_key": "d"}))
    assert not left(Pair(AlertsConfig(learn_edges=False)), made("a", {"asset_key": "b"}))


def test_partitions_of_a_backfill_are_counted() -> None:
    pair = Pair(AlertsConfig())
    planned = AssetPlanned("r", "daily", "load", "a", "p", 1)
    left(pair, planned)
    assert not left(pair, planned, run=RunFacts(tags={"a": "b"}))
    assert not left(pair, planned, run=RunFacts(backfill="b", parent_run_id="r0"))
    assert left(pair, planned, run=RunFacts(backfill="b"))


common = st.sampled_from(["a", "a", "b", "a:b", ""])
texts = st.one_of(common, common, common, st.text(st.characters(exclude_categories=()), max_size=3))
partitions = st.sampled_from([None, None, "p", "q", ""])
ints = st.integers(0, 9) | st.integers()
flags = st.booleans()
errors = st.none() | st.just(ERROR)
runs = st.sampled_from(["r", "s", ""])
sources = st.one_of(st.builds(dict, asset_key=texts), st.just({}), texts, st.none())
columns = st.dictionaries(texts, st.lists(sources, max_size=2) | texts, max_size=2) | texts | st.none()
metadata = st.just({}) | st.builds(lambda told: {"dagster/column_lineage": told}, columns)
tags = st.just({}) | st.dictionaries(
    st.sampled_from(["dagster/input_data_version/a", "dagster/input_event_pointer/b", "dagster/input_data_version/"])
    | texts,
    texts,
    max_size=2,
)
statuses = st.sampled_from(["success", "failure", "canceled", "unfinished", "retry"])
successes = st.one_of(
    st.builds(AssetPlanned, runs, texts, texts, texts, partitions, ints),
    st.builds(AssetMaterialized, runs, texts, texts, ints, texts, partitions, ints, ints, flags, metadata, tags),
    st.builds(StepEnded, runs, texts, texts, ints, statuses, ints, ints),
    st.builds(
        CheckEvaluated, runs, texts, texts, texts, texts, flags, texts, flags, partitions, ints, partitions, metadata
    ),
    st.builds(RunEnded, runs, texts, statuses | texts, ints, ints),
    st.builds(AssetSkipped, runs, texts, texts, partitions, ints),
)
failures = st.one_of(
    st.builds(
        AssetFailed, runs, texts, texts, ints, texts, partitions, ints, st.none(), errors, flags, flags, flags, flags
    ),
    st.builds(StepRaised, runs, texts, texts, ints, ints, partitions, errors, flags),
    st.builds(CheckRaised, runs, texts, texts, ints, texts, texts, ints, errors, flags),
)
odd = st.sampled_from([(), None, [], 5])
events = st.builds(
    event, successes, failures | successes, run=st.none() | st.builds(RunFacts, backfill=texts, parent_run_id=texts)
) | st.builds(event, successes | failures | odd)
configs = st.sampled_from(
    [AlertsConfig(), AlertsConfig(learn_edges=False), AlertsConfig(max_edges=1, max_open=2, resolve="asset")]
)


@settings(max_examples=400, deadline=None)
@given(configs, st.lists(st.tuples(st.lists(events, max_size=8), st.integers(0, 4)), max_size=6))
def test_findings_of_arbitrary_outcomes_are_the_same(config: AlertsConfig, batches: list[Any]) -> None:
    pair = Pair(config)
    for told, undone in batches:
        pair.process(told, undone=not undone)
