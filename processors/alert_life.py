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
here: who cannot say it keeps the life as it was, `held`. What timers do to a life is in `processors.alert_timers`.
"""

import sys
from typing import Final

import msgspec

from pipeline.signals import Alert, AlertState, Decision, Member, Severity
from processors.alert_finding import latest
from processors.alert_members import member
from processors.alert_notice import notice
from processors.alert_state import Life, Policy, encode

SHOWN: Final = 20
"""Partitions, and problems of a group, that a notification names."""
DECISIONS: Final = 20
"""The first and the latest decisions that are kept of a life."""

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
        told = msgspec.structs.replace(freed(life), since=0)
        return told, notice(told, "digest", now, len(life.starts), policy.flapping_ns, "flapping", policy)
    told = msgspec.structs.replace(freed(life), since=0, window_ends_ns=now + policy.window_ns)
    return told, notice(told, "firing", now, life.total, 0, reason, policy)


def again(life: Life, finding: Alert, fresh: int, policy: Policy, reason: str, detail: str) -> Life:
    """Another failure: counted, and the decision noted. `fresh`: of so many parts that were not failing."""
    now = max(finding.now_ns, life.latest_ns)  # sources of the whole do not run in step
    opens = not (life.escalated_ns or life.window_ends_ns or life.flaps_ns or life.held)
    decisions, decided = _decided(life, finding.now_ns, reason, detail)
    return msgspec.structs.replace(
        life,
        raw=latest(life, finding),
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
        decisions=decisions,
        decided=decided,
    )


def wider(life: Life, finding: Alert, fresh: int) -> Life:
    """More assets of the failure that was counted last: of some of them it is known later that they are not made."""
    return msgspec.structs.replace(
        life,
        raw=latest(life, finding),
        severity=_worse(life.severity, finding.severity),
        failing=life.failing + fresh,
    )


def worse(life: Life, now: int, reason: str, policy: Policy) -> tuple[Life, Alert]:
    """It is worse than people know (more severe, more assets): told at once, as whatever comes next."""
    state: AlertState = "repeated" if life.escalated_ns else "digest"
    window = 0 if life.escalated_ns or life.flaps_ns else now + policy.window_ns
    told = msgspec.structs.replace(life, since=0, window_ends_ns=window, told_ns=now)
    return told, notice(told, state, now, life.since, 0, reason, policy)


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
    return notice(over, "resolved", now, life.total, 0, reason, policy) if life.told else None


def hold(life: Life, reason: str, until_ns: int, now: int, detail: str = "") -> Life:
    """Nothing is told until `until_ns` (0: until it is released), it is counted."""
    return noted(msgspec.structs.replace(life, held=reason, held_until_ns=until_ns), now, reason, detail)


def freed(life: Life) -> Life:
    """Nothing holds it."""
    return msgspec.structs.replace(life, held="", held_until_ns=0, held_by="") if life.held else life


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
    decisions, decided = _decided(life, at_ns, reason, detail)
    return msgspec.structs.replace(life, decisions=decisions, decided=decided)


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


def _decided(life: Life, at_ns: int, reason: str, detail: str) -> tuple[tuple[Decision, ...], int]:
    """The decisions with one more, and how many were ever made."""
    known = life.decisions
    if known and (last := known[-1]).reason == reason and last.detail == detail:
        return (*known[:-1], Decision(last.at_ns, reason, last.times + 1, detail)), life.decided
    made = Decision(at_ns, reason, 1, detail[:200])
    kept = known if len(known) < DECISIONS else (known[0], *known[2:])
    return (*kept, made), life.decided + 1


def _counted(life: Life, finding: Alert) -> tuple[Member, ...]:
    """The problems that are told with it, the one that failed again with a failure more."""
    if not life.members or finding.fingerprint == life.fingerprint:
        return life.members
    return tuple(
        msgspec.structs.replace(other, count=other.count + 1) if other.key == finding.fingerprint else other
        for other in life.members
    )


def _worse(one: Severity, other: Severity) -> Severity:
    return one if one == other or RANK[one] >= RANK[other] else other


def _with(partitions: tuple[str, ...], partition: str | None) -> tuple[str, ...]:
    if not partition or partition in partitions:
        return partitions
    return (*partitions, partition)[-SHOWN:]
