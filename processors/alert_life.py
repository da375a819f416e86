"""The life of one problem, from the first failure to its resolution. A pure state machine on domain time.

    first failure ──► firing ──► repeats are counted ──► digest at each window's end, if there were any
                                       │
                                       └─ still failing after `escalate_after` ──► escalated ──► repeated, repeated …
    whenever the last failing partition succeeds ──► resolved, and the next failure is another occurrence
    the `flapping_count`th occurrence within `flapping_window` ──► told once as flapping; from then on it fails and
        recovers within one life, until neither has happened for the window: then how it ended is told
    while it is held (silenced, inhibited, muted, waiting for its group) it is counted; released it is told, if it fails

Times of windows and timers are domain times (`now_ns` of findings); the first and latest failure that people are told
are the events' own. A failure at time t counts before a timer due at t, so a window is (t − window, t]. Windows follow
one another while they hold failures: with a failure every five minutes digests come on the hour, and the escalation
falls on the end of one, whose place it takes. A window without a failure closes, the next failure opens another.

No list of times is kept: each count is over a span that starts where the last one ended, or at the first failure.
Every function answers with another life and what is to be said; whether it can be said now, and to whom, is not decided
here: who cannot say it keeps the life as it was, `held`.
"""

import sys
from typing import Final

import msgspec

from pipeline.signals import Alert, AlertState, Decision, Member, Severity
from processors.alert_members import member
from processors.alert_state import Life, Policy, decode, encode

SHOWN: Final = 20
"""Partitions, and problems of a group, that a notification names."""
DECISIONS: Final = 20
"""The first and the latest decisions that are kept of a life."""

_RAISED: Final[dict[Severity, Severity]] = {
    "INFO": "WARNING",
    "WARNING": "ERROR",
    "ERROR": "CRITICAL",
    "CRITICAL": "CRITICAL",
}
RANK: Final[dict[Severity, int]] = {"INFO": 0, "WARNING": 1, "ERROR": 2, "CRITICAL": 3}


# --- what happens ----------------------------------------------------------------------------------------------------


def begin(finding: Alert, occurrence: int, policy: Policy, starts: tuple[int, ...] = ()) -> Life:
    """The first failure; nothing is told yet. `starts` are those of the occurrences before."""
    known = (*starts, finding.now_ns)[-policy.flapping_count :] if policy.flapping_count else ()
    flaps = bool(known) and len(known) >= policy.flapping_count and known[-1] - known[0] <= policy.flapping_ns
    return Life(
        raw=encode(finding),
        fingerprint=finding.fingerprint,
        kind=finding.kind,
        asset=finding.asset,
        severity=finding.severity,
        occurrence=occurrence,
        began_ns=finding.now_ns,
        latest_ns=finding.now_ns,
        first_ns=finding.first_ns,
        last_ns=finding.last_ns,
        failing=len(finding.assets) or 1,
        partitions=(finding.partition,) if finding.partition else (),
        planned=finding.planned,
        starts=known,
        flaps_ns=finding.now_ns if flaps else 0,
        changed_ns=finding.now_ns,
    )


def first_word(life: Life, now: int, reason: str, policy: Policy) -> tuple[Life, Alert]:
    """Nobody knows of it yet: it is told."""
    if life.flaps_ns:
        told = msgspec.structs.replace(_free(life), since=0)
        return told, _told(told, "digest", now, len(life.starts), policy.flapping_ns, "flapping", policy)
    told = msgspec.structs.replace(_free(life), since=0, window_ends_ns=now + policy.window_ns)
    return told, _told(told, "firing", now, life.total, 0, reason, policy)


def again(life: Life, finding: Alert, fresh: int, policy: Policy) -> Life:
    """Another failure: counted. `fresh`: of so many parts that were not failing."""
    now = max(finding.now_ns, life.latest_ns)  # sources of the whole do not run in step
    opens = not (life.escalated_ns or life.window_ends_ns or life.flaps_ns or life.held)
    return msgspec.structs.replace(
        life,
        raw=_latest(life, finding),
        severity=_worse(life.severity, finding.severity),
        latest_ns=now,
        first_ns=min(life.first_ns, finding.first_ns),
        last_ns=max(life.last_ns, finding.last_ns),
        total=life.total + 1,
        at_start=life.at_start + (now == life.began_ns),
        persists_ns=life.persists_ns or (now if now > life.began_ns else 0),
        window_ends_ns=now + policy.window_ns if opens else life.window_ends_ns,
        since=life.since + 1,
        failing=life.failing + fresh,
        partitions=_with(life.partitions, finding.partition),
        planned=max(life.planned, finding.planned) if finding.asset == life.asset else life.planned,
        members=_counted(life, finding),
        flaps_ns=life.flaps_ns if life.failing else now,
        changed_ns=now if fresh else life.changed_ns,
        chronic=life.chronic and not fresh,
    )


def wider(life: Life, finding: Alert, fresh: int) -> Life:
    """More assets of the failure that was counted last: of some of them it is known later that they are not made."""
    return msgspec.structs.replace(
        life,
        raw=_latest(life, finding),
        severity=_worse(life.severity, finding.severity),
        failing=life.failing + fresh,
    )


def worse(life: Life, now: int, reason: str, policy: Policy) -> tuple[Life, Alert]:
    """It is worse than people know (more severe, more assets): told at once, as whatever comes next."""
    state: AlertState = "repeated" if life.escalated_ns else "digest"
    window = 0 if life.escalated_ns or life.flaps_ns else now + policy.window_ns
    told = msgspec.structs.replace(life, since=0, window_ends_ns=window, told_ns=now)
    return told, _told(told, state, now, life.since, 0, reason, policy)


def healed(life: Life, recovery: Alert, elsewhere: bool, policy: Policy) -> tuple[Life | None, Alert | None]:
    """A failing part succeeded. Without a life left it is resolved; that is told where anybody was told of it.

    `elsewhere`: another asset of the step fails in the same partition.
    """
    now = max(recovery.now_ns, life.latest_ns)
    left = life.partitions if elsewhere else tuple(name for name in life.partitions if name != recovery.partition)
    after = msgspec.structs.replace(life, failing=life.failing - 1, partitions=left, changed_ns=now, chronic=False)
    if after.failing:
        return after, None
    if life.flaps_ns:
        return msgspec.structs.replace(after, flaps_ns=now), None
    return None, ended(after, now, "recovered", policy)


def ended(life: Life, now: int, reason: str, policy: Policy) -> Alert | None:
    """The last word; None where nobody was told of it."""
    over = msgspec.structs.replace(life, failing=0, partitions=())
    return _told(over, "resolved", now, life.total, 0, reason, policy) if life.told else None


def due(life: Life, policy: Policy) -> int | None:
    """When something is to be said or decided next, unless it is resolved before."""
    if life.held:
        return life.held_until_ns or None
    times = [_stable(life, policy), _repeat(life, policy), _escalation(life, policy), life.owed_ns]
    if not life.escalated_ns:
        times.append(life.window_ends_ns)
    return min((time for time in times if time), default=None)


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
    return told, _told(told, "digest", now, life.since, policy.window_ns, "window_over", policy)


def hold(life: Life, reason: str, until_ns: int, now: int, detail: str = "") -> Life:
    """Nothing is told until `until_ns` (0: until it is released), it is counted."""
    return noted(msgspec.structs.replace(life, held=reason, held_until_ns=until_ns), now, reason, detail)


def released(life: Life, now: int, policy: Policy) -> tuple[Life, Alert | None]:
    """What held it is over: what has not been told is told now, if there is anything."""
    over = {"group_wait": "first", "": "first", "catching_up": "late"}.get(life.held, f"{life.held}_over")
    free = _free(life)
    if not life.failing:
        return free, None  # it flaps, and is well
    if not life.told and life.flaps_ns:
        return first_word(free, now, over, policy)
    if (at := _escalation(free, policy)) and at <= now:
        return _escalated(free, now, policy)
    if not life.told:
        return first_word(free, now, over, policy)
    if life.flaps_ns or not life.since:
        return free, None
    if life.escalated_ns:
        told = msgspec.structs.replace(free, told_ns=now, since=0)
        return told, _told(told, "repeated", now, life.since, 0, over, policy)
    told = msgspec.structs.replace(free, window_ends_ns=now + policy.window_ns, since=0)
    return told, _told(told, "digest", now, life.since, 0, over, policy)


def acknowledge(life: Life, by: str, now: int) -> Life:
    """Somebody is at it."""
    return noted(msgspec.structs.replace(life, acknowledged_by=by or "somebody"), now, "acknowledged", by)


def told_to(life: Life, channels: tuple[str, ...], owed: tuple[str, ...], owed_ns: int, alert: Alert) -> Life:
    """It has been said to these channels; those to whom it is owed are muted until `owed_ns`."""
    known = dict.fromkeys((*life.told, *channels))
    told = msgspec.structs.replace(
        life,
        channels=sys.intern(",".join(known)),
        owed=owed,
        owed_ns=owed_ns,
        notified=life.notified + bool(channels),
    )
    return noted(told, alert.now_ns, alert.reason, alert.state) if channels else told


def noted(life: Life, at_ns: int, reason: str, detail: str = "") -> Life:
    """With a decision more; of many the first and the latest are kept, equal ones in a row are one."""
    last = life.decisions[-1] if life.decisions else None
    if last is not None and (last.reason, last.detail) == (reason, detail):
        return msgspec.structs.replace(
            life, decisions=(*life.decisions[:-1], msgspec.structs.replace(last, times=last.times + 1))
        )
    made = Decision(at_ns, reason, 1, detail[:200])
    kept = life.decisions if len(life.decisions) < DECISIONS else (life.decisions[0], *life.decisions[2:])
    return msgspec.structs.replace(life, decisions=(*kept, made), decided=life.decided + 1)


def as_it_stands(life: Life, now: int, over: bool, policy: Policy) -> Alert:
    """What a notification would say of all of it now."""
    state: AlertState = "resolved" if over else "escalated" if life.escalated_ns else "firing"
    reason = life.decisions[-1].reason if life.decisions else ""
    now_is = msgspec.structs.replace(life, failing=0, partitions=()) if over else life
    alert = _told(now_is, state, now, life.total, 0, reason, policy)
    return msgspec.structs.replace(alert, channels=life.told, number=life.notified)


def with_member(life: Life, finding: Alert, state: AlertState, joins: bool) -> Life:
    """Another problem is told with this one. `joins`: it belongs to its group; else it follows from it."""
    told = member(finding, finding.fingerprint, state)
    return msgspec.structs.replace(
        life,
        severity=_worse(life.severity, finding.severity) if joins else life.severity,
        members=(*life.members, told) if len(life.members) < SHOWN else life.members,
        members_total=life.members_total + 1,
        folded=(*life.folded, finding.fingerprint) if joins else life.folded,
    )


# --- how it is decided -----------------------------------------------------------------------------------------------


def _free(life: Life) -> Life:
    return msgspec.structs.replace(life, held="", held_until_ns=0, held_by="") if life.held else life


def _escalation(life: Life, policy: Policy) -> int:
    """When it escalates, 0 if as it stands never. A failure that nothing followed does not persist."""
    if life.escalated_ns or not life.failing or life.acknowledged_by or life.chronic:
        return 0
    times = []
    if policy.escalate_after_ns and life.persists_ns:
        times.append(max(life.began_ns + policy.escalate_after_ns, life.persists_ns))
    if policy.escalate_after_count and life.total >= policy.escalate_after_count:
        times.append(life.latest_ns)
    return max(min(times), life.flaps_ns) if times else 0


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
        return None, ended(life, now, "stable", policy)
    window = 0 if life.escalated_ns else now + policy.window_ns
    still = msgspec.structs.replace(life, flaps_ns=0, starts=(), since=0, told_ns=now, window_ends_ns=window)
    state: AlertState = "repeated" if life.escalated_ns else "digest"
    return still, _told(still, state, now, life.since, 0, "still_failing", policy)


def _owed(life: Life, now: int, policy: Policy) -> tuple[Life, Alert | None]:
    """Channels that were muted: they hear of it for the first time, or what they have missed."""
    free = msgspec.structs.replace(life, owed_ns=0)
    if not life.failing:
        return free, None
    state: AlertState = "repeated" if life.escalated_ns else "firing"
    return free, _told(free, state, now, life.total, 0, "mute_over", policy)


def _repeated(life: Life, now: int, policy: Policy) -> tuple[Life, Alert]:
    """Not resolved. What has not changed for long enough is told for the last time: it goes to the daily list."""
    unchanged = now - max(life.escalated_ns, life.changed_ns)
    chronic = bool(policy.chronic_ns) and unchanged >= policy.chronic_ns
    told = msgspec.structs.replace(life, told_ns=now, since=0, chronic=chronic)
    reason = "chronic" if chronic else "not_resolved"
    return told, _told(told, "repeated", now, life.since, policy.repeat_every_ns, reason, policy)


def _escalated(life: Life, now: int, policy: Policy) -> tuple[Life, Alert]:
    """Counts (now − escalate_after, now] where nothing lies between the first failure and that span, else all."""
    told = msgspec.structs.replace(life, escalated_ns=now, told_ns=now, window_ends_ns=0, since=0)
    span = policy.escalate_after_ns
    by_time = span and now - span >= life.began_ns
    within = by_time and life.persists_ns > now - span
    count = life.total - life.at_start if within else life.total
    over = span if within else now - life.began_ns
    return told, _told(told, "escalated", now, count, over, "persists" if by_time else "count_reached", policy)


def _told(life: Life, state: AlertState, now_ns: int, count: int, window_ns: int, reason: str, policy: Policy) -> Alert:
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


def _latest(life: Life, finding: Alert) -> bytes:
    """The finding with the last known impact. A group goes on being its first."""
    if finding.fingerprint != life.fingerprint:
        return life.raw
    if finding.assets:
        finding = _joined(decode(life.raw), finding)
    if finding.impact is None and (impact := decode(life.raw).impact) is not None:
        finding = msgspec.structs.replace(finding, impact=impact)
    return encode(finding)


def _joined(before: Alert, finding: Alert) -> Alert:
    """Of one failure, told in parts: the assets and the impact of all parts. Of another failure: the latest alone."""
    if not same_failure(before, finding):
        return finding
    assets = tuple(dict.fromkeys((*before.assets, *finding.assets)))
    known = before.impact
    if finding.impact is None or known is None:
        return msgspec.structs.replace(finding, asset=before.asset, assets=assets, impact=finding.impact or known)
    stale = {key: hops for key, hops in {**finding.impact.assets, **known.assets}.items() if key not in assets}
    return msgspec.structs.replace(
        finding, asset=before.asset, assets=assets, impact=msgspec.structs.replace(known, assets=stale)
    )


def same_failure(one: Alert, other: Alert) -> bool:
    """Whether both tell of assets of one failed attempt of a step."""
    return bool(one.assets and other.assets and one.run_id) and (one.run_id, one.step_key, one.last_ns) == (
        other.run_id,
        other.step_key,
        other.last_ns,
    )


def _counted(life: Life, finding: Alert) -> tuple[Member, ...]:
    """The problems that are told with it, the one that failed again with a failure more."""
    if finding.fingerprint == life.fingerprint:
        return life.members
    return tuple(
        msgspec.structs.replace(other, count=other.count + 1) if other.key == finding.fingerprint else other
        for other in life.members
    )


def _worse(one: Severity, other: Severity) -> Severity:
    return one if RANK[one] >= RANK[other] else other


def _with(partitions: tuple[str, ...], partition: str | None) -> tuple[str, ...]:
    if not partition or partition in partitions:
        return partitions
    return (*partitions, partition)[-SHOWN:]
