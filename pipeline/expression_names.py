"""The names that expressions may use of the items of each signal, and what they mean: docs/filter.md is made of this.

Texts that an item does not have are "", so that conditions need not ask first; maps have only the keys they have.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from pipeline.events import Event
from pipeline.signals import Alert, HistogramValue, LogRecord, Sample, Signal, Span


class Variable(msgspec.Struct, frozen=True):
    """A name that expressions may use. `example` has its type; `meaning` is a line for the docs."""

    read: Callable[[Any], object]  # takes an item of the signal, which a table over all signals cannot say
    example: object
    meaning: str


def _of(name: str) -> Callable[[Any], object]:
    return lambda item: getattr(item, name)


def _listed(name: str) -> Callable[[Any], object]:
    return lambda item: list(getattr(item, name))


def _text(name: str, meaning: str) -> Variable:
    return Variable(_of(name), "", meaning)


def _tags(event: Event) -> dict[str, str]:
    return event.run.tags if event.run else {}


def _kind(outcome: object) -> str:
    return str(getattr(outcome, "__struct_config__").tag)  # noqa: B009  # msgspec's own name of a tagged type


_EVENT: Final = {
    "type": _text("type", "Dagster's event type, PIPELINE_* names; `LOG` for a log message"),
    "run_id": _text("run_id", 'the run, "" for an event without one'),
    "job": _text("job", "the job's name"),
    "step_key": _text("step_key", 'the step, "" for none'),
    "step_kind": _text("step_kind", "Dagster's step kind"),
    "message": _text("message", "the event's text"),
    "source": _text("source", "where it was read: `dagster.events/3`"),
    "level": Variable(_of("level"), 20, "Python's level, 10 to 50"),
    "attempt": Variable(_of("attempt"), 1, "attempt of its step, from 1; 0 outside a step (after run_ledger)"),
    "assets": Variable(_listed("assets"), ["a"], "asset keys that its step makes (after run_ledger)"),
    "outcomes": Variable(
        lambda event: [_kind(o) for o in event.outcomes], ["a"], "what came of it: `asset_failed`, … (after run_ledger)"
    ),
    "tags": Variable(_tags, {"a": "b"}, "the run's tags (after enrichment)"),
    "code_location": Variable(lambda event: event.run.code_location if event.run else "", "", "(after enrichment)"),
    "partition": Variable(lambda event: (event.run.partition or "") if event.run else "", "", "(after enrichment)"),
}
_LOG: Final = {
    name: _text(name, meaning)
    for name, meaning in (
        ("level", "DEBUG, INFO, WARNING, ERROR, CRITICAL"),
        ("event", "the event's type"),
        ("message", "the text"),
        ("run_id", "the run"),
        ("job_name", "the job"),
        ("step_key", "the step"),
        ("asset_name", "the asset"),
        ("status", "started, success, failure, retry, …"),
        ("error_type", "class of the error"),
        ("error_message", "text of the error"),
        ("code_location", "the code location"),
    )
} | {
    "partition": Variable(lambda log: log.partition or "", "", "the partition"),
    "derived": Variable(_of("derived"), False, "one asset's copy of a step's record"),
    "extra": Variable(_of("extra"), msgspec.UNSET, "fields of `get_logger()`, a map"),
}
_SPAN: Final = {
    "name": _text("name", "the span's name"),
    "trace_id": _text("trace_id", "the trace, 32 hex digits"),
    "parent_id": _text("parent_id", 'the parent span, "" for a root'),
    "duration_ms": Variable(lambda span: (span.end_ns - span.start_ns) / 1e6, 1.0, "how long it took"),
    "failed": Variable(lambda span: span.error is not None, False, "it ended in an error"),
    "attributes": Variable(_of("attributes"), msgspec.UNSET, "its attributes, a map"),
    "resource": Variable(lambda span: dict(span.resource), {"a": "b"}, "attributes of its resource"),
}
_SAMPLE: Final = {
    "name": _text("name", "the metric's name"),
    "kind": _text("kind", "counter, gauge, histogram"),
    "labels": Variable(lambda sample: dict(sample.labels), {"a": "b"}, "its labels"),
    "value": Variable(
        lambda s: float(s.value.count if isinstance(s.value, HistogramValue) else s.value or 0),
        1.0,
        "its figure; of a histogram the count",
    ),
}
_ALERT: Final = {
    name: _text(name, meaning)
    for name, meaning in (
        ("kind", "asset_failure, check_failure, run_failure, …"),
        ("state", "failing, recovered, firing, digest, escalated, repeated, resolved"),
        ("severity", "INFO, WARNING, ERROR, CRITICAL"),
        ("asset", "the asset"),
        ("check", "the check"),
        ("step_key", "the step"),
        ("job", "the job"),
        ("run_id", "the run"),
        ("title", "the title"),
        ("summary", "the summary"),
        ("group", "the asset's group"),
        ("code_location", "the code location"),
        ("fingerprint", "what is the same problem"),
    )
} | {
    "partition": Variable(lambda alert: alert.partition or "", "", "the partition"),
    "assets": Variable(
        lambda alert: list(alert.assets) or ([alert.asset] if alert.asset else []),
        ["a"],
        "`asset`, and the others that one failure of their step took along",
    ),
    "owners": Variable(_listed("owners"), ["a"], "owners of the asset"),
    "count": Variable(_of("count"), 1, "how often it happened"),
    "error_type": Variable(lambda alert: alert.error.type if alert.error else "", "", "class of the error"),
    "error_message": Variable(lambda alert: alert.error.message if alert.error else "", "", "text of the error"),
    "impact": Variable(
        lambda alert: list(alert.impact.assets) if alert.impact else [], ["a"], "stale assets (after lineage_impact)"
    ),
    "tags": Variable(_of("tags"), {"a": "b"}, "the run's tags"),
}

VARIABLES: Final[Mapping[Signal, Mapping[str, Variable]]] = {
    Signal.EVENTS: _EVENT,
    Signal.LOGS: _LOG,
    Signal.TRACES: _SPAN,
    Signal.METRICS: _SAMPLE,
    Signal.ALERTS: _ALERT,
}
ITEMS: Final[Mapping[type, Signal]] = {
    Event: Signal.EVENTS,
    LogRecord: Signal.LOGS,
    Span: Signal.TRACES,
    Sample: Signal.METRICS,
    Alert: Signal.ALERTS,
}
