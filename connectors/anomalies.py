"""The `anomalies` connector: what is slow, odd or stuck, measured by its own past.

Baselines are the last values of each asset, job or watched field, in state; a value is judged before it is learned.
What was told as odd is over with the next value that is not. Runs are watched by timers on domain time.
"""

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from fnmatch import fnmatchcase
from typing import Any, Literal

import msgspec

from connectors import anomaly_runs
from connectors.anomaly_runs import LEAD_NS, PHASES, OpenRun, StuckOption
from connectors.baseline import Baseline, BaselineOption, Usual, learned, usual
from connectors.metric_readings import number
from connectors.timers import Timers
from pipeline.batch import Batch
from pipeline.components import Connector, ConnectorSpec, Context, Table
from pipeline.conditions import Conditions, Of, span, url_problems
from pipeline.events import Event, LogFields
from pipeline.facts import Metadata
from pipeline.options import Duration
from pipeline.outcomes import AssetGone, AssetMaterialized, AssetObserved, RunEnded
from pipeline.signals import Alert, Severity, Signal

Key = tuple[str, ...]
"""What a baseline is of: ("slow", asset), ("rows", asset, label), ("run", job), ("watch", name, place)."""


class SlowOption(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When a success is slow (`slow_run`, WARNING): out of its range and `factor` times the median."""

    enabled: bool = True
    """Off: nothing is slow."""
    factor: float = 2.0
    """At least so many times the median."""
    excess: Duration = Duration("500ms")
    """And so much longer, so that 30 ms beside 10 ms is not slow."""
    jobs: bool = True
    """Whole runs, too, by their job, unless an asset of the run was slow already. Jobs that Dagster makes for a
    selection of assets (`__ASSET_JOB`) have no duration that is usual, and are left out."""

    def __post_init__(self) -> None:
        if self.factor < 1:
            raise ValueError("factor must be 1 or more")


class RowsOption(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When a row count is odd (`row_count_anomaly`, WARNING): out of its range."""

    enabled: bool = True
    """Off: no row count is odd."""
    side: Literal["above", "below", "both"] = "both"
    """Which side of the range is odd."""


class WatchOption(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A numeric field to be watched (`metric_anomaly`)."""

    field: str
    """Its label: in the metadata of materializations and observations, or a field of a structured log record."""
    asset: str = "*"
    """Key or pattern of the assets of which it is watched; `*`: of all, and of records without an asset."""
    side: Literal["above", "below", "both"] = "above"
    """Which side of the range is odd."""
    unit: str = ""
    """What stands behind the figures in messages (`ms`)."""
    severity: Severity = "INFO"
    """Of the alert."""


class AnomaliesConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Finds runs slower than usual, row counts and other figures out of their range, and runs that do not get on.

    Stands at the end of an events pipeline behind `run_ledger` (and `enrichment`, for owners), and begins an alerts
    pipeline. docs/sources.md explains it.
    """

    baseline: BaselineOption = BaselineOption()
    """What is usual, and how far from it is odd."""
    slow: SlowOption = SlowOption()
    """Slow successes."""
    rows: RowsOption = RowsOption()
    """Row counts."""
    watch: tuple[WatchOption, ...] = ()
    """Other figures: `[{field: response_time_ms, unit: ms}]`."""
    stuck: StuckOption = StuckOption()
    """Runs that never start or never end."""
    deployment: str = ""
    """Name of the deployment (`prod`): part of fingerprints."""
    dashboard_url: str = ""
    """Where an asset can be seen: `https://dagster.example.com/assets/{asset}`. Knows `{job}` and `{run_id}` too."""
    max_baselines: int = 50_000
    """Baselines that are kept at most; what comes beyond is never odd."""

    def problems(self) -> Iterator[tuple[str, str]]:
        """Path and message of each fault."""
        if self.max_baselines < 1:
            yield "max_baselines", "must be at least 1"
        yield from url_problems("dashboard_url", self.dashboard_url)


class Judged(msgspec.Struct, frozen=True):
    """One value of one thing, and what to say should it be odd."""

    key: Key
    value: float
    kind: str
    title: str
    severity: Severity
    of: Of
    side: Literal["above", "below", "both"]
    least: float = 0.0  # the value must be at least so many times the median …
    excess: float = 0.0  # … and so much more
    shown: Callable[[float], str] = lambda value: f"{value:,.6g}"
    note: str = ""


class Anomalies:
    """Whole-scoped: runs of one asset are in any shard."""

    lead_ns = LEAD_NS

    def __init__(self, config: AnomaliesConfig, context: Context) -> None:
        state = context.state
        self._baselines: Table[Key, Baseline] = state.table("baselines", tuple[str, ...], Baseline, version=1)
        self._runs: Table[str, OpenRun] = state.table("runs", str, OpenRun, version=1)
        self._config, self._log, self._once = config, context.log, context.once
        self._findings = Conditions(config.deployment, config.dashboard_url)
        self._due: Timers[str] = Timers(
            lambda: ((run.due_ns, id) for id, run in self._runs.items()),
            lambda id: run.due_ns if (run := self._runs.get(id)) else None,
        )
        self._watched = {option.field: option for option in config.watch}
        self._full_said = False

    async def process(self, batch: Batch[Event], /) -> Sequence[Alert]:
        """Findings in the order of the events that led to them."""
        given: list[Alert] = []
        self._due.begin()
        for event in batch.items:
            phase = PHASES.get(event.type)
            if phase is not None and event.run_id and event.raw:
                given += self._entered(event, phase)
            if self._watched and isinstance(event.detail, LogFields):
                given += self._watch(event, event.detail.fields, _place(event), Of(asset=_asset(event), job=event.job))
            for outcome in event.outcomes:
                if isinstance(outcome, AssetMaterialized):
                    given += self._materialized(event, outcome)
                elif isinstance(outcome, RunEnded):
                    given += self._ended(event, outcome)
                elif isinstance(outcome, AssetObserved):
                    given += self._watch(event, outcome.metadata, outcome.asset, Of(asset=outcome.asset))
                elif isinstance(outcome, AssetGone) and not outcome.partitions:
                    given += self._gone(outcome.asset, event.now_ns)
        self._due.done()
        return given

    def due(self) -> int | None:
        """When a run will have taken too long."""
        return self._due.due()

    async def on_time(self, now_ns: int) -> Sequence[Alert]:
        """The runs that have."""
        given: list[Alert] = []
        self._due.begin()
        for id in self._due.over(now_ns):
            run = self._runs.get(id)
            if run is not None:
                given.append(self._stuck(id, run, now_ns))
        self._due.done()
        return given

    # --- figures ---

    def _materialized(self, event: Event, o: AssetMaterialized) -> list[Alert]:
        given: list[Alert] = []
        slow, rows, of = self._config.slow, self._config.rows, Of(asset=o.asset, run=o.run)
        note = f" (partition {o.partition})" if o.partition else ""
        if slow.enabled and o.execution and o.duration_ns is not None:
            found = self._judge(event, Judged(
                ("slow", o.asset), float(o.duration_ns), "slow_run", "Slow Run", "WARNING", of, "above", slow.factor,
                slow.excess.ns, span, note,
            ))  # fmt: skip
            given += found
            run = self._runs.get(o.run)
            if run is not None and any(alert.state == "failing" for alert in found):
                self._runs.put(o.run, msgspec.structs.replace(run, slow=True))
        label = "dagster/partition_row_count" if o.partition else "dagster/row_count"
        label = label if label in o.metadata else "dagster/row_count"
        count = number(o.metadata.get(label)) if rows.enabled and label in o.metadata else None
        if count is not None:
            given += self._judge(event, Judged(
                ("rows", o.asset, label), count, "row_count_anomaly", "Unusual Row Count", "WARNING", of, rows.side,
                shown=lambda value: f"{value:,.0f} rows", note=note,
            ))  # fmt: skip
        return [*given, *self._watch(event, o.metadata, o.asset, Of(asset=o.asset, run=o.run))]

    def _watch(self, event: Event, fields: Metadata, place: str, of: Of) -> list[Alert]:
        given: list[Alert] = []
        for field, option in self._watched.items():
            value = number(fields.get(field)) if field in fields else None
            if value is None or not (option.asset == "*" or fnmatchcase(of.asset, option.asset)):
                continue
            unit = f" {option.unit}" if option.unit else ""
            given += self._judge(event, Judged(
                ("watch", field, place), value, "metric_anomaly", f"Unusual {field}", option.severity,
                msgspec.structs.replace(of, thing=field), option.side,
                shown=lambda value, unit=unit: f"{value:,.6g}{unit}",  # type: ignore[misc]  # bound in the loop
            ))  # fmt: skip
        return given

    def _judge(self, event: Event, each: Judged) -> list[Alert]:
        """Whether the value is odd beside those before; then it is one of them."""
        before = self._baselines.get(each.key)
        if before is None:
            if len(self._baselines) >= self._config.max_baselines:
                self._say_full()
                return []
            before = Baseline()
        is_usual = usual(before.values, self._config.baseline)
        median = is_usual.median if is_usual else 0.0
        odd = (
            is_usual is not None
            and is_usual.odd(each.value, each.side)
            and each.value >= each.least * median
            and (not each.excess or each.value - median >= each.excess)
        )
        self._baselines.put(each.key, learned(before, each.value, odd, self._config.baseline))
        if odd and is_usual is not None:
            return [self._failing(event, each, _words(each, is_usual))]
        return [self._findings.recovered(each.kind, each.of, event.now_ns, event.at_ns)] if before.told else []

    def _failing(self, event: Event, each: Judged, said: str) -> Alert:
        facts = event.catalog.assets.get(each.of.asset) if event.catalog and each.of.asset else None
        return self._findings.failing(
            each.kind, each.severity, each.title, said, each.of, event.now_ns, event.at_ns, facts
        )

    def _gone(self, asset: str, now_ns: int) -> list[Alert]:
        """The asset was wiped: its past says nothing of what comes."""
        kinds = {"slow": "slow_run", "rows": "row_count_anomaly", "watch": "metric_anomaly"}
        given: list[Alert] = []
        for key, baseline in sorted(self._baselines.items()):
            if key[0] == "run" or key[-1 if key[0] == "watch" else 1] != asset:
                continue
            if baseline.told:
                of = Of(asset=asset, thing=key[1] if key[0] == "watch" else "")
                given.append(self._findings.recovered(kinds[key[0]], of, now_ns))
            self._baselines.delete(key)
        return given

    # --- runs ---

    def _entered(self, event: Event, phase: anomaly_runs.Phase) -> list[Alert]:
        before = self._runs.get(event.run_id)
        if before is None and len(self._runs) >= self._config.stuck.max_runs:
            return []
        at_ns = min(event.at_ns, event.now_ns)
        run = anomaly_runs.entered(before, event.job, phase, at_ns, self._usual_run(event.job))
        if run is before:
            return []
        given = [] if before is None or not before.told else self._got_on(event.run_id, before, event.now_ns)
        partition = event.run.partition if event.run else None
        fresh = msgspec.structs.replace(run, told=False, partition=partition)
        self._put(event.run_id, anomaly_runs.armed(fresh, self._config.stuck, event.now_ns))
        return given

    def _stuck(self, id: str, run: OpenRun, now_ns: int) -> Alert:
        self._put(id, msgspec.structs.replace(run, told=True, due_ns=0))
        of = Of(job=run.job, run=id)
        said = anomaly_runs.words(run, now_ns)
        title = anomaly_runs.title(run)
        return self._findings.failing("run_stuck", anomaly_runs.severity(run), title, said, of, now_ns)

    def _got_on(self, id: str, run: OpenRun, now_ns: int) -> list[Alert]:
        """A run that was told to be stuck no longer is; its job is well when no other of it is."""
        others = (other for key, other in self._runs.items() if key != id and other.job == run.job and other.told)
        if next(others, None) is not None:
            return []
        return [self._findings.recovered("run_stuck", Of(job=run.job, run=id), now_ns)]

    def _ended(self, event: Event, o: RunEnded) -> list[Alert]:
        run = self._runs.get(o.run)
        if o.status == "unfinished":
            return [] if self._once or run is None else self._lost(o.run, run, event.now_ns)
        given: list[Alert] = []
        if run is not None:
            given += self._got_on(o.run, run, event.now_ns) if run.told else []
            self._runs.delete(o.run)
        if o.status == "success":
            given += self._found_again(o.job, event.now_ns)
            given += self._duration(event, o, run)
        return given

    def _lost(self, id: str, run: OpenRun, now_ns: int) -> list[Alert]:
        """Nothing was heard of it for so long that it was given up."""
        lost = msgspec.structs.replace(run, phase="lost", due_ns=0)
        if run.told:
            self._put(id, lost)
            return []
        return [self._stuck(id, lost, now_ns)]

    def _found_again(self, job: str, now_ns: int) -> list[Alert]:
        """The job has succeeded: what was lost of it is over."""
        lost = [id for id, run in self._runs.items() if run.phase == "lost" and run.job == job]
        given: list[Alert] = []
        for id in sorted(lost):
            run = self._runs.get(id)
            given += self._got_on(id, run, now_ns) if run is not None else []
            self._runs.delete(id)
        return given

    def _duration(self, event: Event, o: RunEnded, run: OpenRun | None) -> list[Alert]:
        slow, took_ns = self._config.slow, o.at_ns - o.started_ns
        if not slow.enabled or not o.job or o.job.startswith("__") or took_ns < 0 or o.late:
            return []
        key = ("run", o.job)
        told_already = run is not None and (run.told or run.slow)
        if not slow.jobs or told_already:
            before = self._baselines.get(key) or Baseline()
            if key in self._baselines or len(self._baselines) < self._config.max_baselines:
                self._baselines.put(key, learned(before, float(took_ns), before.told, self._config.baseline))
            return []
        of = Of(job=o.job, run=o.run)
        return self._judge(event, Judged(
            key, float(took_ns), "slow_run", "Slow Run", "WARNING", of, "above", slow.factor, slow.excess.ns, span
        ))  # fmt: skip

    def _usual_run(self, job: str) -> int:
        known = self._baselines.get(("run", job))
        is_usual = usual(known.values, self._config.baseline) if known else None
        return round(is_usual.median) if is_usual else 0

    def _put(self, id: str, run: OpenRun) -> None:
        self._runs.put(id, run)
        self._due.set(run.due_ns, id)

    def _say_full(self) -> None:
        if not self._full_said:
            self._full_said = True
            most = self._config.max_baselines
            self._log.warning("Too many baselines, what comes beyond is never odd.", extra={"max_baselines": most})


def _words(each: Judged, usual: Usual) -> str:
    """`1.2 s against 500 ms, the median of the last 20.`"""
    said = f"{each.shown(each.value)} against {each.shown(usual.median)}, the median of the last {usual.of}{each.note}"
    if each.side == "above":
        return f"{said}."
    return f"{said}. Usual is {each.shown(max(0.0, usual.low))} to {each.shown(usual.high)}."


def _asset(event: Event) -> str:
    """The asset that a log record is about: that of its step, where it makes one."""
    return event.assets[0] if len(event.assets) == 1 else ""


def _place(event: Event) -> str:
    return _asset(event) or f"{event.job}/{event.step_key}"


@asynccontextmanager
async def build(config: AnomaliesConfig, context: Context) -> AsyncIterator[Connector[Event, Alert]]:
    yield Anomalies(config, context)


SPEC: ConnectorSpec[Any] = ConnectorSpec(
    "anomalies",
    AnomaliesConfig,
    build,
    takes=Signal.EVENTS,
    gives=Signal.ALERTS,
    scope="whole",
    needs=("run_ledger",),
)
