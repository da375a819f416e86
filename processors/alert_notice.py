"""What a notification says of a life: the latest finding, with what is known of all of them. Pure."""

from typing import Final

import msgspec

from pipeline.signals import Alert, AlertState, Severity
from processors.alert_state import Life, Policy

_RAISED: Final[dict[Severity, Severity]] = {
    "INFO": "WARNING",
    "WARNING": "ERROR",
    "ERROR": "CRITICAL",
    "CRITICAL": "CRITICAL",
}


def notice(
    life: Life, state: AlertState, now_ns: int, count: int, window_ns: int, reason: str, policy: Policy
) -> Alert:
    """It is `state` now, for this reason: `count` failures, in `window_ns` where there is a window."""
    escalated = bool(life.escalated_ns)
    repeats = escalated and state != "resolved" and not life.chronic and not life.acknowledged_by
    return msgspec.structs.replace(
        life.finding,
        state=state,
        severity=_RAISED[life.severity] if escalated else life.severity,
        now_ns=now_ns,
        first_ns=life.first_ns,
        last_ns=life.last_ns,
        count=count,
        window_ns=window_ns,
        key=life.key,
        reason=reason,
        partitions=life.partitions,
        failing=life.failing,
        planned=life.planned if all(other.asset == life.asset for other in life.members) else 0,
        escalate_to=policy.escalate_to if escalated else (),
        repeat_ns=policy.repeat_every_ns if repeats else 0,
        members=life.members,
        members_total=life.members_total + 1 if life.members_total else 0,
        grouped_by=life.group.partition(":")[0] if life.members_total else "",
        acknowledged_by=life.acknowledged_by,
        late=life.late,
        decisions=life.decisions,
        began_ns=life.began_ns,
        number=life.notified + 1,
    )


def as_it_stands(life: Life, now: int, over: bool, policy: Policy) -> Alert:
    """What a notification would say of all of it now."""
    state: AlertState = "resolved" if over else "escalated" if life.escalated_ns else "firing"
    reason = life.decisions[-1].reason if life.decisions else ""
    now_is = msgspec.structs.replace(life, failing=0, partitions=()) if over else life
    alert = notice(now_is, state, now, life.total, 0, reason, policy)
    return msgspec.structs.replace(alert, channels=life.told, number=life.notified)
