"""An alert as JSON: one object, the same wherever alerts leave as data (files, webhooks, the API).

Times are RFC 3339 in UTC, durations seconds; `time` is the moment of the notification. A text that an alert does not
have is "", a partition or error null. `impact.assets` maps each stale asset to its distance. `assets` are all that one
failure of a step took along, `asset` the first of them; `members` are the problems that one notification tells of,
`decisions` what was decided of its life and why, `number` counts the notifications of its `key`. Fields are only added.
"""

from datetime import UTC, datetime

import msgspec

from pipeline.clock import SECOND
from pipeline.lineage import Impact
from pipeline.signals import Alert, Links, Member

LAST_NS = 253_402_300_799 * SECOND
"""9999-12-31 23:59:59 UTC: an event's clock can be wrong, and an alert has to come out nevertheless."""


class _Error(msgspec.Struct, gc=False):
    type: str
    message: str
    file: str
    line: int


class _Impact(msgspec.Struct, gc=False):
    assets: dict[str, int]
    exposures: tuple[str, ...]
    owners: tuple[str, ...]


class _Member(msgspec.Struct, gc=False):
    key: str
    state: str
    kind: str
    severity: str
    title: str
    asset: str
    check: str
    job: str
    step_key: str
    partition: str | None
    message: str
    count: int


class _Decision(msgspec.Struct, gc=False):
    at: str
    reason: str
    times: int
    detail: str


class _Alert(msgspec.Struct, gc=False):
    time: str
    state: str
    kind: str
    severity: str
    asset: str
    step_key: str
    job: str
    run_id: str
    partition: str | None
    fingerprint: str
    error: _Error | None
    impact: _Impact
    count: int
    first_at: str
    last_at: str
    title: str
    summary: str
    check: str
    partitions: tuple[str, ...]
    failing_partitions: int
    planned_partitions: int
    owners: tuple[str, ...]
    group: str
    code_location: str
    key: str
    reason: str
    window_seconds: float
    channels: tuple[str, ...]
    escalate_to: tuple[str, ...]
    repeat_every_seconds: float
    links: Links
    tags: dict[str, str]
    urgency: str
    members: list[_Member]
    members_total: int
    grouped_by: str
    acknowledged_by: str
    late: bool
    decisions: list[_Decision]
    number: int
    said_by: dict[str, str]
    assets: tuple[str, ...]


_encode = msgspec.json.Encoder().encode


def alert_json(alert: Alert) -> bytes:
    """One line of JSON, without a newline."""
    error, impact = alert.error, alert.impact or Impact()
    return _encode(
        _Alert(
            time=iso_time(alert.now_ns),
            state=alert.state,
            kind=alert.kind,
            severity=alert.severity,
            asset=alert.asset,
            step_key=alert.step_key,
            job=alert.job,
            run_id=alert.run_id,
            partition=alert.partition,
            fingerprint=alert.fingerprint,
            error=_Error(error.type, error.message, error.file, error.line) if error else None,
            impact=_Impact(impact.assets, impact.exposures, impact.owners),
            count=alert.count,
            first_at=iso_time(alert.first_ns),
            last_at=iso_time(alert.last_ns),
            title=alert.title,
            summary=alert.summary,
            check=alert.check,
            partitions=alert.partitions,
            failing_partitions=alert.failing,
            planned_partitions=alert.planned,
            owners=alert.owners,
            group=alert.group,
            code_location=alert.code_location,
            key=alert.key,
            reason=alert.reason,
            window_seconds=alert.window_ns / SECOND,
            channels=alert.channels,
            escalate_to=alert.escalate_to,
            repeat_every_seconds=alert.repeat_ns / SECOND,
            links=alert.links,
            tags=alert.tags,
            urgency=alert.urgency,
            members=[_member(member) for member in alert.members],
            members_total=alert.members_total,
            grouped_by=alert.grouped_by,
            acknowledged_by=alert.acknowledged_by,
            late=alert.late,
            decisions=[_Decision(iso_time(d.at_ns), d.reason, d.times, d.detail) for d in alert.decisions],
            number=alert.number,
            said_by=alert.said_by,
            assets=alert.assets or ((alert.asset,) if alert.asset else ()),
        )
    )


def _member(member: Member) -> _Member:
    return _Member(*(getattr(member, name) for name in _Member.__struct_fields__))


def iso_time(ns: int) -> str:
    """`2024-01-15T02:00:00Z`, with microseconds where there are any. Times beyond the calendar stand at its ends."""
    seconds, rest = divmod(min(max(ns, 0), LAST_NS), SECOND)
    whole = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    micros = rest // 1000
    return f"{whole}.{micros:06}Z" if micros else f"{whole}Z"
