"""The compiled twin of `receivers.dagster_wire.decode`, where there is one."""

from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from pipeline import events
from pipeline.events import Detail
from pipeline.native import HAS_NATIVE, native
from receivers import wire_details as details
from receivers import wire_metadata as metadata
from receivers.kafka_records import KafkaRecord
from receivers.wire_details import Reader
from receivers.wire_errors import frame

_WAYS: Final[Mapping[Reader, str]] = {
    details.planned: "planned",
    details.check_planned: "check_planned",
    details.step_succeeded: "step_succeeded",
    details.marker: "marker",
    details.materialized: "materialized",
    details.observed: "observed",
    details.check_result: "check_result",
    details.step_failed: "step_failed",
    details.retry_scheduled: "retry_scheduled",
    details.hook_failed: "hook_failed",
    details.run_failed: "run_failed",
    details.run_canceled: "run_canceled",
    details.io_handled: "io_handled",
    details.run_queued: "run_queued",
    details.freshness_changed: "freshness_changed",
    details.expectation: "expectation",
}
"""Readers that have a twin of their own; the others are called."""


def twin(
    known: Mapping[str, tuple[str, Reader | None]],
    of_step: frozenset[str],
    log: Callable[[str, msgspec.Raw], tuple[str, Detail | None]],
) -> "native.EventDecoder | None":
    """The twin, None where there is none.

    `known`: event type → its name of today, and who reads its own part. `of_step`: types that belong to a step.
    """
    if not HAS_NATIVE:
        return None
    types = {
        wire: (name, name in of_step, _WAYS.get(reader, "") if reader is not None else "", reader)
        for wire, (name, reader) in known.items()
    }
    return native.EventDecoder(
        KafkaRecord,
        events,
        types,
        metadata.PAYLOADS,
        _read,
        lambda message, error: log(message, msgspec.Raw(error)),
        metadata.value,
        frame,
        details.MARKER,
    )


def _read(reader: Reader, data: bytes) -> Detail | None:
    """As `decode` does it: a detail that cannot be read is None."""
    try:
        return reader(msgspec.Raw(data))
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
