"""The twin sums a batch up as `Tally.take` does: the same figures under the same keys, in the same order."""

from functools import cache, partial
from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.metrics import Metrics, MetricsConfig, build
from pipeline.batch import Batch
from pipeline.clock import DAY
from pipeline.events import Event
from pipeline.native import HAS_NATIVE
from pipeline.outcomes import (
    AssetFailed,
    AssetGone,
    AssetMaterialized,
    AssetObserved,
    AssetPlanned,
    AssetSkipped,
    CheckEvaluated,
    RunEnded,
    StepEnded,
)
from pipeline.testing.context import FakeContext
from tests.native.recorded import RECORDED, annotated

pytestmark = pytest.mark.skipif(not HAS_NATIVE, reason="dagtel-native is not installed")

FIELDS = ("counts", "times_ns", "gauges", "variants", "seen", "gone")


async def built(config: MetricsConfig) -> tuple[Metrics, FakeContext]:
    context = FakeContext()
    async with build(config, context) as metrics:
        return metrics, context


class Pair:
    """Two connectors of the same state, one with the twin; the keys that the twin has summed up by itself."""

    def __init__(self, config: MetricsConfig | None = None) -> None:
        config = config or MetricsConfig()
        (self.python, one), (self.native, other) = (anyio.run(built, config) for _ in range(2))
        self.contexts = one, other
        self.python._twin = None

    def process(self, events: list[Event]) -> None:
        told = [self._told(metrics, events) for metrics in (self.python, self.native)]
        assert told[1] == told[0]
        if not isinstance(told[0], type):
            states = [[(name, list(t.items())) for name, t in c.memory.tables.items()] for c in self.contexts]
            assert repr(states[1]) == repr(states[0])

    def _told(self, metrics: Metrics, events: list[Event]) -> list[str] | type:
        """Tallies and samples, as texts: they tell True from 1, 1 from 1.0, and take a NaN for a NaN."""
        try:
            tallies = metrics._tallied(events)
            anyio.run(metrics.process, Batch(events, "s", 0))
            told: list[object] = [[getattr(tally, name) for name in FIELDS] for tally in tallies]
            return [repr(told), repr(anyio.run(metrics.flush, 10**18))]
        except Exception as error:
            return type(error)


@cache
def recorded(name: str) -> list[Event]:
    return list(anyio.run(annotated, name).items)


@pytest.mark.parametrize("size", [1, 7, 100, 10_000])
@pytest.mark.parametrize("name", RECORDED)
def test_figures_of_recorded_runs_are_the_same(name: str, size: int) -> None:
    pair, events = Pair(), recorded(name)
    for start in range(0, len(events), size):
        pair.process(events[start : start + size])


class Alone:
    """A tally that must not be asked."""

    def __init__(self) -> None:
        self.counts, self.times_ns, self.gauges, self.variants, self.seen = ({} for _ in range(5))  # type: ignore[var-annotated]
        self.left: list[Any] = []

    def take(self, outcomes: Any, now_ns: int) -> None:
        self.left += outcomes


def left(events: list[Event]) -> list[Any]:
    """Outcomes and events that the twin leaves to Python."""
    tally, twin = Alone(), Pair().native._twin
    assert twin is not None

    def rest(event: Event) -> Alone:
        tally.left.append(event)
        return tally

    twin.take(events, tally, rest)
    return tally.left


@pytest.mark.parametrize("name", RECORDED)
def test_hardly_anything_of_recorded_runs_is_left_to_python(name: str) -> None:
    assert len(left(recorded(name))) < 5  # wiped assets, and one with an unprintable name


def event(*outcomes: Any, now_ns: int = 9) -> Event:
    told = Event(b"{}", "LOG", "r", 5, 10, "daily", "load", "hello")
    told.outcomes, told.now_ns = outcomes, now_ns
    return told


def made(asset: str = "a/b", at_ns: int = 5, took_ns: Any = 1, **metadata: Any) -> AssetMaterialized:
    told = {name.replace("__", "/"): value for name, value in metadata.items()}
    return AssetMaterialized("r", "daily", "load", 1, asset, None, at_ns, took_ns, True, told, {})


def check(severity: str = "ERROR", **metadata: Any) -> CheckEvaluated:
    return CheckEvaluated("r", "daily", "load", "a", "c", True, severity, False, None, 5, None, metadata)


def test_what_is_odd_is_left_to_python_and_the_rest_of_its_event_is_not() -> None:
    odd = [
        made("\x00"),
        made("\ud800"),
        made("a" * 1025),
        made(at_ns=2**70),
        made(took_ns=True),
        made(mean=2**70),
        made(dagster__row_count=1, dagster__table_name="a.\x01.b"),
        AssetFailed("r", "daily", "load", 1, "a", None, 5, 2**70, None),
        RunEnded("r", "\x00", "success", 5, 1),
        RunEnded("r", "daily", "success", 2**63 - 1, -1),
        check("\x00"),
    ]
    events = [event(made(), outcome, made("ä")) for outcome in odd]
    assert left(events) == odd
    Pair().process(events)


@pytest.mark.parametrize(
    "metadata",
    [
        {"dagster__row_count": -1, "rows_loaded": -1, "rows_returned": 3},
        {"dagster__row_count": 1.5, "dagster__table_name": "lake.raw.orders", "inserts": 0.1, "mean": -0.0},
        {"dagster__row_count": 2**53 + 1, "dagster__table_name": "orders", "bytes_written": 1e24},
        {"dagster__row_count": True, "size_bytes": float("nan"), "std": float("inf")},
        {"dagster__row_count": 1, "dagster__table_name": ["a.b"], "null_count": "1"},
    ],
)
def test_metadata_is_read_as_python_reads_it(metadata: dict[str, Any]) -> None:
    events = [event(made(**metadata), made(**metadata), made("plain", **metadata), made(at_ns=4, **metadata))]
    assert not left(events)
    Pair().process(events)


def test_sums_go_on_where_python_has_summed() -> None:
    odd, gone = made(mean=2**70), AssetGone("a/b", (), 5)
    rows = [made(rows_loaded=0.1, at_ns=at_ns, mean=at_ns, dagster__row_count=at_ns) for at_ns in (7, 6, 8)]
    for between in (odd, gone, AssetGone("a/b", ("p",), 5)):
        Pair().process([event(each, between, each, check(), rows[0]) for each in rows])


def test_statuses_and_severities_without_end_are_left_to_python() -> None:
    events = [event(check(str(n)), RunEnded("r", "daily", str(n), 5, 1)) for n in range(40)]  # type: ignore[arg-type]
    assert len(left(events)) == 48
    Pair().process(events)


texts = st.sampled_from(["a", "b/c", "a", "b/c", ""]) | st.text(st.characters(exclude_categories=()), max_size=3)
ints = st.integers(0, 9) | st.sampled_from([2 * DAY, -1, 2**53 + 1]) | st.integers()
flags = st.booleans()
options = st.none() | ints
values = st.one_of(ints, st.floats(), st.booleans(), texts, st.none(), st.just([1]))
labels = st.sampled_from(
    [
        "dagster/row_count", "dagster/row_count", "dagster/partition_row_count", "rows_loaded", "rows_returned",
        "inserts", "bytes_written", "size_bytes", "mean", "max", "failed_count", "total_count", "rows_failed",
        "pass_rate",
    ]
)  # fmt: skip
metadata = st.one_of(
    st.just({}),
    st.dictionaries(labels | texts, values, max_size=4),
    st.builds(
        lambda told, table: {**told, "dagster/row_count": 7, "dagster/table_name": table},
        st.dictionaries(labels, values, max_size=2),
        st.sampled_from(["lake.raw.orders", "orders", "a..b", "\x00.b", 5]) | texts,
    ),
)
partitions = st.none()
maker = partial(AssetMaterialized, tags={})
outcomes = st.one_of(
    st.builds(AssetPlanned, texts, texts, texts, texts, partitions, ints),
    st.builds(
        maker, texts, texts, texts, ints, texts, partitions, ints, options, flags, metadata
    ),
    st.builds(AssetFailed, texts, texts, texts, ints, texts, partitions, ints, options, st.none()),
    st.builds(partial(AssetObserved, tags={}), texts, texts, texts, partitions, ints, metadata),
    st.builds(
        CheckEvaluated, texts, texts, texts, texts, texts, flags, st.sampled_from(["WARN", "ERROR"]) | texts, flags,
        partitions, ints, partitions, metadata, options,
    ),
    st.builds(
        RunEnded, texts, texts, st.sampled_from(["success", "unfinished", "starting"]) | texts, ints, ints, options,
        options, phase=st.sampled_from(["started", "starting"]) | texts,
    ),
    st.builds(StepEnded, texts, texts, texts, ints, st.sampled_from(["retry", "success"]) | texts, ints, ints),
    st.builds(AssetGone, texts, st.just(()) | st.just(("p",)), ints),
    st.builds(AssetSkipped, texts, texts, texts, partitions, ints),
)  # fmt: skip
events = st.builds(event, outcomes, outcomes, now_ns=ints) | st.builds(event, now_ns=ints)
configs = st.sampled_from(
    [
        MetricsConfig(),
        MetricsConfig(max_series=2),
        MetricsConfig(failures="run"),
        MetricsConfig(wiped="keep", metadata_values=("mean", "mean"), rows={"a": ("mean", "max"), "b": ("mean",)}),
    ]
)


@settings(max_examples=400, deadline=None)
@given(configs, st.lists(st.lists(events, max_size=8), max_size=4))
def test_figures_of_arbitrary_outcomes_are_the_same(config: MetricsConfig, batches: list[list[Event]]) -> None:
    pair = Pair(config)
    for told in batches:
        pair.process(told)
