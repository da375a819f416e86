"""The `metrics` connector: what runs came to, as figures for Prometheus.

It reads outcomes (and the level of each event's log record) and keeps every figure in state: cumulative counters and
histograms, and gauges by event time. A batch is summed up first and put into the tables last, so that a batch costs by
its distinct series and not by its events, and a call that raises has changed nothing. `flush` gives what changed.
"""

from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Literal

import msgspec

from connectors.metric_holding import Holding
from connectors.metric_readings import PassRateLabels, number
from connectors.metric_series import Series
from connectors.metric_subjects import Subjects
from connectors.metric_tally import Reading, Subject, Tally, twin_of
from pipeline.batch import Batch
from pipeline.components import ConnectorSpec, Context
from pipeline.events import Event
from pipeline.log_levels import count_levels
from pipeline.names_metrics import METRICS
from pipeline.native import HAS_NATIVE
from pipeline.options import Duration
from pipeline.signals import Labels, Sample, Signal

_ROWS = {
    "materialize": ("dagster/partition_row_count", "dagster/row_count"),
    "fetch": ("rows_loaded", "rows_returned", "rows_fetched"),
    "insert": ("inserts",),
    "update": ("updates",),
    "delete": ("deletes",),
}


class MetricsConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Turns the outcomes of `run_ledger` into metric samples: executions, failures, durations, rows, bytes, checks,
    runs, queue times, retries and log records. docs/metrics.md lists each of them.

    Counters survive restarts. An asset of the asset graph has its counters at 0 before its first run.
    """

    deployment: str = ""
    """Label `deployment` on every series (`prod`, `staging`), for where several deployments share asset keys."""
    buckets: tuple[float, ...] = (0.1, 0.5, 1, 5, 10, 30, 60, 300, 900, 1800, 3600, 7200, 14400, 43200)
    """Upper bounds of all histograms, in seconds. Changed bounds begin the histograms anew."""
    max_series: int = 10_000
    """Series of one metric at most; what goes beyond is summed up in one series labelled `__overflow__`."""
    retention: Duration = Duration("30d")
    """Series of an asset, check or job that was silent for so long end, unless the asset graph knows it."""
    gone_after: Duration = Duration("1h")
    """Series of an asset or check that left the asset graph end after this, if it has not come back."""
    failures: Literal["step", "run"] = "step"
    """When an asset that was not made counts as failed: `step`: with its step. `run`: at the run's end, so that one
    which another step of the run makes after all has not failed. A counter cannot take back what it has counted."""
    wiped: Literal["retire", "keep"] = "retire"
    """What becomes of the series of an asset whose materializations were wiped: they end, or stay as they are."""
    rows: dict[str, tuple[str, ...]] = msgspec.field(default_factory=lambda: dict(_ROWS))
    """Metadata labels that hold processed rows, by operation; the first that a materialization has counts."""
    bytes_written: tuple[str, ...] = ("bytes_written", "size_bytes", "dagster/size_bytes")
    """Metadata labels that hold written bytes; the first that a materialization has counts."""
    metadata_values: tuple[str, ...] = ("mean", "std", "min", "max", "null_count")
    """Numeric metadata to give as `asset_metadata_value`, by label."""
    failed_of_total: tuple[tuple[str, str], ...] = (("failed_count", "total_count"), ("rows_failed", "rows_total"))
    """Labels of a check's metadata that hold failed and total rows, for `validation_pass_rate`."""
    failed_alone: tuple[str, ...] = ("dagster_dbt/failed_row_count", "rows_failed")
    """Labels that hold failed rows where the total is the asset's row count."""
    pass_rate: tuple[str, ...] = ("pass_rate",)
    """Labels that hold the rate itself, 0 to 100 (at most 1 on a passed check: a ratio)."""

    def problems(self) -> Iterator[tuple[str, str]]:
        """What is wrong with the options beyond their types: (option, message)."""
        if not self.buckets or any(number(bound) is None or bound <= 0 for bound in self.buckets):
            yield "buckets", "needs one bound or more, each a number of seconds above 0"
        elif any(low >= high for low, high in zip(self.buckets, self.buckets[1:], strict=False)):
            yield "buckets", "bounds must rise, as in `[1, 10, 60]`"
        if self.max_series < 1:
            yield "max_series", "must be at least 1"
        for name in ("retention", "gone_after"):
            if getattr(self, name) <= 0:
                yield name, "must be longer than 0, as in `30d`"


_SEEDED = ("asset_executions_total", "asset_execution_failures_total", "asset_materializations_total")


class Metrics:
    """The connector. Timers: subjects whose time is over."""

    def __init__(
        self, config: MetricsConfig, series: Series, subjects: Subjects, holding: Holding | None = None
    ) -> None:
        self.series, self._subjects, self._holding = series, subjects, holding
        self._retires_wiped = config.wiped == "retire"
        self.lead_ns = min(config.retention.ns, config.gone_after.ns)
        self._reading = Reading(
            config.rows,
            config.bytes_written,
            config.metadata_values,
            PassRateLabels(config.failed_of_total, config.failed_alone, config.pass_rate),
        )
        self._twin = twin_of(self._reading) if HAS_NATIVE else None

    async def process(self, batch: Batch[Event], /) -> Sequence[Sample]:
        """Sum the batch up; the figures are given by `flush`."""
        events = batch.items
        if not events:
            return ()
        # Whatever can raise comes first: what `series` and `subjects` keep beside their tables is not undone.
        tallies = self._tallied(events)
        # Of all series that begin in this batch: early enough to show, at the flush, how far behind we are.
        began_ns = events[0].now_ns
        self._learn(events[0])
        for tally in tallies:
            self._apply(tally, began_ns)
            if tally.gone and self._retires_wiped:
                self._retire(tally.gone, began_ns)
        return ()

    def _tallied(self, events: Sequence[Event]) -> list[Tally]:
        """The batch summed up; in several parts where something is gone: there the order within the batch matters."""
        tallies, held = [Tally(self._reading)], self._holding

        def take(event: Event) -> Tally:
            tally = tallies[-1]
            tally.take(held.settled(event.outcomes) if held else event.outcomes, event.now_ns)
            if tally.gone:
                tallies.append(Tally(self._reading))
            return tallies[-1]

        if self._twin is not None and not held:
            self._twin.take(events, tallies[0], take)
        else:
            for event in events:
                if event.outcomes:
                    take(event)
        for level, records in count_levels(events).items():
            tallies[0].count(("dagster_log_records_total", level), records)
        return tallies

    def due(self) -> int | None:
        """When a subject may have been silent or gone for long enough."""
        return self._subjects.due()

    async def on_time(self, now_ns: int) -> Sequence[Sample]:
        """End the series of subjects whose time is over; the flush says so."""
        over = self._subjects.ended(now_ns)
        if over:
            self.series.retire(over)
        return ()

    async def flush(self, now_ns: int) -> Sequence[Sample]:
        """The figures that changed since the last flush; after a start, all."""
        return self.series.flush(now_ns)

    def _learn(self, event: Event) -> None:
        if event.catalog is not None:
            self._seed(self._subjects.learn(event.catalog, event.now_ns), event.now_ns)

    def _seed(self, assets: Iterable[Subject], now_ns: int) -> None:
        for asset in assets:
            for name in _SEEDED:
                self.series.count((name, asset[1]), 0.0, _is_known, now_ns)

    def _retire(self, gone: set[Subject], now_ns: int) -> None:
        """A wiped asset's series end. One that the graph still has begins anew, as it would after a restart."""
        self._subjects.forget(gone)
        self.series.retire(gone)
        self._seed(self._subjects.still_there(gone, now_ns), now_ns)

    def _apply(self, tally: Tally, now_ns: int) -> None:
        subjects, series, knows = self._subjects, self.series, self._knows
        new = [subject for subject, heard_ns in tally.seen.items() if subjects.heard(subject, heard_ns)]
        self._seed((subject for subject in new if subject[0] == "asset"), now_ns)
        for key, by in tally.counts.items():
            series.count(key, by, knows, now_ns)
        for key, times_ns in tally.times_ns.items():
            series.observe(key, times_ns, knows, now_ns)
        for key, latest in tally.gauges.items():
            series.gauge(key, latest, knows)
        for (name, subject), latest in tally.variants.items():
            subjects.vary(subject, series.vary(name, subject, latest, subjects.variant(subject), knows))

    def _knows(self, key: tuple[str, ...]) -> bool:
        owner = METRICS[key[0]].owner
        if not owner:
            return True
        return self._subjects.knows((owner, *key[1:3]) if owner == "check" else (owner, key[1]))


def _is_known(key: tuple[str, ...]) -> bool:
    return True


class _Overflow:
    """Counts what a metric had no room for, and says so once a metric."""

    def __init__(self, context: Context, most: int) -> None:
        self._context, self._most = context, most
        self._counter = context.meter.create_counter(
            "dagtel_metrics_overflow",
            description="Readings summed up in an overflow series, or left out, for want of room.",
        )
        self._said: set[str] = set()

    def __call__(self, name: str) -> None:
        self._counter.add(1, {"component": self._context.id, "metric": name})
        if name not in self._said:
            self._said.add(name)
            self._context.log.warning(
                "A metric has no room for more series, the rest goes to its overflow series.",
                extra={"metric": name, "max_series": self._most},
            )


@asynccontextmanager
async def build(config: MetricsConfig, context: Context) -> AsyncIterator[Metrics]:
    """Open the tables; there is nothing to close."""
    extra: Labels = (("deployment", config.deployment),) if config.deployment else ()
    overflow = _Overflow(context, config.max_series)
    series = Series(context.state, config.buckets, config.max_series, extra, overflow)
    subjects = Subjects(context.state, config.retention.ns, config.gone_after.ns, config.max_series)
    holding = Holding(context.state, config.max_series) if config.failures == "run" else None
    yield Metrics(config, series, subjects, holding)


SPEC = ConnectorSpec(
    "metrics", MetricsConfig, build, takes=Signal.EVENTS, gives=Signal.METRICS, scope="whole", needs=("run_ledger",)
)
