"""Hypothesis strategies for what flows in pipelines: `items(Signal.LOGS)` draws what one batch after another may hold.

Events are drawn as runs: queued, planned, attempted, retried, checked, ended, with what Dagster also does (steps that
never start, ends that come twice, runs that never end) and what it does not do yet (types nobody knows). Several runs
are mixed by time, and some events come again, as brokers do. Domain time (`now_ns`) never goes back within a list.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

import msgspec
from hypothesis import strategies as st

from pipeline.clock import HOUR, SECOND
from pipeline.events import Event
from pipeline.facts import ErrorInfo, Metadata
from pipeline.lineage import AssetFacts, Catalog, Impact
from pipeline.signals import (
    Alert,
    AlertState,
    Attribute,
    Edges,
    HistogramValue,
    LogRecord,
    Sample,
    Signal,
    Span,
    SpanEvent,
    SpanLink,
)
from pipeline.testing.builders import CHECK_FAILED, INTERRUPTED, START_NS, Fault, Log

ITEM_TYPES: dict[Signal, tuple[type, ...]] = {
    Signal.EVENTS: (Event,),
    Signal.TRACES: (Span,),
    Signal.METRICS: (Sample,),
    Signal.LOGS: (LogRecord,),
    Signal.ALERTS: (Alert, Edges),
}
"""What flows in a pipeline of each signal."""

RUNS = ("0af76519-16cd-43dd-8448-eb211c80319c", "77de81d2-5a1d-4e0c-9a0c-2f0f0a5b7f11", "run-1", "")
"""Run ids: mostly UUIDs; in tests of Dagster they are any text, and events outside of runs have none."""
STEPS = ("a", "b", "graph.first", "mapped[x]")
ASSETS = {"raw/orders": "a", "raw/users": "a", "mart": "b", "graph/out": "graph.first"}

_STRANGE = (
    "",
    'quote " and \\',
    "two\nlines",
    "🔴 ü ☃",
    "\x1b[31m\x00\u202e",
    "{job=~`.*`}",
    "x" * 500,
    "password=hunter2",
)
_GAPS_S = (0, 0, 0.001, 1, 60, 3600, 7 * 3600, -5)


def texts() -> st.SearchStrategy[str]:
    """Text that somebody wrote: plain, empty, long, with quotes, line ends and control characters. Valid Unicode."""
    return st.sampled_from((*_STRANGE, "plain")) | st.text(max_size=6)


def items(signal: Signal) -> st.SearchStrategy[list[Any]]:
    """Items as they flow in a pipeline of this signal, in order; sometimes none."""
    made: dict[Signal, Callable[[], st.SearchStrategy[list[Any]]]] = {
        Signal.EVENTS: event_logs,
        Signal.TRACES: lambda: st.lists(spans(), max_size=8),
        Signal.METRICS: lambda: st.lists(samples(), max_size=12),
        Signal.LOGS: lambda: st.lists(log_records(), max_size=10),
        Signal.ALERTS: alerts,
    }
    return made[signal]()


# --- events ----------------------------------------------------------------------------------------------------------

_Action = Callable[[Log], Log]


def _actions() -> list[_Action]:
    of_steps: list[_Action] = [
        action
        for step in STEPS
        for action in (
            partial(Log.step_start, step=step),
            partial(Log.step_up_for_retry, step=step),
            partial(Log.step_restarted, step=step),
            partial(Log.step_success, step=step),
            partial(Log.step_failure, step=step),
            partial(Log.step_failure, step=step, error=INTERRUPTED, source="INTERRUPT"),
            partial(Log.step_failure, step=step, error=CHECK_FAILED),
            partial(Log.step_skipped, step=step),
            partial(Log.handled_output, step=step),
            partial(Log.not_executed, step=step, because="a"),
            partial(Log.log, message="hello", step=step, level=40),
        )
    ]
    of_assets: list[_Action] = [
        action
        for asset, step in ASSETS.items()
        for action in (
            partial(Log.plan, asset=asset, step=step),
            partial(Log.materialize, asset=asset, step=step, metadata={"dagster/row_count": 5, "note": "x"}),
            partial(Log.materialize, asset=asset, step=step, partition="2025-01-01"),
            partial(Log.observe, asset=asset, step=step),
            partial(Log.plan_check, asset=asset, check="fresh", step=step),
            partial(Log.check, asset=asset, check="fresh", step=step),
            partial(Log.check, asset=asset, check="fresh", passed=False, severity="WARN", step=step),
        )
    ]
    of_runs: list[_Action] = [
        partial(Log.marker, type="ENGINE_EVENT", start="init"),
        partial(Log.marker, type="ENGINE_EVENT", end="init"),
        partial(Log.freshness, asset="mart"),
        partial(Log.wiped, asset="mart"),
        partial(Log.add, type="SOMETHING_NEW"),
        Log.run_start,
        *_ENDS,
    ]
    return [*of_steps, *of_assets, *of_runs]


_ENDS: tuple[_Action, ...] = (
    Log.run_success,
    partial(Log.run_failure, error=Fault()),
    partial(Log.run_failure, reason="START_TIMEOUT"),
    Log.run_canceled,
)
_ACTIONS = _actions()


@st.composite
def run_logs(draw: st.DrawFn, run: str, start_ns: int = START_NS) -> list[Event]:
    """The events of one run. Half of them as Dagster writes them, half in an order that nobody expects."""
    log = Log(run, start_ns=start_ns)
    if draw(st.booleans()):
        _likely(draw, log)
    for action in draw(st.lists(st.sampled_from(_ACTIONS), max_size=8)):
        log.after(draw(st.sampled_from(_GAPS_S)))
        action(log)
    return log.events()


def _likely(draw: st.DrawFn, log: Log) -> None:
    log.run_queued(code_location=draw(st.sampled_from(["", "shop"]))).run_starting().run_start()
    for step in draw(st.lists(st.sampled_from(STEPS), unique=True, max_size=3)):
        assets = [asset for asset, maker in ASSETS.items() if maker == step]
        for asset in assets:
            log.plan(asset, step)
        log.step_start(step)
        if draw(st.booleans()):
            log.step_up_for_retry(step).step_restarted(step)
        if draw(st.booleans()):
            for asset in assets:
                log.materialize(asset, step)
            log.step_success(step)
        else:
            log.step_failure(step)
    draw(st.sampled_from((*_ENDS, lambda log: log)))(log)


@st.composite
def event_logs(draw: st.DrawFn) -> list[Event]:
    """Several runs, mixed by time, as one source gives them; the domain time is the highest event time so far.

    The asset graph is the same for all, as in a batch, or nobody knows one.
    """
    found: list[Event] = []
    for run in draw(st.lists(st.sampled_from(RUNS), unique=True, max_size=3)):
        found += draw(run_logs(run, START_NS + draw(st.integers(0, 20)) * SECOND))
    found.sort(key=lambda event: event.at_ns // (10 * SECOND))
    for index in draw(st.lists(st.integers(0, max(0, len(found) - 1)), max_size=2)) if found else ():
        found.append(msgspec.structs.replace(found[index]))
    return _as_read(found, draw(st.sampled_from([None, _GRAPH])))


_GRAPH = Catalog({key: AssetFacts(key, checks=("fresh",), owners=("@data",)) for key in ASSETS}, version=1)


def _as_read(events: Sequence[Event], graph: Catalog | None) -> list[Event]:
    now_ns, read = 0, []
    for offset, event in enumerate(events):
        now_ns = max(now_ns, event.at_ns)
        read.append(msgspec.structs.replace(event, source="memory", offset=offset, now_ns=now_ns, catalog=graph))
    return read


# --- what leaves -----------------------------------------------------------------------------------------------------


def times() -> st.SearchStrategy[int]:
    """Unix ns: mostly of one day, sometimes before 1970 began or far away."""
    return st.integers(0, 24).map(lambda hour: START_NS + hour * HOUR) | st.sampled_from([0, 1, START_NS + 1, 2**62])


def errors() -> st.SearchStrategy[ErrorInfo]:
    """An error with or without a frame of the user's."""
    return st.sampled_from(
        [
            ErrorInfo(type, text, file, line, function, chain=(type,), stack=text)
            for type, text in zip(("ValueError", "KeyError") * len(_STRANGE), _STRANGE, strict=False)
            for file, line, function in (("", 0, ""), ("/opt/project/defs.py", 17, "compute"))
        ]
    )


_METADATA: list[Metadata] = [
    {},
    {"rows": 2**40, "ratio": 0.5, "token": "hunter2", "none": None},
    {"job_name": "not ours", "deep": {"a": [1, {"b": None}]}, "über": True},
]
_ATTRIBUTES: list[dict[str, Attribute]] = [
    {},
    {"dagster.run.id": "run-1", "rows": 2**62, "ratio": 0.5, "password": "hunter2"},
    {"asset": ("a", "b"), "none": (), "flag": True, "text": 'quote " and \\'},
]


@st.composite
def log_records(draw: st.DrawFn) -> LogRecord:
    """A log line of any kind."""
    return LogRecord(
        draw(times()),
        draw(st.sampled_from(["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"])),
        draw(st.sampled_from(["LOG", "STEP_FAILURE", "ASSET_MATERIALIZATION"])),
        draw(texts()),
        event_id=f"memory@{draw(st.integers(0, 99))}",
        run_id=draw(st.sampled_from(RUNS)),
        job_name="nightly",
        asset_name=draw(st.sampled_from(["", *ASSETS])),
        status=draw(st.sampled_from(["", "success", "failure"])),
        duration_ms=draw(st.sampled_from([None, 0.0, 1240.5])),
        error_message=draw(st.sampled_from(_STRANGE)),
        extra=dict(draw(st.sampled_from(_METADATA))),
    )


@st.composite
def spans(draw: st.DrawFn) -> Span:
    """A finished span; some end before they begin, as clocks of two machines have it."""
    number = draw(st.integers(1, 9))
    attributes = st.sampled_from(_ATTRIBUTES).map(dict)
    event = SpanEvent(draw(st.sampled_from(_STRANGE)), START_NS, draw(attributes))
    link = SpanLink(f"{number:032x}", f"{number:016x}")
    return Span(
        f"{number:032x}",
        f"{draw(st.integers(1, 99)):016x}",
        draw(st.sampled_from(["", f"{number:016x}"])),
        draw(texts()),
        draw(times()),
        draw(times()),
        draw(attributes),
        draw(st.sampled_from([(("service.name", "dagster"),), ()])),
        events=(event,) * draw(st.integers(0, 2)),
        links=(link,) * draw(st.integers(0, 1)),
        error=draw(st.sampled_from([None, *_STRANGE])),
    )


_KINDS: tuple[Literal["counter", "gauge", "histogram"], ...] = ("counter", "gauge", "histogram")


@st.composite
def samples(draw: st.DrawFn) -> Sample:
    """A figure; a metric is always of one kind, and sometimes a series ends (value None)."""
    kind, number = draw(st.sampled_from(_KINDS)), draw(st.integers(-1, 1000))
    labels = (("asset_name", draw(st.sampled_from(_STRANGE))), ("status", "success"))
    value: float | HistogramValue | None = None
    if number >= 0:
        value = (
            HistogramValue((1.0, 10.0), (number, 2 * number), 2 * number, 2.5) if kind == "histogram" else float(number)
        )
    return Sample(
        f"asset_{kind}", kind, labels[: draw(st.integers(0, 2))], value, draw(times()), "What it is.", START_NS
    )


_STATES: tuple[AlertState, ...] = ("failing", "recovered", "firing", "digest", "escalated", "repeated", "resolved")


@st.composite
def alerts(draw: st.DrawFn) -> list[Alert | Edges]:
    """What flows in an alerts pipeline: findings, notifications, and edges; time goes on by seconds or hours."""
    found: list[Alert | Edges] = []
    now_ns = START_NS
    for gap_s in draw(st.lists(st.sampled_from([0, 1, 600, 3600, 6 * 3600]), max_size=10)):
        now_ns += gap_s * SECOND
        if draw(st.integers(0, 7)):
            found.append(draw(_alert(now_ns)))
        else:
            asset = draw(st.sampled_from(list(ASSETS)))
            found.append(Edges(asset, ("raw/orders", "mart"), now_ns))
    return found


@st.composite
def _alert(draw: st.DrawFn, now_ns: int) -> Alert:
    asset = draw(st.sampled_from([*ASSETS, ""]))
    return Alert(
        kind="asset_failure" if asset else "run_failure",
        state=draw(st.sampled_from(_STATES) | st.sampled_from(_STATES[:2])),
        severity=draw(st.sampled_from(["INFO", "WARNING", "ERROR", "CRITICAL"])),
        fingerprint=f"v1-{asset}",
        now_ns=now_ns,
        first_ns=now_ns,
        last_ns=now_ns,
        title=draw(st.sampled_from(_STRANGE)),
        summary=draw(st.sampled_from(_STRANGE)),
        asset=asset,
        job="nightly",
        run_id=draw(st.sampled_from(RUNS)),
        partition=draw(st.sampled_from([None, "2025-01-01"])),
        error=draw(st.none() | errors()),
        impact=draw(st.sampled_from([None, Impact({"mart": 1}, ("Dashboard",), ("@data",), ("dashboard",))])),
    )


EXAMPLES: dict[Signal, Any] = {
    Signal.EVENTS: Log("run-1").step_start("a").events()[0],
    Signal.TRACES: Span(f"{1:032x}", f"{2:016x}", "", "step a", START_NS, START_NS + SECOND, {}, ()),
    Signal.METRICS: Sample("asset_executions_total", "counter", (("asset_name", "mart"),), 1.0, START_NS),
    Signal.LOGS: LogRecord(START_NS, "INFO", "LOG", "hello", "memory@1"),
    Signal.ALERTS: Alert("asset_failure", "firing", "ERROR", "v1-mart", START_NS, START_NS, START_NS, asset="mart"),
}
"""A plain item of each signal."""
