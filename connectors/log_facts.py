"""What a log record says of an event beyond its envelope: asset, status, duration, error, by the event's detail."""

from collections.abc import Callable
from typing import Any, Final, TypeVar

import msgspec

from pipeline.events import (
    LOG,
    AssetWiped,
    CheckPlanned,
    CheckResult,
    Event,
    Expectation,
    FreshnessChanged,
    HookFailed,
    LogFields,
    Marker,
    MaterializationFailed,
    MaterializationPlanned,
    Materialized,
    Observed,
    RetryScheduled,
    RunCanceled,
    RunFailed,
    StepFailed,
    StepSucceeded,
)
from pipeline.facts import ErrorInfo, Metadata
from pipeline.log_levels import waited_in_vain
from pipeline.outcomes import AssetFailed, AssetMaterialized, Outcome, RunEnded, StepEnded

T = TypeVar("T", bound=Outcome)

_MS: Final = 1_000_000
_LONGEST_MS: Final = 1e15
NO_EXTRA: Final[Metadata] = {}


class Facts(msgspec.Struct, frozen=True, gc=False):
    """What an event says. `repeated`: the error's stack stands on another record already."""

    status: str = ""
    asset: str = ""
    partition: str | None = None
    duration_ms: float | None = None
    error: ErrorInfo | None = None
    repeated: bool = False
    message: str = ""
    extra: Metadata = NO_EXTRA
    made: AssetMaterialized | None = None


_NOTHING: Final = Facts()
_SKIPPED: Final = Facts("skipped")

_PLAIN: Final = {
    "STEP_START": Facts("started"),
    "STEP_RESTARTED": Facts("started"),
    "STEP_SUCCESS": Facts("success"),
    "STEP_FAILURE": Facts("failure"),
    "STEP_UP_FOR_RETRY": Facts("retry"),
    "STEP_SKIPPED": Facts("skipped"),
    "PIPELINE_ENQUEUED": Facts("queued"),
    "PIPELINE_STARTING": Facts("starting"),
    "PIPELINE_START": Facts("started"),
    "PIPELINE_SUCCESS": Facts("success"),
    "PIPELINE_FAILURE": Facts("failure"),
    "PIPELINE_CANCELING": Facts("canceling"),
    "PIPELINE_CANCELED": Facts("canceled"),
}
"""By event type, for events that say no more than their type."""

STATUSES: Final = {kind: facts.status for kind, facts in _PLAIN.items()}
"""By event type, the status that it tells alone."""


def describe(event: Event) -> Facts:
    """What the event says. O(1), once an event.

    A step's success names no asset: `asset_name="x" | status="success"` asks for materializations, once each. Every
    other event of a step that makes one asset names it.
    """
    detail = event.detail
    if detail is not None:
        known = _DETAILS.get(type(detail))
        if known is not None:
            return known(event, detail)
    plain = _PLAIN.get(event.type)
    if plain is None:
        plain = _SKIPPED if event.type == LOG and waited_in_vain(event) else _NOTHING
    if event.type == "STEP_FAILURE":
        return _failed(event, None)
    asset = _only(event) if event.type != "STEP_SUCCESS" else ""
    took = _took_ms(_first(event, RunEnded) or _first(event, StepEnded)) if event.outcomes else None
    return Facts(plain.status, asset, duration_ms=took) if asset or took is not None else plain


def _planned(event: Event, detail: MaterializationPlanned) -> Facts:
    return Facts("planned", detail.asset, detail.partition)


def _step_succeeded(event: Event, detail: StepSucceeded) -> Facts:
    return Facts("success", duration_ms=detail.duration_ms)


def _step_failed(event: Event, detail: StepFailed) -> Facts:
    return _failed(event, detail.error)


def _failed(event: Event, error: ErrorInfo | None) -> Facts:
    failed = [o for o in event.outcomes if isinstance(o, AssetFailed)]
    took = _took_ms(_first(event, StepEnded))
    if len(failed) == 1:
        return Facts("failure", failed[0].asset, failed[0].partition, took, error)
    return Facts("failure", duration_ms=took, error=error)


def _retried(event: Event, detail: RetryScheduled) -> Facts:
    return Facts("retry", _only(event), None, _took_ms(_first(event, StepEnded)), detail.error)


def _materialized(event: Event, detail: Materialized) -> Facts:
    made = _first(event, AssetMaterialized)
    took = made.duration_ns if made is not None else None
    return Facts("success", detail.asset, detail.partition, None if took is None else took / _MS, made=made)


def _observed(event: Event, detail: Observed) -> Facts:
    return Facts("observed", detail.asset, detail.partition)


def _check_planned(event: Event, detail: CheckPlanned) -> Facts:
    return Facts("planned", detail.asset, extra={"check_name": detail.check})


def _check(event: Event, detail: CheckResult) -> Facts:
    """`passed` or `failed`, never `success` or `failure`: those are the asset's own."""
    extra: Metadata = {"check_name": detail.check, "check_severity": detail.severity}
    return Facts("passed" if detail.passed else "failed", detail.asset, detail.partition, extra=extra)


def _run_failed(event: Event, detail: RunFailed) -> Facts:
    took = _took_ms(_first(event, RunEnded))
    return Facts("failure", duration_ms=took, error=detail.error, repeated=detail.repeats_step)


def _run_canceled(event: Event, detail: RunCanceled) -> Facts:
    return Facts("canceled", duration_ms=_took_ms(_first(event, RunEnded)), error=detail.error)


def _marker(event: Event, detail: Marker | HookFailed) -> Facts:
    """One that failed names no asset: the step's failure that follows does."""
    if detail.error is not None:
        return Facts("failure", error=detail.error)
    return Facts("", event.assets[0]) if len(event.assets) == 1 else _NOTHING


def _freshness(event: Event, detail: FreshnessChanged) -> Facts:
    text = f"Freshness of {detail.asset}: {detail.previous or 'UNKNOWN'} → {detail.state}"
    return Facts(asset=detail.asset, message=event.message or text, extra={"freshness": detail.state})


def _not_materialized(event: Event, detail: MaterializationFailed) -> Facts:
    """Dagster+ says it of its own; a failure only where the ledger counts it, once an asset and run."""
    status = "failure" if _first(event, AssetFailed) is not None else ""
    return Facts(status, detail.asset, detail.partition, error=detail.error)


def _wiped(event: Event, detail: AssetWiped) -> Facts:
    return Facts("wiped", detail.asset, message=event.message or f"{detail.asset} was wiped")


def _expectation(event: Event, detail: Expectation) -> Facts:
    return Facts("passed" if detail.success else "failed", _only(event), extra={"expectation": detail.label})


def _fields(event: Event, detail: LogFields) -> Facts:
    """Where Dagster says nothing, what user code says under the same name stands: an error it handled, an asset."""
    said = detail.fields
    run_partition = event.run.partition if event.run is not None else None
    took = said.get("duration_ms")
    known = isinstance(took, int | float) and not isinstance(took, bool) and abs(took) < _LONGEST_MS
    return Facts(
        asset=_only(event) or _text(said, "asset_name"),
        partition=None if run_partition else _text(said, "partition") or None,
        duration_ms=float(took) if known and isinstance(took, int | float) else None,
        error=detail.error or _handled(said),
        extra=said,
    )


def _handled(said: Metadata) -> ErrorInfo | None:
    """The error in the fields that `get_logger().exception` adds, or that were given by hand."""
    kind, message, stack = (_text(said, f"error_{part}") for part in ("type", "message", "stack"))
    return ErrorInfo(kind, message, stack=stack) if kind or message or stack else None


def _text(said: Metadata, name: str) -> str:
    value = said.get(name)
    return value if isinstance(value, str) else ""


def _only(event: Event) -> str:
    return event.assets[0] if len(event.assets) == 1 else ""


def _first(event: Event, kind: type[T]) -> T | None:
    for outcome in event.outcomes:
        if isinstance(outcome, kind):
            return outcome
    return None


def _took_ms(ended: StepEnded | RunEnded | None) -> float | None:
    return None if ended is None else max(0, ended.at_ns - ended.started_ns) / _MS


# The detail's type is erased here (`Any`): the key is the type that its function takes.
_DETAILS: Final[dict[type, Callable[[Event, Any], Facts]]] = {
    MaterializationPlanned: _planned,
    StepSucceeded: _step_succeeded,
    StepFailed: _step_failed,
    RetryScheduled: _retried,
    Materialized: _materialized,
    Observed: _observed,
    CheckPlanned: _check_planned,
    CheckResult: _check,
    RunFailed: _run_failed,
    RunCanceled: _run_canceled,
    Marker: _marker,
    HookFailed: _marker,
    FreshnessChanged: _freshness,
    MaterializationFailed: _not_materialized,
    AssetWiped: _wiped,
    Expectation: _expectation,
    LogFields: _fields,
}
