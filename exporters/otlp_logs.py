"""What an OTLP log record holds of ours, alike for both encodings: severity, attributes, resource."""

from collections.abc import Iterator
from typing import Final

import msgspec

from pipeline import names
from pipeline.facts import Json
from pipeline.signals import Attribute, Labels, LogRecord

_SEVERITIES: Final = {"DEBUG": 5, "INFO": 9, "WARNING": 13, "ERROR": 17, "CRITICAL": 21}
_FIELDS: Final = (
    (names.LOG_ID, "event_id"),
    (names.LOG_EVENT, "event"),
    (names.PIPELINE_RUN_ID, "run_id"),
    (names.PIPELINE_NAME, "job_name"),
    (names.TASK_NAME, "step_key"),
    (names.ASSET_KEY, "asset_name"),
    (names.PARTITION, "partition"),
    (names.LOG_STATUS, "status"),
    (names.LOG_DURATION_MS, "duration_ms"),
    (names.LOG_SLOW, "slow"),
    (names.EXCEPTION_TYPE, "error_type"),
    (names.EXCEPTION_MESSAGE, "error_message"),
    (names.EXCEPTION_STACKTRACE, "error_stack"),
    (names.LOG_LEVEL, "dagster_level"),
    (names.LOG_DERIVED, "derived"),
)
_OURS: Final = frozenset(name for name, _ in _FIELDS)
_to_json: Final = msgspec.json.Encoder().encode


def severity(level: str) -> int:
    """OpenTelemetry's SeverityNumber; 0 (unspecified) for a level that is none of ours."""
    return _SEVERITIES.get(level, 0)


def log_attributes(record: LogRecord) -> Iterator[tuple[str, Attribute]]:
    """The record's fields that say something, then its extra fields, never over ours; nested ones as JSON text."""
    for name, field in _FIELDS:
        value: Attribute | None = getattr(record, field)
        if value is not None and value != "" and value is not False:
            yield name, value
    for key, extra in record.extra.items():
        if extra is not None and key not in _OURS:
            yield key, _plain(extra)


def log_resource(resource: Labels, code_location: str) -> Labels:
    """The resource of the records of one code location."""
    return (*resource, (names.CODE_LOCATION, code_location)) if code_location else resource


def _plain(value: Json) -> Attribute:
    if isinstance(value, str | bool | int | float):
        return value
    return _to_json(value).decode()
