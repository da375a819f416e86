"""The twin of the logs connector makes the same records of the same events, and learns the same."""

from functools import cache, partial
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.log_facts import NO_EXTRA, STATUSES
from connectors.logs import Logs, _derive_ids
from connectors.slow import Baselines, SlowConfig
from pipeline.batch import Batch
from pipeline.events import (
    CheckPlanned,
    CheckResult,
    Event,
    FreshnessChanged,
    IoHandled,
    LogFields,
    Marker,
    MaterializationPlanned,
    Materialized,
    Observed,
    RetryScheduled,
    RunCanceled,
    RunFailed,
    RunQueued,
    StepFailed,
    StepSucceeded,
)
from pipeline.facts import ErrorInfo, RunFacts
from pipeline.log_levels import BY_TYPE
from pipeline.native import HAS_NATIVE
from pipeline.options import Duration
from pipeline.outcomes import (
    AssetFailed,
    AssetGone,
    AssetMaterialized,
    AssetPlanned,
    RunEnded,
    StepEnded,
)
from pipeline.signals import LogRecord
from pipeline.testing.context import FakeContext
from processors.run_ledger import SPEC as LEDGER
from processors.run_ledger import RunLedgerConfig
from receivers.dagster_wire import decode

pytestmark = pytest.mark.skipif(not HAS_NATIVE, reason="dagtel-native is not installed")

DATA = Path(__file__).parent.parent / "data"
CORPORA = ("dagster-1.7", "dagster-1.10", "dagster-1.13", "mill-1.13")
RUN = "0af76519-16cd-43dd-8448-eb211c80319c"
ERROR = ErrorInfo("TimeoutError", "after 30s", stack="Traceback …")


class Pair:
    """Two connectors of the same state, one with the twin; which events the twin left to Python."""

    def __init__(self, config: SlowConfig = SlowConfig(at_least=2)) -> None:  # noqa: B008
        self.python, self.native = (
            Logs(Baselines(config, FakeContext().state.table("baselines", str, tuple[float, ...], version=1)))
            for _ in range(2)
        )
        self.python._twin = None
        self.left: list[Event] = []

    def records(self, events: list[Event]) -> tuple[list[LogRecord] | str, list[LogRecord] | str]:
        return self._python(events), self._native(events)

    def twins(self, told: Event) -> LogRecord:
        """The record of an event that the twin does not leave to Python."""
        records = self._native([told])
        assert isinstance(records, list)
        assert told not in self.left
        return records[0]

    def learned(self) -> list[Any]:
        return [sorted(logs._baselines._table.items()) for logs in (self.python, self.native)]

    def _python(self, events: list[Event]) -> list[LogRecord] | str:
        try:
            return list(anyio.run(self.python.process, Batch(events, "s", 0)))
        except UnicodeEncodeError as error:
            return str(error)

    def _native(self, events: list[Event]) -> list[LogRecord] | str:
        assert self.native._twin is not None
        try:
            return self.native._twin.process(events, self._rest)
        except UnicodeEncodeError as error:
            return str(error)

    def _rest(self, event: Event, records: list[LogRecord]) -> None:
        self.left.append(event)
        self.native._add(event, records)


def assert_same(events: list[Event], pair: Pair | None = None) -> Pair:
    pair = pair or Pair()
    python, native = pair.records(events)
    assert repr(native) == repr(python)  # which tells True from 1, 1 from 1.0, and takes a NaN for a NaN
    assert repr(pair.learned()[1]) == repr(pair.learned()[0])
    return pair


@cache
def corpus(name: str) -> list[list[Event]]:
    """The corpus as the ledger gives it, in batches."""

    async def annotated() -> list[list[Event]]:
        lines = (DATA / f"{name}.jsonl").read_bytes().splitlines()
        events = [decode(raw, "file", n, headers=_headers(n)) for n, raw in enumerate(lines, 1)]
        now = 0
        for event in events:
            now = event.now_ns = max(now, event.at_ns)
            event.run = RunFacts(code_location="shop", partition="2026-03-01") if event.offset % 3 else None
        async with LEDGER.build(RunLedgerConfig(), FakeContext()) as ledger:
            batches = [Batch(events[i : i + 100], "s", events[i].now_ns) for i in range(0, len(events), 100)]
            done = [list((await ledger.process(batch)).items) for batch in batches]
            done.append(list(await ledger.finish(now)))  # type: ignore[attr-defined]
        return done

    return anyio.run(annotated)


def _headers(n: int) -> tuple[tuple[str, bytes], ...]:
    return (("dagtel-instance", b"eu"), ("dagtel-storage-id", b"%d" % n)) if n % 2 else ()


@pytest.mark.parametrize("name", CORPORA)
def test_records_of_recorded_runs_are_the_same_and_few_are_left_to_python(name: str) -> None:
    pair = Pair()
    for events in corpus(name):
        assert_same(events, pair)
    count = sum(map(len, corpus(name)))
    assert count > 100
    assert len(pair.left) < count * 0.1  # failures, mostly
    assert any(list(values) for values in pair.learned())


def event(kind: str = "LOG", detail: Any = None, *outcomes: Any, **fields: Any) -> Event:
    told = Event(b"{}", kind, RUN, 5, 10, "daily", "load", "hello", "COMPUTE", detail, "events/3", 7)
    told.attempt, told.assets, told.outcomes = 1, ("a",), outcomes
    for name, value in fields.items():
        setattr(told, name, value)
    return told


def made(took_ns: Any = 152_000_000, asset: str = "a") -> AssetMaterialized:
    return AssetMaterialized(RUN, "daily", "load", 1, asset, None, 1, took_ns, True, {}, {})


def test_what_is_common_is_not_left_to_python() -> None:
    pair = assert_same(
        [
            *(event(kind) for kind in {*STATUSES, *BY_TYPE} - {"STEP_FAILURE"}),
            event("NEW", RunQueued()),
            event("NEW", IoHandled("a", "b")),
            event("PIPELINE_SUCCESS", None, RunEnded(RUN, "daily", "success", 9_000_000, 4)),
            event("ENGINE_EVENT", Marker("a", "", None)),
            event("FRESHNESS_STATE_CHANGE", FreshnessChanged("a", "FAIL", "", 1), message=""),
            *(event("ASSET_MATERIALIZATION", Materialized("a", "p", {}, {}, "ü"), made(10**n)) for n in range(15)),
            event("ASSET_MATERIALIZATION", Materialized("a", None, {}, {})),
            event("STEP_FAILURE", StepFailed(ERROR), AssetFailed(RUN, "daily", "load", 1, "b", "p", 6, None, ERROR)),
            event("STEP_FAILURE", StepFailed(None), StepEnded(RUN, "daily", "load", 1, "failure", 9_000_000, 4)),
            event("STEP_UP_FOR_RETRY", RetryScheduled(ERROR), StepEnded(RUN, "daily", "load", 1, "retry", 9, 4)),
            event("PIPELINE_FAILURE", RunFailed(ERROR), RunEnded(RUN, "daily", "failure", 9_000_000, 4)),
            event("PIPELINE_FAILURE", RunFailed(ERROR, repeats_step=True)),
            event("PIPELINE_CANCELED", RunCanceled(ERROR)),
            *(event(level=level, message=text) for level in (-1, 0, 25, 40, 50, 99) for text in _MESSAGES),
        ]
    )
    assert pair.left == []
    late = pair.twins(event("ASSET_MATERIALIZATION", Materialized("a", None, {}, {}), made(10**15)))
    assert (late.slow, late.message) == (True, "Succeeded in 1,000,000,000ms (slow)")


def test_what_is_rare_is_left_to_python() -> None:
    failed = AssetFailed(RUN, "daily", "load", 1, "a", None, 6, None, ERROR)
    odd = [
        event("STEP_FAILURE", StepFailed(ERROR), failed, failed),
        event("STEP_FAILURE", None, failed),
        event("STEP_FAILURE", None),
        event("NEW", StepFailed(ERROR), failed),
        event("STEP_UP_FOR_RETRY", RetryScheduled(ERROR), failed),
        event("PIPELINE_FAILURE", RunFailed(ERROR), failed),
        event("PIPELINE_FAILURE", None, failed),
        event("ASSET_MATERIALIZATION", Materialized("a", None, {}, {}), failed),
        event("ASSET_WIPED", None, AssetGone("a", (), 1)),
        event(detail=LogFields({"a": 1})),
        event("RESOURCE_INIT_FAILURE", Marker("", "", ERROR)),
        event("ASSET_MATERIALIZATION", Materialized("a", None, {}, {}), made(-1)),
        event(raw=b""),
        event(raw=b"", outcomes=(failed,)),
        event(message="\ud800"),
        event("STEP_OUTPUT", offset=2**70),
    ]
    assert assert_same(odd).left == odd


@pytest.mark.parametrize(("ns", "text"), [(500_000, "0"), (1_500_000, "2"), (2_500_000, "2"), (999_500_000, "1,000")])
def test_half_a_millisecond_is_rounded_as_python_rounds_it(ns: int, text: str) -> None:
    assert (
        Pair().twins(event("ASSET_MATERIALIZATION", Materialized("a", None, {}, {}), made(ns))).message
        == f"Succeeded in {text}ms"
    )


def test_ids_are_those_of_python_and_texts_without_extra_fields_share_one_map() -> None:
    for run in (RUN, RUN.upper(), RUN.replace("-", ""), RUN[:-1], RUN[:-1] + "g", RUN[:8] + "0" + RUN[9:], "run", ""):
        for step, attempt in (("load", 1), ("load", 0), ("", 1), ("lösch", 12)):
            record = Pair().twins(event("STEP_OUTPUT", run_id=run, step_key=step, attempt=attempt))
            assert (record.trace_id, record.span_id) == _derive_ids(run, step, attempt)
            assert record.extra is NO_EXTRA


_MESSAGES = (
    "", "Dependencies for step x failed: ['y']. Not executing.", "Dependencies for step x", " Not executing.",
    "Skipping step x due to skipped dependencies: ['y'].", "Skipping step x", "ä",
)  # fmt: skip
texts = st.text(st.characters(exclude_categories=()), max_size=6) | st.text(max_size=6)
keys = st.sampled_from(["a", "b/c", ""]) | texts
ints = st.integers(-5, 60) | st.integers()
floats = st.floats() | ints
partitions = st.none() | texts
maps = st.dictionaries(texts, texts, max_size=2)
errors = st.none() | st.just(ERROR)
details = st.one_of(
    st.none(),
    st.builds(MaterializationPlanned, keys, partitions),
    st.builds(StepSucceeded, floats),
    st.builds(Materialized, keys, partitions, maps, maps, partitions),
    st.builds(Observed, keys, partitions, maps, maps),
    st.builds(CheckPlanned, keys, texts),
    st.builds(
        CheckResult,
        keys,
        texts,
        st.booleans(),
        st.sampled_from(["WARN", "ERROR"]) | texts,
        st.booleans(),
        partitions,
        partitions,
        maps,
    ),
    st.builds(Marker, texts, texts, errors),
    st.builds(FreshnessChanged, keys, texts, texts, ints),
    st.builds(StepFailed, errors),
    st.builds(StepFailed, errors),
    st.builds(RetryScheduled, errors),
    st.builds(RunFailed, errors, texts, st.booleans()),
    st.builds(RunCanceled, errors),
    st.builds(LogFields, maps, errors),
    st.builds(RunQueued, texts, texts, partitions),
    st.builds(IoHandled, texts, texts),
)
durations = st.none() | st.sampled_from([500_000, 1_500_000, 10**9, 10**10]) | st.integers(0, 2**54) | ints
outcomes = st.one_of(
    st.builds(
        partial(AssetMaterialized, RUN, "daily", "load", 1),
        keys,
        partitions,
        ints,
        durations,
        st.booleans(),
        maps,
        maps,
    ),
    st.builds(partial(RunEnded, RUN, "daily", "success"), ints, ints),
    st.builds(partial(StepEnded, RUN, "daily", "load", 1, "success"), ints, ints),
    st.builds(partial(AssetPlanned, RUN, "daily", "load"), keys, partitions, ints),
    st.builds(partial(AssetFailed, RUN, "daily", "load", 1), keys, partitions, ints, durations, errors),
    st.builds(AssetGone, keys, st.just(()) | st.just(("p",)), ints),
)
events = st.builds(
    Event,
    st.sampled_from([b"{}", b"{}", b"{}", b""]),
    st.sampled_from(["LOG", "ASSET_CHECK_EVALUATION", "NEW", *["STEP_FAILURE"] * 9, *STATUSES, *BY_TYPE]) | texts,
    st.just(RUN) | texts,
    ints,
    ints,
    texts,
    texts,
    st.sampled_from(_MESSAGES) | texts,
    detail=details,
    source=texts,
    offset=ints,
    headers=st.lists(st.tuples(st.just("dagtel-storage-id") | texts, st.binary(max_size=3)), max_size=2).map(tuple),
    attempt=ints,
    assets=st.lists(keys, max_size=2).map(tuple),
    outcomes=st.lists(outcomes, max_size=2).map(tuple),
    run=st.none() | st.builds(RunFacts, code_location=texts, partition=partitions),
)


@settings(max_examples=400, deadline=None)
@given(st.lists(events, max_size=20))
def test_records_of_arbitrary_events_are_the_same(told: list[Event]) -> None:
    assert_same(told)


near = st.sampled_from([0, 1, 99, 100, 101, 199, 200, 300, 2**53 - 1, 2**53, 2**53 + 1])
pasts = st.lists(near | near.map(float) | st.floats() | st.just(True) | st.integers(), max_size=6).map(tuple)
slows = st.builds(
    lambda factor, history, at_least, excess: SlowConfig(
        factor=factor, history=history, at_least=min(at_least, history), excess=Duration(excess)
    ),
    st.sampled_from([0.0, 1.0, 1.5, 2.0, 2, 1e300, float("inf"), float("nan")]),
    st.integers(1, 5),
    st.integers(1, 5),
    st.sampled_from(["0ns", "1ns", "100ns", "3000h"]),
)
successes = st.builds(
    lambda took, asset, counts: msgspec.structs.replace(made(took, asset), execution=counts),
    near | near | durations,
    st.sampled_from(["a", "a", "b", "c", "\ud800"]),
    st.sampled_from([True, True, True, False]),
)


@settings(max_examples=400, deadline=None)
@given(slows, st.dictionaries(st.sampled_from(["a", "b"]), pasts), st.lists(st.lists(successes, max_size=3)))
def test_what_is_slow_and_what_is_learned_are_the_same(
    config: SlowConfig, past: dict[str, tuple[float, ...]], told: list[list[AssetMaterialized]]
) -> None:
    pair = Pair(config)
    for logs in (pair.python, pair.native):
        for asset, values in past.items():
            logs._baselines._table.put(asset, values)
    assert_same([event("ASSET_MATERIALIZATION", Materialized("a", None, {}, {}), *each) for each in told], pair)


@pytest.mark.parametrize(("took", "slow"), [(199, False), (200, True), (250, True)])
@pytest.mark.parametrize(("factor", "excess"), [(2.0, "1ns"), (2.0, "100ns"), (1.0, "100ns")])
def test_a_success_at_the_very_limit_is_slow(took: int, slow: bool, factor: float, excess: str) -> None:
    pair = Pair(SlowConfig(factor=factor, at_least=5, history=5, excess=Duration(excess)))
    for logs in (pair.python, pair.native):
        logs._baselines._table.put("a", (90, 100.0, 100, 100, 120))
    told = event("ASSET_MATERIALIZATION", Materialized("a", None, {}, {}), made(took))
    python, native = pair.records([told])
    assert native == python
    assert isinstance(native, list)
    assert native[0].slow == slow
    assert (pair.left, pair.learned()[1]) == ([], [("a", (100.0, 100, 100, 120, took))])
