"""The part of an event that is its type's own (`event_specific_data`), as the kernel's Detail types.

Only types that somebody reads have a reader here; the others (STEP_OUTPUT, LOGS_CAPTURED, what tomorrow's Dagster adds)
keep `detail=None`. A detail of another shape than expected is None too: the event itself is never lost over it, as
Dagster's own reader does not lose it. Fields are read by key, so that both old and new versions pass.
"""

from collections.abc import Callable
from typing import Final, TypeAlias

import msgspec
from msgspec import Raw

from pipeline import events as ev
from pipeline.facts import Metadata
from receivers import wire_repair
from receivers.wire_errors import error_info
from receivers.wire_metadata import metadata
from receivers.wire_shapes import (
    Check,
    CheckPlanned,
    Engine,
    Enqueued,
    Expectation,
    Failed,
    Freshness,
    Io,
    LooseCheck,
    LooseFailed,
    LooseMaterialization,
    LooseObservation,
    Materialization,
    NotMade,
    NotMadeData,
    Observation,
    Planned,
    Success,
    Wiped,
    member,
)

MARKER: Final = " ⟦dagtel⟧"
"""Stands between a log message's text and its structured fields, as `dagster_dagtel.get_logger()` writes them."""

Reader: TypeAlias = Callable[[Raw], ev.Detail | None]


_fields = msgspec.json.Decoder(dict[str, object]).decode

_decode_planned = msgspec.json.Decoder(Planned).decode
_decode_check_planned = msgspec.json.Decoder(CheckPlanned).decode
_decode_materialization = msgspec.json.Decoder(Materialization).decode
_decode_loose_materialization = msgspec.json.Decoder(LooseMaterialization).decode
_decode_loose_observation = msgspec.json.Decoder(LooseObservation).decode
_decode_observation = msgspec.json.Decoder(Observation).decode
_decode_check = msgspec.json.Decoder(Check).decode
_decode_loose_check = msgspec.json.Decoder(LooseCheck).decode
_decode_failed = msgspec.json.Decoder(Failed | None).decode
_decode_loose_failed = msgspec.json.Decoder(LooseFailed).decode
_decode_success = msgspec.json.Decoder(Success).decode
_decode_engine = msgspec.json.Decoder(Engine | None).decode
_decode_io = msgspec.json.Decoder(Io).decode
_decode_enqueued = msgspec.json.Decoder(Enqueued | None).decode
_decode_freshness = msgspec.json.Decoder(Freshness).decode
_decode_not_made = msgspec.json.Decoder(NotMade).decode
_decode_expectation = msgspec.json.Decoder(Expectation).decode
_decode_wiped = msgspec.json.Decoder(Wiped).decode


def _is_null(raw: Raw) -> bool:
    return len(raw) == 4  # no object or list that Dagster writes here is as short


def planned(raw: Raw) -> ev.MaterializationPlanned:
    data = _decode_planned(raw)
    return ev.MaterializationPlanned("/".join(data.asset_key.path), data.partition)


def check_planned(raw: Raw) -> ev.CheckPlanned:
    data = _decode_check_planned(raw)
    return ev.CheckPlanned(data.asset_key.joined(), data.check_name)


def _labels(entries: Raw, by_name: Raw) -> Metadata:
    return metadata(by_name if _is_null(entries) else entries)


def materialized(raw: Raw) -> ev.Materialized:
    try:
        data = _decode_materialization(raw).materialization
    except msgspec.ValidationError:
        data = _decode_loose_materialization(raw).materialization.firm()
    return ev.Materialized(
        "/".join(data.asset_key.path),
        data.partition,
        _labels(data.metadata_entries, data.metadata),
        data.tags or {},
        data.description,
    )


def observed(raw: Raw) -> ev.Observed:
    try:
        data = _decode_observation(raw).asset_observation
    except msgspec.ValidationError:
        data = _decode_loose_observation(raw).asset_observation.firm()
    return ev.Observed(
        "/".join(data.asset_key.path),
        data.partition,
        _labels(data.metadata_entries, data.metadata),
        data.tags or {},
    )


def check_result(raw: Raw) -> ev.CheckResult | None:
    try:
        data = _decode_check(raw)
    except msgspec.ValidationError:
        data = _decode_loose_check(raw).firm()
    passed = data.passed if data.success is None else data.success
    if passed is None:
        return None
    return ev.CheckResult(
        data.asset_key.joined(),
        data.check_name,
        passed,
        member(data.severity) or "ERROR",
        bool(data.blocking),
        data.partition,
        data.description,
        _labels(data.metadata, data.metadata_entries),
    )


def _failed(raw: Raw) -> Failed:
    try:
        return _decode_failed(raw) or Failed()
    except msgspec.ValidationError:
        return _decode_loose_failed(raw).firm()


def step_failed(raw: Raw) -> ev.StepFailed:
    data = _failed(raw)
    return ev.StepFailed(error_info(data.error), member(data.error_source))


def retry_scheduled(raw: Raw) -> ev.RetryScheduled:
    data = _failed(raw)
    return ev.RetryScheduled(error_info(data.error), data.seconds_to_wait or 0.0)


def hook_failed(raw: Raw) -> ev.HookFailed:
    return ev.HookFailed(error_info(_failed(raw).error))


def run_failed(raw: Raw) -> ev.RunFailed:
    data = _failed(raw)
    reason = member(data.failure_reason)
    repeats = not _is_null(data.first_step_failure_event) or reason == "STEP_FAILURE"
    return ev.RunFailed(error_info(data.error), reason, repeats)


def run_canceled(raw: Raw) -> ev.RunCanceled:
    return ev.RunCanceled(error_info(_failed(raw).error))


def step_succeeded(raw: Raw) -> ev.StepSucceeded:
    return ev.StepSucceeded(_decode_success(raw).duration_ms)


def marker(raw: Raw) -> ev.Marker:
    data = _decode_engine(raw) or Engine()
    error = None if _is_null(data.error) else error_info(data.error)
    return ev.Marker(data.marker_start or "", data.marker_end or "", error)


def io_handled(raw: Raw) -> ev.IoHandled:
    data = _decode_io(raw)
    name = data.output_name or data.input_name or ""
    return ev.IoHandled(name, data.manager_key or data.asset_store_key or "")


def run_queued(raw: Raw) -> ev.RunQueued:
    data = _decode_enqueued(raw) or Enqueued()
    return ev.RunQueued(data.code_location_name or "", data.repository_name or "", data.partition_key)


def freshness_changed(raw: Raw) -> ev.FreshnessChanged:
    data = _decode_freshness(raw)
    at_ns = wire_repair.nanos(data.state_change_timestamp, 0)
    return ev.FreshnessChanged(data.key.joined(), member(data.new_state), member(data.previous_state), at_ns)


def materialization_failed(raw: Raw) -> ev.MaterializationFailed | None:
    data = _decode_not_made(raw)
    inner: NotMadeData | NotMade = data.asset_materialization_failure or data
    if inner.asset_key is None:
        return None
    return ev.MaterializationFailed(
        inner.asset_key.joined(), inner.partition, error_info(data.error), member(inner.reason)
    )


def expectation(raw: Raw) -> ev.Expectation:
    data = _decode_expectation(raw).expectation_result
    return ev.Expectation(data.label or "", data.success)


def asset_wiped(raw: Raw) -> ev.AssetWiped:
    data = _decode_wiped(raw)
    return ev.AssetWiped(data.asset_key.joined(), tuple(data.partition_keys or ()))


def log_fields(message: str) -> tuple[str, Metadata] | None:
    """The text and the fields of a structured log message; None for a plain one (no marker, or no JSON object)."""
    at = message.find(MARKER)
    if at < 0:
        return None
    tail = message[at + len(MARKER) :].encode()
    try:
        fields = _fields(tail)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return _repaired_fields(message[:at], tail)
    return message[:at], {key: wire_repair.clean(value) for key, value in fields.items()}


def _repaired_fields(text: str, tail: bytes) -> tuple[str, Metadata] | None:
    try:
        fields = wire_repair.lenient(tail)
    except (ValueError, RecursionError):
        return None
    return (text, fields) if isinstance(fields, dict) else None
