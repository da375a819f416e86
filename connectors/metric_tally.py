"""What one batch adds to the figures: pure sums in plain dicts, put into the state tables once a batch.

Sums commute and gauges are compared by event time, so that the order within a batch does not matter; a figure of an
asset that is wiped in the middle of a batch is the caller's to apply before (see `connectors/metrics.py`).
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Any, Final, TypeAlias

import msgspec

from connectors.metric_labels import label_value
from connectors.metric_readings import PassRateLabels, amount, amounts, number, pass_rate, schema_of
from pipeline import events, outcomes
from pipeline.clock import DAY, seconds
from pipeline.facts import Metadata
from pipeline.native import native
from pipeline.outcomes import (
    AssetFailed,
    AssetGone,
    AssetMaterialized,
    AssetObserved,
    AssetPlanned,
    CheckEvaluated,
    Outcome,
    RunEnded,
    StepEnded,
)

Key: TypeAlias = tuple[str, ...]
"""A series: the metric's name, then its label values in the order of `pipeline.names_metrics`."""
Subject: TypeAlias = tuple[str, ...]
"""Whose series: ("asset", asset), ("check", asset, check) or ("job", job)."""

_LONGEST: Final = 366 * DAY  # what is said to have taken longer had an absurd time


class Reading(msgspec.Struct, frozen=True):
    """Which metadata labels mean what."""

    rows: Mapping[str, tuple[str, ...]]
    written: tuple[str, ...]
    values: tuple[str, ...]
    checks: PassRateLabels


class Latest(msgspec.Struct, frozen=True, gc=False):
    """A gauge by event time. `variant`: the value of its last label, of which one at a time is in force."""

    value: float
    at_ns: int
    variant: str | None = None


class Tally:
    """Sums of one batch. `seen` holds the domain time at which each subject was last heard of.

    `gone` holds assets that were wiped by the last outcomes taken; the caller retires them before it takes more.
    """

    __slots__ = ("counts", "gauges", "gone", "reading", "seen", "times_ns", "variants")

    def __init__(self, reading: Reading) -> None:
        self.reading = reading
        self.counts: dict[Key, float] = {}
        self.times_ns: dict[Key, list[int]] = {}
        self.gauges: dict[Key, Latest] = {}
        self.variants: dict[tuple[str, Subject], Latest] = {}
        self.seen: dict[Subject, int] = {}
        self.gone: set[Subject] = set()

    def take(self, outcomes: Sequence[Outcome], now_ns: int) -> None:
        """Add what these outcomes say. `now_ns`: domain time of the event that carries them."""
        for outcome in outcomes:
            take = _TAKES.get(type(outcome))
            if take is not None:
                take(self, outcome, now_ns)

    def count(self, key: Key, by: float = 1.0) -> None:
        """Add to a counter."""
        counts = self.counts
        counts[key] = counts.get(key, 0.0) + by

    def _time(self, key: Key, took_ns: int | None) -> None:
        if took_ns is not None:
            self.times_ns.setdefault(key, []).append(min(max(0, took_ns), _LONGEST))

    def _gauge(self, key: Key, value: float, at_ns: int) -> None:
        last = self.gauges.get(key)
        if last is None or at_ns >= last.at_ns:
            self.gauges[key] = Latest(value, at_ns)

    def _variant(self, name: str, subject: Subject, latest: Latest) -> None:
        last = self.variants.get((name, subject))
        if last is None or latest.at_ns >= last.at_ns:
            self.variants[name, subject] = latest

    def _asset(self, asset: str, now_ns: int) -> str:
        name = label_value(asset)
        self.seen["asset", name] = now_ns
        return name

    def _planned(self, outcome: AssetPlanned, now_ns: int) -> None:
        self._asset(outcome.asset, now_ns)

    def _materialized(self, outcome: AssetMaterialized, now_ns: int) -> None:
        asset, metadata = self._asset(outcome.asset, now_ns), outcome.metadata
        at_ns = _meant(outcome.at_ns, now_ns)
        self.count(("asset_materializations_total", asset))
        self._gauge(("asset_last_update_timestamp", asset), seconds(at_ns), at_ns)
        if outcome.execution:
            self.count(("asset_executions_total", asset))
            self._time(("asset_execution_seconds", asset, "success"), outcome.duration_ns)
        if metadata:
            self._metadata(asset, metadata, at_ns)
            self._rows(outcome, asset, at_ns)

    def _rows(self, outcome: AssetMaterialized, asset: str, at_ns: int) -> None:
        metadata = outcome.metadata
        for operation, rows in amounts(metadata, self.reading.rows):
            self.count(("asset_rows_processed_total", asset, operation), rows)
        written = amount(metadata, self.reading.written)
        if written is not None:
            self.count(("asset_bytes_written_total", asset), written)
        held = number(metadata.get("dagster/row_count"))  # below 0 too: some write -1 where they do not know
        if held is not None:
            schema = label_value(schema_of(outcome.asset, metadata))
            self._variant("asset_row_count", ("asset", asset), Latest(held, at_ns, schema))

    def _metadata(self, asset: str, metadata: Metadata, at_ns: int) -> None:
        for label in self.reading.values:
            if label in metadata:
                value = number(metadata[label])
                if value is not None:
                    self._gauge(("asset_metadata_value", asset, label), value, at_ns)

    def _failed(self, outcome: AssetFailed, now_ns: int) -> None:
        asset = self._asset(outcome.asset, now_ns)
        self.count(("asset_executions_total", asset))
        self.count(("asset_execution_failures_total", asset))
        self._time(("asset_execution_seconds", asset, "failure"), outcome.duration_ns)

    def _observed(self, outcome: AssetObserved, now_ns: int) -> None:
        asset = self._asset(outcome.asset, now_ns)
        if outcome.metadata:
            self._metadata(asset, outcome.metadata, _meant(outcome.at_ns, now_ns))

    def _evaluated(self, outcome: CheckEvaluated, now_ns: int) -> None:
        asset, check = self._asset(outcome.asset, now_ns), label_value(outcome.check)
        severity, at_ns = label_value(outcome.severity), _meant(outcome.at_ns, now_ns)
        subject = ("check", asset, check)
        self.seen[subject] = now_ns
        status = "passed" if outcome.passed else "failed"
        self.count(("asset_check_evaluations_total", asset, check, status, severity))
        self._gauge(("validation_pass_rate", asset, check), pass_rate(outcome, self.reading.checks), at_ns)
        self._variant("asset_check_passed", subject, Latest(1.0 if outcome.passed else 0.0, at_ns, severity))

    def _run_ended(self, outcome: RunEnded, now_ns: int) -> None:
        job = label_value(outcome.job)
        self.seen["job", job] = now_ns
        if outcome.status == "unfinished":
            self.count(("dagster_runs_total", job, outcome.phase))  # its true end counts too, should it come
            return
        self.count(("dagster_runs_total", job, outcome.status))
        self._time(("dagster_run_seconds", job, outcome.status), outcome.at_ns - outcome.started_ns)
        if outcome.enqueued_ns is not None and outcome.starting_ns is not None:
            self._time(("dagster_run_queue_seconds", job), outcome.starting_ns - outcome.enqueued_ns)

    def _step_ended(self, outcome: StepEnded, now_ns: int) -> None:
        if outcome.status == "retry":
            job = label_value(outcome.job)
            self.seen["job", job] = now_ns
            self.count(("dagster_step_retries_total", job))

    def _gone(self, outcome: AssetGone, now_ns: int) -> None:
        if not outcome.partitions:
            self.gone.add(("asset", label_value(outcome.asset)))


def _meant(at_ns: int, now_ns: int) -> int:
    """The event's own time; now, where it lies more than a day ahead: it would stay the latest for ever."""
    return now_ns if now_ns and at_ns > now_ns + DAY else at_ns


# By type, because a batch holds thousands and `match` tries one class after the other. `Any`: each takes its own
# outcome type, which a dict cannot say.
_TAKES: Final[Mapping[type, Callable[[Tally, Any, int], None]]] = {
    AssetPlanned: Tally._planned,
    AssetMaterialized: Tally._materialized,
    AssetFailed: Tally._failed,
    AssetObserved: Tally._observed,
    CheckEvaluated: Tally._evaluated,
    RunEnded: Tally._run_ended,
    StepEnded: Tally._step_ended,
    AssetGone: Tally._gone,
}


def twin_of(reading: Reading) -> "native.MetricTally":
    """What takes the outcomes of a batch at once; there must be twins."""
    labels = reading.checks
    asked = [*chain(*labels.failed_of_total), *labels.failed_alone, *labels.rate]
    return native.MetricTally(
        events,
        outcomes,
        Latest,
        list(reading.rows.items()),
        reading.written,
        reading.values,
        asked,
        label_value,
        lambda check: pass_rate(check, labels),
    )
