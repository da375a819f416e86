"""One calm line an item, for people: time, level or state, subject, what happened. Pure."""

from collections.abc import Callable
from typing import Any, Final

from exporters.inert_text import inert
from exporters.json_lines import Item, encode_lines
from exporters.log_lines import rfc3339
from pipeline import names
from pipeline.clock import seconds
from pipeline.events import Event
from pipeline.signals import Alert, HistogramValue, LogRecord, Sample, Span

_WORDS: Final = {Event: "events", Span: "spans", LogRecord: "log records", Sample: "samples", Alert: "alerts"}
_LONG: Final = 240


def summary(items: "tuple[Item, ...] | list[Item]") -> str:
    """How many of what: `12 spans`."""
    word = _WORDS[type(items[0])]
    return f"{len(items)} {word[:-1] if len(items) == 1 else word}"


def line(item: Item) -> str:
    """The item on one line of bearable length, inert for a terminal."""
    text = inert(_LINES[type(item)](item))
    return text if len(text) <= _LONG else f"{text[: _LONG - 1]}…"


def details(item: Item) -> str:
    """The whole item as JSON, on one line, inert for a terminal."""
    return inert(encode_lines([item]).decode().rstrip("\n"))


def _event(event: Event) -> str:
    subject = event.step_key or event.job or (event.assets[0] if event.assets else "–")
    return f"{_clock(event.at_ns)} event {event.type} {subject}{_run(event.run_id)}: {event.message}"


def _span(span: Span) -> str:
    state = "✗" if span.error is not None else "✓" if span.ok else "·"
    why = f": {span.error}" if span.error else ""
    run = span.attributes.get(names.PIPELINE_RUN_ID)
    return f"{_clock(span.end_ns)} span  {state} {span.name} {_took(span)}{_run(str(run or ''))}{why}"


def _took(span: Span) -> str:
    took = seconds(max(0, span.end_ns - span.start_ns))
    return f"{took * 1000:,.0f}ms" if took < 10 else f"{took:,.1f}s"


def _record(record: LogRecord) -> str:
    subject = record.asset_name or record.step_key or record.job_name or "–"
    error = f" ({record.error_type}: {record.error_message})" if record.error_type else ""
    text = record.message or record.event
    return f"{_clock(record.at_ns)} log   {record.level:<8} {subject}: {text}{error}"


def _sample(sample: Sample) -> str:
    labels = ", ".join(f"{name}={value}" for name, value in sample.labels)
    value = sample.value
    if isinstance(value, HistogramValue):
        figure = f"{value.count} times, {value.sum:g} in all"
    else:
        figure = "gone" if value is None else f"{value:g}"
    return f"{_clock(sample.at_ns)} metric {sample.name}{{{labels}}} = {figure}"


def _alert(alert: Alert) -> str:
    subject = alert.asset or alert.step_key or alert.job or "–"
    error = f": {alert.error.type}: {alert.error.message}" if alert.error is not None else ""
    times = f" ×{alert.count}" if alert.count > 1 else ""
    stale = f" · {len(alert.impact.assets)} assets downstream" if alert.impact and alert.impact.assets else ""
    return f"{_clock(alert.now_ns)} alert {alert.state.upper()} {alert.severity} {subject}{times}{error}{stale}"


def _run(run_id: str) -> str:
    return f" (run {run_id[:8]})" if run_id else ""


def _clock(at_ns: int) -> str:
    return rfc3339(at_ns)[11:23] if at_ns else "--:--:--.---"


# The item type is erased here (`Any`): the key is the type that its function takes.
_LINES: Final[dict[type, Callable[[Any], str]]] = {
    Event: _event,
    Span: _span,
    LogRecord: _record,
    Sample: _sample,
    Alert: _alert,
}
