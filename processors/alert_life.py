"""The life of one problem, from the first failure to its resolution. A pure state machine on domain time.

    first failure ──► firing ──► repeats are counted ──► digest at each window's end, if there were any
                                       │
                                       └─ still failing after `escalate_after` ──► escalated ──► repeated, repeated …
    whenever the last failing partition succeeds ──► resolved, and the next failure is another occurrence
    the `flapping_count`th occurrence within `flapping_window` ──► told once as flapping; from then on it fails and
        recovers within one life, until neither has happened for the window: then how it ended is told

Times of windows and timers are domain times (`now_ns` of findings); the first and latest failure that people are told
are the events' own. A failure at time t counts before a timer due at t, so a window is (t − window, t]. Windows follow
one another while they hold failures: with a failure every five minutes digests come on the hour, and the escalation
falls on the end of one, whose place it takes. A window without a failure closes, the next failure opens another.

No list of times is kept: each count is over a span that starts where the last one ended, or at the first failure.
"""

from typing import Final

import msgspec

from pipeline.signals import Alert, AlertState, Severity

SHOWN: Final = 20
"""Partitions that a notification names."""

_RAISED: Final[dict[Severity, Severity]] = {
    "INFO": "WARNING",
    "WARNING": "ERROR",
    "ERROR": "CRITICAL",
    "CRITICAL": "CRITICAL",
}
_RANK: Final[dict[Severity, int]] = {"INFO": 0, "WARNING": 1, "ERROR": 2, "CRITICAL": 3}


class Policy(msgspec.Struct, frozen=True):
    """When to say what, in ns; 0 switches an escalation, the repeats or the watch for flapping off."""

    window_ns: int
    escalate_after_ns: int
    escalate_after_count: int
    repeat_every_ns: int
    escalate_to: tuple[str, ...] = ()
    flapping_count: int = 0
    flapping_ns: int = 0


class Life(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One occurrence of a problem. `finding` is its latest failure, of the highest severity that it ever had."""

    finding: Alert
    occurrence: int
    began_ns: int  # domain time of the first failure
    latest_ns: int  # domain time of the latest
    first_ns: int  # the events' own times
    last_ns: int
    total: int = 1
    at_start: int = 1  # failures at `began_ns` itself
    persists_ns: int = 0  # domain time of the first failure after `began_ns`; 0: there was none
    window_ends_ns: int = 0  # 0: no window is open
    since: int = 0  # failures that were counted since the last notification
    escalated_ns: int = 0
    told_ns: int = 0  # when it was escalated or repeated last
    failing: int = 1  # partitions that fail now; 0 only while it flaps
    partitions: tuple[str, ...] = ()  # the latest SHOWN of them
    starts: tuple[int, ...] = ()  # domain times at which the latest occurrences began, this one the last
    flaps_ns: int = 0  # while it flaps: when it last failed after being well, or the other way round


# --- what happens ----------------------------------------------------------------------------------------------------


def begin(finding: Alert, occurrence: int, policy: Policy, starts: tuple[int, ...] = ()) -> tuple[Life, Alert]:
    """The first failure: told at once. `starts` are those of the occurrences before."""
    known = (*starts, finding.now_ns)[-policy.flapping_count :] if policy.flapping_count else ()
    life = Life(
        finding=finding,
        occurrence=occurrence,
        began_ns=finding.now_ns,
        latest_ns=finding.now_ns,
        first_ns=finding.first_ns,
        last_ns=finding.last_ns,
        window_ends_ns=finding.now_ns + policy.window_ns,
        partitions=(finding.partition,) if finding.partition else (),
        starts=known,
    )
    if policy.flapping_count and len(known) >= policy.flapping_count and known[-1] - known[0] <= policy.flapping_ns:
        life = msgspec.structs.replace(life, window_ends_ns=0, flaps_ns=finding.now_ns)
        return life, _told(life, "digest", finding.now_ns, len(known), policy.flapping_ns, "flapping", policy)
    return life, _told(life, "firing", finding.now_ns, 1, 0, "first", policy)


def again(life: Life, finding: Alert, fresh: bool, policy: Policy) -> Life:
    """Another failure: counted. `fresh`: of a partition that was not failing."""
    now = max(finding.now_ns, life.latest_ns)  # sources of the whole do not run in step
    opens = not life.escalated_ns and not life.window_ends_ns and not life.flaps_ns
    return msgspec.structs.replace(
        life,
        finding=_latest(life.finding, finding),
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
        flaps_ns=life.flaps_ns if life.failing else now,
    )


def healed(life: Life, recovery: Alert, policy: Policy) -> tuple[Life | None, Alert | None]:
    """A failing partition succeeded. Without a life left it is resolved, and that is told."""
    now = max(recovery.now_ns, life.latest_ns)
    if life.failing > 1:
        left = tuple(name for name in life.partitions if name != recovery.partition)
        return msgspec.structs.replace(life, failing=life.failing - 1, partitions=left), None
    over = msgspec.structs.replace(life, failing=0, partitions=())
    if life.flaps_ns:
        return msgspec.structs.replace(over, flaps_ns=now), None
    return None, _told(over, "resolved", now, life.total, 0, "recovered", policy)


def due(life: Life, policy: Policy) -> int | None:
    """When something is to be said next, unless it is resolved before."""
    times = [time for time in (_stable(life, policy), _repeat(life, policy), _escalation(life, policy)) if time]
    if life.window_ends_ns and not life.escalated_ns:
        times.append(life.window_ends_ns)
    return min(times, default=None)


def on_due(life: Life, policy: Policy) -> tuple[Life | None, Alert | None]:
    """The timer that `due` named has come. The life afterwards is due later than it was, or not at all; None: over."""
    now = due(life, policy)
    assert now is not None
    if now == _stable(life, policy):
        return _settled(life, now, policy)
    if life.escalated_ns:
        told = msgspec.structs.replace(life, told_ns=now, since=0)
        span = policy.repeat_every_ns
        return told, _told(told, "repeated", now, life.since, span, "not_resolved", policy)
    if now == _escalation(life, policy):
        return _escalated(life, now, policy)
    if not life.since:
        return msgspec.structs.replace(life, window_ends_ns=0), None
    next_end = now + policy.window_ns if policy.window_ns else 0
    told = msgspec.structs.replace(life, window_ends_ns=next_end, since=0)
    return told, _told(told, "digest", now, life.since, policy.window_ns, "window_over", policy)


# --- how it is decided -----------------------------------------------------------------------------------------------


def _escalation(life: Life, policy: Policy) -> int:
    """When it escalates, 0 if as it stands never. A failure that nothing followed does not persist."""
    if life.escalated_ns or not life.failing:
        return 0
    times = []
    if policy.escalate_after_ns and life.persists_ns:
        times.append(max(life.began_ns + policy.escalate_after_ns, life.persists_ns))
    if policy.escalate_after_count and life.total >= policy.escalate_after_count:
        times.append(life.latest_ns)
    return max(min(times), life.flaps_ns) if times else 0


def _repeat(life: Life, policy: Policy) -> int:
    """When an escalated problem is told again, 0 for never. One that flaps is not while it is well."""
    if not life.escalated_ns or not policy.repeat_every_ns or not life.failing:
        return 0
    return max(life.told_ns + policy.repeat_every_ns, life.flaps_ns)


def _stable(life: Life, policy: Policy) -> int:
    """When it flaps no more, unless something happens before; 0 if it does not flap."""
    return life.flaps_ns + policy.flapping_ns if life.flaps_ns else 0


def _settled(life: Life, now: int, policy: Policy) -> tuple[Life | None, Alert]:
    """It has stayed as it is for the window: one word of how it ended."""
    if not life.failing:
        return None, _told(life, "resolved", now, life.total, 0, "stable", policy)
    still = msgspec.structs.replace(
        life,
        flaps_ns=0,
        starts=(),
        since=0,
        told_ns=now,
        window_ends_ns=0 if life.escalated_ns else now + policy.window_ns,
    )
    state: AlertState = "repeated" if life.escalated_ns else "digest"
    return still, _told(still, state, now, life.since, 0, "still_failing", policy)


def _escalated(life: Life, now: int, policy: Policy) -> tuple[Life, Alert]:
    """Counts (now − escalate_after, now]: between the first failure and that span's start there was none."""
    told = msgspec.structs.replace(life, escalated_ns=now, told_ns=now, window_ends_ns=0, since=0)
    span = policy.escalate_after_ns
    by_time = span and now - span >= life.began_ns
    count = life.total - life.at_start if by_time else life.total
    return told, _told(told, "escalated", now, count, span, "persists" if by_time else "count_reached", policy)


def _told(life: Life, state: AlertState, now_ns: int, count: int, window_ns: int, reason: str, policy: Policy) -> Alert:
    escalated = bool(life.escalated_ns)
    return msgspec.structs.replace(
        life.finding,
        state=state,
        severity=_RAISED[life.finding.severity] if escalated else life.finding.severity,
        now_ns=now_ns,
        first_ns=life.first_ns,
        last_ns=life.last_ns,
        count=count,
        window_ns=window_ns,
        key=f"{life.finding.fingerprint}#{life.occurrence}",
        reason=reason,
        partitions=life.partitions,
        failing=life.failing,
        escalate_to=policy.escalate_to if escalated else (),
        repeat_ns=policy.repeat_every_ns if escalated and state != "resolved" else 0,
    )


def _latest(before: Alert, finding: Alert) -> Alert:
    """The finding, not milder than before, and with the last known impact."""
    milder = _RANK[finding.severity] < _RANK[before.severity]
    if not milder and finding.impact is not None:
        return finding
    return msgspec.structs.replace(
        finding,
        severity=before.severity if milder else finding.severity,
        impact=finding.impact or before.impact,
    )


def _with(partitions: tuple[str, ...], partition: str | None) -> tuple[str, ...]:
    if not partition or partition in partitions:
        return partitions
    return (*partitions, partition)[-SHOWN:]
