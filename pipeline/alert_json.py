"""An alert as JSON: one object, the same wherever alerts leave as data (files, webhooks, the API).

Times are ISO 8601 in UTC, durations seconds; what an alert does not have is null. `impact.assets` maps each stale
asset to its distance. Fields are only ever added.
"""

from datetime import UTC, datetime

import msgspec

from pipeline.clock import SECOND
from pipeline.signals import Alert

LAST_NS = 253_402_300_799 * SECOND
"""9999-12-31 23:59:59 UTC: an event's clock can be wrong, and an alert has to come out nevertheless."""


class _Error(msgspec.Struct, gc=False):
    type: str
    message: str
    file: str | None
    line: int | None
    function: str | None


class _Impact(msgspec.Struct, gc=False):
    assets: dict[str, int]
    exposures: tuple[str, ...]
    owners: tuple[str, ...]


class _Alert(msgspec.Struct, gc=False):
    state: str
    kind: str
    severity: str
    title: str
    summary: str | None
    asset: str | None
    check: str | None
    partition: str | None
    partitions: tuple[str, ...]
    failing_partitions: int
    job: str | None
    run_id: str | None
    step_key: str | None
    error: _Error | None
    impact: _Impact | None
    owners: tuple[str, ...]
    group: str | None
    code_location: str | None
    fingerprint: str
    key: str | None
    reason: str | None
    count: int
    window_seconds: float
    first_at: str
    last_at: str
    at: str
    channels: tuple[str, ...]
    escalate_to: tuple[str, ...]
    repeat_every_seconds: float
    links: dict[str, str]
    tags: dict[str, str]


_encode = msgspec.json.Encoder().encode


def alert_json(alert: Alert) -> bytes:
    """One line of JSON, without a newline."""
    error, impact = alert.error, alert.impact
    return _encode(
        _Alert(
            state=alert.state,
            kind=alert.kind,
            severity=alert.severity,
            title=alert.title,
            summary=alert.summary or None,
            asset=alert.asset or None,
            check=alert.check or None,
            partition=alert.partition,
            partitions=alert.partitions,
            failing_partitions=alert.failing,
            job=alert.job or None,
            run_id=alert.run_id or None,
            step_key=alert.step_key or None,
            error=_Error(error.type, error.message, error.file or None, error.line or None, error.function or None)
            if error
            else None,
            impact=_Impact(impact.assets, impact.exposures, impact.owners) if impact else None,
            owners=alert.owners,
            group=alert.group or None,
            code_location=alert.code_location or None,
            fingerprint=alert.fingerprint,
            key=alert.key or None,
            reason=alert.reason or None,
            count=alert.count,
            window_seconds=alert.window_ns / SECOND,
            first_at=iso_time(alert.first_ns),
            last_at=iso_time(alert.last_ns),
            at=iso_time(alert.now_ns),
            channels=alert.channels,
            escalate_to=alert.escalate_to,
            repeat_every_seconds=alert.repeat_ns / SECOND,
            links=msgspec.to_builtins(alert.links),
            tags=alert.tags,
        )
    )


def iso_time(ns: int) -> str:
    """`2024-01-15T02:00:00Z`, with microseconds where there are any. Times beyond the calendar stand at its ends."""
    seconds, rest = divmod(min(max(ns, 0), LAST_NS), SECOND)
    whole = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    micros = rest // 1000
    return f"{whole}.{micros:06}Z" if micros else f"{whole}Z"
