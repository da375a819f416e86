"""What time does to a life: when something is to be said next, and what. Pure, as `processors.alert_life`."""

import msgspec

from pipeline.signals import Alert, AlertState
from processors import alert_life
from processors.alert_notice import notice
from processors.alert_state import Life, Policy


def due(life: Life, policy: Policy) -> int | None:
    """When something is to be said or decided next, unless it is resolved before."""
    if life.held:
        return life.held_until_ns or None
    if life.escalated_ns:
        window, louder = 0, _repeat(life, policy)
    else:
        window, louder = life.window_ends_ns, _escalation(life, policy)
    times = (_stable(life, policy), louder, life.owed_ns, window)
    return min(filter(None, times), default=None)


def on_due(life: Life, now: int, policy: Policy) -> tuple[Life | None, Alert | None]:
    """The timer that `due` named has come, at `now` or before. The life afterwards is due later, if at all; None: over.

    What was held can be due in the past; what is said of it then is of `now`.
    """
    at = due(life, policy)
    if life.held:
        return released(life, now, policy)
    if at == _stable(life, policy):
        return _settled(life, now, policy)
    if at == life.owed_ns:
        return _owed(life, now, policy)
    if life.escalated_ns:
        return _repeated(life, now, policy)
    if at == _escalation(life, policy):
        return _escalated(life, now, policy)
    if not life.since:
        return msgspec.structs.replace(life, window_ends_ns=0), None
    next_end = now + policy.window_ns if policy.window_ns else 0
    told = msgspec.structs.replace(life, window_ends_ns=next_end, since=0)
    return told, notice(told, "digest", now, life.since, policy.window_ns, "window_over", policy)


def released(life: Life, now: int, policy: Policy) -> tuple[Life, Alert | None]:
    """What held it is over: what has not been told is told now, if there is anything."""
    over = {"group_wait": "first", "": "first", "catching_up": "late"}.get(life.held, f"{life.held}_over")
    free = alert_life.freed(life)
    if not life.failing:
        return free, None  # it flaps, and is well
    if not life.told and life.flaps_ns:
        return alert_life.first_word(free, now, over, policy)
    if (at := _escalation(free, policy)) and at <= now:
        return _escalated(free, now, policy)
    if not life.told:
        return alert_life.first_word(free, now, over, policy)
    if life.flaps_ns or not life.since:
        return free, None
    if life.escalated_ns:
        told = msgspec.structs.replace(free, told_ns=now, since=0)
        return told, notice(told, "repeated", now, life.since, 0, over, policy)
    told = msgspec.structs.replace(free, window_ends_ns=now + policy.window_ns, since=0)
    return told, notice(told, "digest", now, life.since, 0, over, policy)


def _escalation(life: Life, policy: Policy) -> int:
    """When it escalates, 0 if as it stands never. A failure that nothing followed does not persist."""
    if life.escalated_ns or not life.failing or life.acknowledged_by or life.chronic:
        return 0
    at = None
    if policy.escalate_after_ns and life.persists_ns:
        at = max(life.began_ns + policy.escalate_after_ns, life.persists_ns)
    if policy.escalate_after_count and life.total >= policy.escalate_after_count:
        at = life.latest_ns if at is None else min(at, life.latest_ns)
    return 0 if at is None else max(at, life.flaps_ns)


def _repeat(life: Life, policy: Policy) -> int:
    """When an escalated problem is told again, 0 for never. One that flaps is not while it is well."""
    if not life.escalated_ns or not policy.repeat_every_ns or not life.failing or life.chronic or life.acknowledged_by:
        return 0
    return max(life.told_ns + policy.repeat_every_ns, life.flaps_ns)


def _stable(life: Life, policy: Policy) -> int:
    """When it flaps no more, unless something happens before; 0 if it does not flap."""
    return life.flaps_ns + policy.flapping_ns if life.flaps_ns else 0


def _settled(life: Life, now: int, policy: Policy) -> tuple[Life | None, Alert | None]:
    """It has stayed as it is for the window: one word of how it ended."""
    if not life.failing:
        return None, alert_life.ended(life, now, "stable", policy)
    window = 0 if life.escalated_ns else now + policy.window_ns
    still = msgspec.structs.replace(life, flaps_ns=0, starts=(), since=0, told_ns=now, window_ends_ns=window)
    state: AlertState = "repeated" if life.escalated_ns else "digest"
    return still, notice(still, state, now, life.since, 0, "still_failing", policy)


def _owed(life: Life, now: int, policy: Policy) -> tuple[Life, Alert | None]:
    """Channels that were muted: they hear of it for the first time, or what they have missed."""
    free = msgspec.structs.replace(life, owed_ns=0)
    if not life.failing:
        return free, None
    state: AlertState = "repeated" if life.escalated_ns else "firing"
    return free, notice(free, state, now, life.total, 0, "mute_over", policy)


def _repeated(life: Life, now: int, policy: Policy) -> tuple[Life, Alert]:
    """Not resolved. What has not changed for long enough is told for the last time: it goes to the daily list."""
    unchanged = now - max(life.escalated_ns, life.changed_ns)
    chronic = bool(policy.chronic_ns) and unchanged >= policy.chronic_ns
    told = msgspec.structs.replace(life, told_ns=now, since=0, chronic=chronic)
    reason = "chronic" if chronic else "not_resolved"
    return told, notice(told, "repeated", now, life.since, policy.repeat_every_ns, reason, policy)


def _escalated(life: Life, now: int, policy: Policy) -> tuple[Life, Alert]:
    """Counts (now − escalate_after, now] where nothing lies between the first failure and that span, else all."""
    told = msgspec.structs.replace(life, escalated_ns=now, told_ns=now, window_ends_ns=0, since=0)
    span = policy.escalate_after_ns
    by_time = span and now - span >= life.began_ns
    within = by_time and life.persists_ns > now - span
    count = life.total - life.at_start if within else life.total
    over = span if within else now - life.began_ns
    return told, notice(told, "escalated", now, count, over, "persists" if by_time else "count_reached", policy)
