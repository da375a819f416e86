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

NULL: Final = Raw(b"null")
MARKER: Final = " ⟦dagtel⟧"
"""Stands between a log message's text and its structured fields, as `dagster_dagtel.get_logger()` writes them."""

Reader: TypeAlias = Callable[[Raw], ev.Detail | None]


class _Key(msgspec.Struct):
    path: list[str]

    def joined(self) -> str:
        return "/".join(self.path)


class _Enum(msgspec.Struct):
    name: str = msgspec.field(name="__enum__", default="")


_Member: TypeAlias = _Enum | str | None


def _member(value: _Member) -> str:
    """`{"__enum__": "AssetCheckSeverity.WARN"}` is `WARN`; old versions wrote the bare name."""
    name = value.name if isinstance(value, _Enum) else value or ""
    return name.rpartition(".")[2]


class _Planned(msgspec.Struct):
    asset_key: _Key
    partition: str | None = None


class _CheckPlanned(msgspec.Struct):
    asset_key: _Key
    check_name: str


class _AssetEvent(msgspec.Struct):
    """AssetMaterialization and AssetObservation."""

    asset_key: _Key
    partition: str | None = None
    description: str | None = None
    metadata_entries: Raw = NULL
    metadata: Raw = NULL
    tags: dict[str, str] | None = None


class _LooseAssetEvent(msgspec.Struct):
    """The same where a part that is not the key is of another shape: that must not hide the event."""

    asset_key: _Key
    partition: Raw = NULL
    description: Raw = NULL
    metadata_entries: Raw = NULL
    metadata: Raw = NULL
    tags: Raw = NULL

    def firm(self) -> _AssetEvent:
        return _AssetEvent(
            self.asset_key,
            _optional_text(self.partition),
            _optional_text(self.description),
            self.metadata_entries,
            self.metadata,
            _optional_tags(self.tags),
        )


class _Materialization(msgspec.Struct):
    materialization: _AssetEvent


class _LooseMaterialization(msgspec.Struct):
    materialization: _LooseAssetEvent


class _Observation(msgspec.Struct):
    asset_observation: _AssetEvent


class _LooseObservation(msgspec.Struct):
    asset_observation: _LooseAssetEvent


class _Check(msgspec.Struct):
    asset_key: _Key
    check_name: str
    success: bool | None = None
    passed: bool | None = None
    severity: _Member = None
    blocking: bool | None = None
    partition: str | None = None
    description: str | None = None
    metadata: Raw = NULL
    metadata_entries: Raw = NULL


class _LooseCheck(msgspec.Struct):
    """The same, of which only what is needed to count it is of the right shape."""

    asset_key: _Key
    check_name: str
    success: bool | None = None
    passed: bool | None = None
    severity: Raw = NULL
    metadata: Raw = NULL
    metadata_entries: Raw = NULL

    def firm(self) -> _Check:
        severity = _optional_member(self.severity)
        return _Check(
            self.asset_key,
            self.check_name,
            self.success,
            self.passed,
            severity,
            metadata=self.metadata,
            metadata_entries=self.metadata_entries,
        )


class _Failed(msgspec.Struct):
    """StepFailureData, StepRetryData, HookErroredData, PipelineFailureData, PipelineCanceledData."""

    error: Raw = NULL
    error_source: _Member = None
    seconds_to_wait: float | None = None
    failure_reason: _Member = None
    first_step_failure_event: Raw = NULL


class _Success(msgspec.Struct):
    duration_ms: float


class _Engine(msgspec.Struct):
    error: Raw = NULL
    marker_start: str | None = None
    marker_end: str | None = None
    metadata_entries: Raw = NULL


class _Io(msgspec.Struct):
    """HandledOutputData and LoadedInputData, and the AssetStoreOperationData that came before them."""

    output_name: str | None = None
    input_name: str | None = None
    manager_key: str | None = None
    asset_store_key: str | None = None
    metadata_entries: Raw = NULL


class _Enqueued(msgspec.Struct):
    code_location_name: str | None = None
    repository_name: str | None = None
    partition_key: str | None = None


class _Freshness(msgspec.Struct):
    key: _Key
    new_state: _Member = None
    previous_state: _Member = None
    state_change_timestamp: float = 0.0


class _NotMadeData(msgspec.Struct):
    asset_key: _Key
    partition: str | None = None
    reason: _Member = None


class _NotMade(msgspec.Struct):
    """AssetFailedToMaterializeData: the key stands in a part of its own, in early versions beside the error."""

    asset_materialization_failure: _NotMadeData | None = None
    asset_key: _Key | None = None
    partition: str | None = None
    reason: _Member = None
    error: Raw = NULL


class _ExpectationResult(msgspec.Struct):
    success: bool
    label: str | None = None
    metadata_entries: Raw = NULL


class _Expectation(msgspec.Struct):
    expectation_result: _ExpectationResult


class _Wiped(msgspec.Struct):
    asset_key: _Key
    partition_keys: list[str] | None = None


_text: Callable[[Raw], str | None] = msgspec.json.Decoder(str | None).decode
_tags = msgspec.json.Decoder(dict[str, str] | None).decode
_enum = msgspec.json.Decoder(_Enum | str | None).decode
_fields = msgspec.json.Decoder(dict[str, object]).decode

_decode_planned = msgspec.json.Decoder(_Planned).decode
_decode_check_planned = msgspec.json.Decoder(_CheckPlanned).decode
_decode_materialization = msgspec.json.Decoder(_Materialization).decode
_decode_loose_materialization = msgspec.json.Decoder(_LooseMaterialization).decode
_decode_loose_observation = msgspec.json.Decoder(_LooseObservation).decode
_decode_observation = msgspec.json.Decoder(_Observation).decode
_decode_check = msgspec.json.Decoder(_Check).decode
_decode_loose_check = msgspec.json.Decoder(_LooseCheck).decode
_decode_failed = msgspec.json.Decoder(_Failed | None).decode
_decode_success = msgspec.json.Decoder(_Success).decode
_decode_engine = msgspec.json.Decoder(_Engine | None).decode
_decode_io = msgspec.json.Decoder(_Io).decode
_decode_enqueued = msgspec.json.Decoder(_Enqueued | None).decode
_decode_freshness = msgspec.json.Decoder(_Freshness).decode
_decode_not_made = msgspec.json.Decoder(_NotMade).decode
_decode_expectation = msgspec.json.Decoder(_Expectation).decode
_decode_wiped = msgspec.json.Decoder(_Wiped).decode


def _optional_text(raw: Raw) -> str | None:
    try:
        return _text(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None


def _optional_tags(raw: Raw) -> dict[str, str]:
    try:
        return _tags(raw) or {}
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return {}


def _optional_member(raw: Raw) -> str:
    try:
        return _member(_enum(raw))
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return ""


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
        _member(data.severity) or "ERROR",
        bool(data.blocking),
        data.partition,
        data.description,
        _labels(data.metadata, data.metadata_entries),
    )


def step_failed(raw: Raw) -> ev.StepFailed:
    data = _decode_failed(raw) or _Failed()
    return ev.StepFailed(error_info(data.error), _member(data.error_source))


def retry_scheduled(raw: Raw) -> ev.RetryScheduled:
    data = _decode_failed(raw) or _Failed()
    return ev.RetryScheduled(error_info(data.error), data.seconds_to_wait or 0.0)


def hook_failed(raw: Raw) -> ev.HookFailed:
    return ev.HookFailed(error_info((_decode_failed(raw) or _Failed()).error))


def run_failed(raw: Raw) -> ev.RunFailed:
    data = _decode_failed(raw) or _Failed()
    reason = _member(data.failure_reason)
    repeats = not _is_null(data.first_step_failure_event) or reason == "STEP_FAILURE"
    return ev.RunFailed(error_info(data.error), reason, repeats)


def run_canceled(raw: Raw) -> ev.RunCanceled:
    return ev.RunCanceled(error_info((_decode_failed(raw) or _Failed()).error))


def step_succeeded(raw: Raw) -> ev.StepSucceeded:
    return ev.StepSucceeded(_decode_success(raw).duration_ms)


def marker(raw: Raw) -> ev.Marker:
    data = _decode_engine(raw) or _Engine()
    error = None if _is_null(data.error) else error_info(data.error)
    return ev.Marker(data.marker_start or "", data.marker_end or "", error, metadata(data.metadata_entries))


def io_handled(raw: Raw) -> ev.IoHandled:
    data = _decode_io(raw)
    name = data.output_name or data.input_name or ""
    return ev.IoHandled(name, data.manager_key or data.asset_store_key or "", metadata(data.metadata_entries))


def run_queued(raw: Raw) -> ev.RunQueued:
    data = _decode_enqueued(raw) or _Enqueued()
    return ev.RunQueued(data.code_location_name or "", data.repository_name or "", data.partition_key)


def freshness_changed(raw: Raw) -> ev.FreshnessChanged:
    data = _decode_freshness(raw)
    at_ns = wire_repair.nanos(data.state_change_timestamp, 0)
    return ev.FreshnessChanged(data.key.joined(), _member(data.new_state), _member(data.previous_state), at_ns)


def materialization_failed(raw: Raw) -> ev.MaterializationFailed | None:
    data = _decode_not_made(raw)
    inner: _NotMadeData | _NotMade = data.asset_materialization_failure or data
    if inner.asset_key is None:
        return None
    return ev.MaterializationFailed(
        inner.asset_key.joined(), inner.partition, error_info(data.error), _member(inner.reason)
    )


def expectation(raw: Raw) -> ev.Expectation:
    data = _decode_expectation(raw).expectation_result
    return ev.Expectation(data.label or "", data.success, metadata(data.metadata_entries))


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
