"""Bytes of a stored EventLogEntry → `Event`: the one place that knows how Dagster writes its event log.

What Dagster's own reader takes becomes an event, the rest is a DecodeError. Its reader drops fields that it does not
know, insists on the five fields that every version wrote (`error_info`, `level`, `user_message`, `run_id`,
`timestamp`), knows the entry's three older class names, and keeps an event whose details it cannot read. So does
this. An event of an unknown type passes with `detail=None`.

The envelope is parsed once into the fields that are used; `event_specific_data` stays raw and is parsed only for
types that have a reader in `wire_details`. Whatever the fast way refuses goes through `_repaired`, which reads JSON as
Python does (NaN, lone surrogates) and knows the events of Dagster before 1.0.
"""

import math
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Raw

from pipeline.components import Rejected
from pipeline.errors import DecodeError
from pipeline.events import LOG, Detail, Event, LogFields
from pipeline.facts import Json
from receivers import wire_details as details
from receivers import wire_repair
from receivers.wire_details import Reader
from receivers.wire_errors import error_info
from receivers.wire_native import twin
from receivers.wire_repair import nanos
from receivers.wire_shapes import NULL

_LEVELS: Final = {"CRITICAL": 50, "FATAL": 50, "ERROR": 40, "WARNING": 30, "WARN": 30, "INFO": 20, "DEBUG": 10}

_READERS: Final[dict[str, Reader]] = {
    "ASSET_MATERIALIZATION_PLANNED": details.planned,
    "ASSET_MATERIALIZATION": details.materialized,
    "ASSET_OBSERVATION": details.observed,
    "ASSET_CHECK_EVALUATION_PLANNED": details.check_planned,
    "ASSET_CHECK_EVALUATION": details.check_result,
    "ASSET_FAILED_TO_MATERIALIZE": details.materialization_failed,
    "ASSET_WIPED": details.asset_wiped,
    "FRESHNESS_STATE_CHANGE": details.freshness_changed,
    "STEP_SUCCESS": details.step_succeeded,
    "STEP_FAILURE": details.step_failed,
    "STEP_UP_FOR_RETRY": details.retry_scheduled,
    "STEP_EXPECTATION_RESULT": details.expectation,
    "HOOK_ERRORED": details.hook_failed,
    "ENGINE_EVENT": details.marker,
    "RESOURCE_INIT_STARTED": details.marker,
    "RESOURCE_INIT_SUCCESS": details.marker,
    "RESOURCE_INIT_FAILURE": details.marker,
    "STEP_WORKER_STARTING": details.marker,
    "STEP_WORKER_STARTED": details.marker,
    "HANDLED_OUTPUT": details.io_handled,
    "LOADED_INPUT": details.io_handled,
    "PIPELINE_ENQUEUED": details.run_queued,
    "PIPELINE_FAILURE": details.run_failed,
    "PIPELINE_CANCELED": details.run_canceled,
}
_RUN_STATES: Final = ("ENQUEUED", "DEQUEUED", "STARTING", "START", "SUCCESS", "FAILURE", "CANCELING", "CANCELED")
_NAMES: Final[dict[str, str]] = {
    **{f"RUN_{state}": f"PIPELINE_{state}" for state in _RUN_STATES},
    "PIPELINE_INIT_FAILURE": "PIPELINE_FAILURE",
    "PIPELINE_PROCESS_START": "ENGINE_EVENT",
    "PIPELINE_PROCESS_STARTED": "ENGINE_EVENT",
    "PIPELINE_PROCESS_EXITED": "ENGINE_EVENT",
    "STEP_MATERIALIZATION": "ASSET_MATERIALIZATION",
}
"""Names of another generation → the stored value of today (Dagster's `_handle_back_compat`, and the enum's RUN_*)."""
_PLAIN: Final = (
    *("STEP_START", "STEP_RESTARTED", "STEP_SKIPPED", "STEP_OUTPUT", "STEP_INPUT"),
    *("HOOK_COMPLETED", "HOOK_SKIPPED", "LOGS_CAPTURED"),
    *(f"PIPELINE_{state}" for state in _RUN_STATES),
)
_KNOWN: Final[dict[str, tuple[str, Reader | None]]] = {
    **{name: (name, None) for name in _PLAIN},
    **{name: (name, reader) for name, reader in _READERS.items()},
    **{old: (name, _READERS.get(name)) for old, name in _NAMES.items()},
}
_STEP_TYPES: Final = frozenset(
    {"STEP_START", "STEP_SUCCESS", "STEP_FAILURE", "STEP_SKIPPED", "STEP_UP_FOR_RETRY", "STEP_RESTARTED"}
    | {"STEP_INPUT", "STEP_OUTPUT", "STEP_EXPECTATION_RESULT", "HANDLED_OUTPUT", "LOADED_INPUT"}
    | {"ASSET_MATERIALIZATION", "ASSET_OBSERVATION"}
)
"""Types that belong to a step: the old ones among them that name none have a step handle."""


class _DagsterEvent(msgspec.Struct, gc=False):
    cls: Literal["DagsterEvent"] = msgspec.field(name="__class__")
    event_type_value: str
    event_specific_data: Raw = NULL
    message: str | None = None
    pipeline_name: str | None = None
    job_name: str | None = None
    step_key: str | None = None
    step_kind_value: str | None = None


class _Entry(msgspec.Struct, gc=False):
    cls: Literal["EventLogEntry", "DagsterEventRecord", "LogMessageRecord", "EventRecord"] = msgspec.field(
        name="__class__"
    )
    error_info: Raw
    level: Annotated[int, msgspec.Meta(ge=0, le=100)]
    user_message: str
    run_id: str
    timestamp: float
    step_key: str | None = None
    pipeline_name: str | None = None
    job_name: str | None = None
    dagster_event: _DagsterEvent | None = None


class _NodeHandle(msgspec.Struct):
    name: str
    parent: "_NodeHandle | None" = None

    def joined(self) -> str:
        return f"{self.parent.joined()}.{self.name}" if self.parent else self.name


class _StepHandle(msgspec.Struct):
    solid_handle: _NodeHandle
    mapping_key: str | None = None


class _Handles(msgspec.Struct):
    step_handle: _StepHandle | None = None
    solid_handle: _NodeHandle | None = None


class _OldEntry(msgspec.Struct):
    """Where events of before 1.0 keep their step: they have no `step_key`."""

    dagster_event: _Handles


_decode_entry = msgspec.json.Decoder(_Entry).decode
_decode_handles = msgspec.json.Decoder(_OldEntry).decode


def decode(
    raw: bytes,
    source: str,
    offset: int,
    record_ns: int = 0,
    headers: tuple[tuple[str, bytes], ...] = (),
    texts: dict[str, str] | None = None,
) -> Event:
    """The event that `raw` holds. `record_ns` is the timestamp of the record that carried it, 0 if it has none.

    `texts` is the caller's, one for the events of a batch: their run ids, jobs and step keys become the same objects.
    A dict then finds them by identity and with the hash that they keep: 0.7 µs an event over all stages. (The compiled
    twin keeps texts of its own.)
    Times: see `wire_repair.nanos`; `at_ns` always lies in 1970 … 2106, so nothing computed from it overflows 64 bits.
    The job is "" for an event without a run. Raises DecodeError with the reason, and nothing else, whatever the bytes.
    """
    if _decode is not None and (event := _decode(raw, source, offset, record_ns, headers)) is not None:
        return event
    return decode_in_python(raw, source, offset, record_ns, headers, texts)


def decode_in_python(
    raw: bytes,
    source: str,
    offset: int,
    record_ns: int,
    headers: tuple[tuple[str, bytes], ...],
    texts: dict[str, str] | None,
) -> Event:
    """`decode` without its compiled twin; what is right."""
    try:
        entry = _decode_entry(raw)
        if not raw.isascii():
            raw.decode()  # what was skipped over has not been looked at
    except (msgspec.MsgspecError, ValueError, RecursionError, TypeError):
        entry = _repaired(raw)
    step_key = entry.step_key
    job = entry.pipeline_name
    message = entry.user_message
    kind = ""
    detail: Detail | None = None
    inner = entry.dagster_event
    if inner is None:
        name = LOG
        if details.MARKER in message or len(entry.error_info) > 4:
            message, detail = _log_detail(message, entry.error_info)
    else:
        known = _KNOWN.get(inner.event_type_value)
        name, reader = known if known is not None else _unknown(inner)
        if reader is not None:
            try:
                detail = reader(inner.event_specific_data)
            except (msgspec.MsgspecError, ValueError, RecursionError):
                detail = None
        step_key = inner.step_key or step_key
        if step_key is None and name in _STEP_TYPES:
            step_key = _handle_key(raw)
        job = job or entry.job_name or inner.pipeline_name or inner.job_name
        message = inner.message or message
        kind = inner.step_kind_value or ""
    run_id = entry.run_id
    job = (job or entry.job_name or "") if run_id else ""
    step_key = step_key or ""
    if texts is not None:
        same = texts.setdefault
        run_id, job, step_key = same(run_id, run_id), same(job, job), same(step_key, step_key)
    at_ns = nanos(entry.timestamp, record_ns)
    return Event(
        raw,
        name,
        run_id,
        at_ns,
        entry.level,
        job,
        step_key,
        message,
        kind,
        detail,
        source,
        offset,
        record_ns or at_ns,
        headers,
    )


def redecode(options: object, rejected: Rejected) -> tuple[Event]:
    """What was rejected once, tried again; see `pipeline.components.ReceiverSpec`. Raises DecodeError."""
    again = rejected
    event = decode(
        again.body, source=again.source, offset=again.offset, record_ns=again.record_ns, headers=again.headers
    )
    return (event,)


def _unknown(event: _DagsterEvent) -> tuple[str, Reader | None]:
    """An event of a type that has no reader, or of one whose name alone does not say what it is today."""
    name = event.event_type_value
    if name == "ASSET_STORE_OPERATION":
        loaded = b"GET_ASSET" in bytes(event.event_specific_data)
        return ("LOADED_INPUT" if loaded else "HANDLED_OUTPUT"), details.io_handled
    return name, None


def _log_detail(message: str, error_info_raw: Raw) -> tuple[str, LogFields | None]:
    structured = details.log_fields(message)
    error = None if len(error_info_raw) == 4 else error_info(error_info_raw)
    if structured is not None:
        return structured[0], LogFields(structured[1], error)
    return message, LogFields({}, error) if error is not None else None


def _handle_key(raw: bytes) -> str | None:
    try:
        handles = _decode_handles(raw).dagster_event
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    step = handles.step_handle
    if step is None:
        return handles.solid_handle.joined() if handles.solid_handle else None
    return f"{step.solid_handle.joined()}[{step.mapping_key}]" if step.mapping_key else step.solid_handle.joined()


TWIN: Final = twin(_KNOWN, _STEP_TYPES, _log_detail)
_decode: Final = TWIN.decode if TWIN is not None else None


# --- the slow way ----------------------------------------------------------------------------------------------------


def _repaired(raw: bytes) -> _Entry:
    """The entry of a text that the fast way refused. Raises DecodeError with the reason."""
    if not raw:
        raise DecodeError("empty value")
    try:
        value = wire_repair.parsed(raw)
    except UnicodeDecodeError as error:
        raise DecodeError(f"not UTF-8: {error.reason} at byte {error.start}") from None
    except RecursionError:
        raise DecodeError("JSON is nested too deeply") from None
    except ValueError as error:
        raise DecodeError(f"not JSON: {error}") from None
    if not isinstance(value, dict):
        raise DecodeError(f"JSON of another shape: a {type(value).__name__}, no EventLogEntry")
    try:
        return _decode_entry(msgspec.json.encode(_modern(value)))
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise DecodeError(f"JSON of another shape: {error}") from None


def _modern(entry: dict[str, object]) -> Json:
    """What Dagster's reader lets pass, in the shape that `_Entry` insists on."""
    level = entry.get("level")
    if isinstance(level, str):
        entry["level"] = _LEVELS.get(level.upper(), level)
    elif isinstance(level, int):
        entry["level"] = max(0, min(int(level), 100))
    seconds = entry.get("timestamp")
    if isinstance(seconds, float) and not math.isfinite(seconds):
        entry["timestamp"] = 1e300 if seconds > 0 else -1e300  # no time that can be, see `wire_repair.nanos`
    if not isinstance(entry.get("job_name"), str):
        entry["job_name"] = None
    inner = entry.get("dagster_event")
    if isinstance(inner, dict):
        for field in ("message", "step_kind_value", "job_name"):
            if not isinstance(inner.get(field), str):
                inner[field] = None
        if "event_type_value" in inner and not isinstance(inner["event_type_value"], str):
            inner["event_type_value"] = "ENGINE_EVENT"
    return wire_repair.clean(entry)
