"""What the history answers, as JSON: the same from the command line and the HTTP API. Fields are only added.

Times are RFC 3339 in UTC, null where there is none. `alert` is `pipeline.alert_json`.
"""

from typing import Any

import msgspec

from pipeline.alert_json import iso_time
from pipeline.store.history import AlertRow, Fingerprint, Notification, Occurrence, Reason, Story


class ListedAlert(msgspec.Struct, frozen=True, kw_only=True):
    """One alert of a list."""

    key: str
    fingerprint: str
    status: str
    open: bool
    severity: str
    kind: str
    title: str
    asset: str
    check: str
    job: str
    step_key: str
    run_id: str
    message: str
    failures: int
    failing_partitions: int
    first_at: str
    last_at: str
    resolved_at: str | None
    held: str
    held_until: str | None
    flapping: bool
    chronic: bool
    acknowledged_by: str
    told: tuple[str, ...]
    owners: tuple[str, ...]


class ShownOccurrence(msgspec.Struct, frozen=True):
    """One failure. `at` is its event's own time, `counted_at` the domain time at which it was counted."""

    number: int
    at: str
    counted_at: str
    decision: str
    severity: str
    fingerprint: str
    asset: str
    check: str
    job: str
    step_key: str
    run_id: str
    partition: str | None
    error_type: str
    message: str
    file: str
    line: int


class ShownDelivery(msgspec.Struct, frozen=True):
    """What became of a notifier's call."""

    notifier: str
    outcome: str
    at: str
    attempts: int
    answer: str


class ShownNotification(msgspec.Struct, frozen=True):
    """One message; `why` says of each channel what named it."""

    id: str
    number: int
    at: str
    state: str
    reason: str
    severity: str
    count: int
    channels: tuple[str, ...]
    why: dict[str, str]
    deliveries: list[ShownDelivery]
    alert: msgspec.Raw


class ShownDecision(msgspec.Struct, frozen=True):
    """One decision and why."""

    number: int
    at: str
    reason: str
    times: int
    detail: str


class ShownFingerprint(msgspec.Struct, frozen=True):
    """What a fingerprint is made of; `message` before it was masked, `masked` as it was hashed."""

    fingerprint: str
    kind: str
    place: tuple[str, ...]
    check: str
    exceptions: tuple[str, ...]
    frames: tuple[str, ...]
    message: str
    masked: tuple[str, ...]
    override: str
    deployment: str


class ShownAlert(ListedAlert, frozen=True, kw_only=True):
    """All that is known of one alert."""

    alert: msgspec.Raw
    occurrences: list[ShownOccurrence]
    occurrences_kept: int
    notifications: list[ShownNotification]
    decisions: list[ShownDecision]
    made_of: ShownFingerprint | None


def listed(row: AlertRow) -> ListedAlert:
    """An alert of a list."""
    return ListedAlert(**_common(row))


def shown(story: Story) -> ShownAlert:
    """All of one alert."""
    return ShownAlert(
        **_common(story.alert),
        alert=story.alert.alert,
        occurrences=[_occurrence(one) for one in story.occurrences],
        occurrences_kept=story.kept,
        notifications=[_notification(one) for one in story.notifications],
        decisions=[_decision(one) for one in story.decisions],
        made_of=_made_of(story.fingerprint) if story.fingerprint else None,
    )


def _common(row: AlertRow) -> dict[str, Any]:  # fields of many types
    same = ListedAlert.__struct_fields__
    return {
        **{name: getattr(row, name) for name in same if hasattr(row, name)},
        "failing_partitions": row.failing,
        "first_at": iso_time(row.first_ns),
        "last_at": iso_time(row.last_ns),
        "resolved_at": _time(row.ended_ns),
        "held_until": _time(row.held_until_ns),
    }


def _time(ns: int) -> str | None:
    return iso_time(ns) if ns else None


def _occurrence(one: Occurrence) -> ShownOccurrence:
    return ShownOccurrence(
        number=one.number,
        at=iso_time(one.event_ns),
        counted_at=iso_time(one.at_ns),
        decision=one.decision,
        severity=one.severity,
        fingerprint=one.fingerprint,
        asset=one.asset,
        check=one.check,
        job=one.job,
        step_key=one.step_key,
        run_id=one.run_id,
        partition=one.partition,
        error_type=one.error_type,
        message=one.message,
        file=one.file,
        line=one.line,
    )


def _notification(one: Notification) -> ShownNotification:
    calls = [ShownDelivery(c.notifier, c.outcome, iso_time(c.at_ns), c.attempts, c.answer) for c in one.deliveries]
    return ShownNotification(
        id=one.id,
        number=one.number,
        at=iso_time(one.at_ns),
        state=one.state,
        reason=one.reason,
        severity=one.severity,
        count=one.failures,
        channels=one.channels,
        why=one.why,
        deliveries=calls,
        alert=one.alert,
    )


def _decision(one: Reason) -> ShownDecision:
    return ShownDecision(one.number, iso_time(one.at_ns), one.reason, one.times, one.detail)


def _made_of(found: Fingerprint) -> ShownFingerprint:
    parts = found.parts
    return ShownFingerprint(
        fingerprint=found.fingerprint,
        kind=parts.kind,
        place=parts.place,
        check=parts.check,
        exceptions=parts.chain,
        frames=parts.frames,
        message=found.message,
        masked=parts.message,
        override=parts.override,
        deployment=parts.deployment,
    )
