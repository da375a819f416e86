"""How late one asset (or partition) is, and what of that was told. A pure state machine on domain time.

    updated ─► fresh ─► the target is reached: WARNING ─► twice the target: CRITICAL ─► again every `again`
       ▲                                                                                   │
       └────────────────────────────── an update: recovered ───────────────────────────────┘

Dagster may say the same itself (FRESHNESS_STATE_CHANGE): both feed one machine, which only ever tells what is worse
than what it told, so that a breach is told once, by whoever notices it first.
"""

from typing import Final, Literal

import msgspec

from connectors.sla import Target
from pipeline.clock import SECOND
from pipeline.conditions import moment, span
from pipeline.signals import Severity

LEAD_NS: Final = 60 * SECOND
"""No timer is due sooner than this after what set it: batches need not be taken apart for it."""

_RANK: Final[dict[str, int]] = {"": 0, "INFO": 1, "WARNING": 2, "ERROR": 3, "CRITICAL": 4}


class Watch(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """What is known of one asset or partition. Ages count from `base_ns`: its last update, or since it is watched."""

    since_ns: int  # domain time when watching began
    base_ns: int
    last_ns: int = 0  # its last update, by the event's own clock; 0: none was seen
    target: Target | None = None
    told: Literal["", "INFO", "WARNING", "ERROR", "CRITICAL"] = ""  # as how bad it was told; "": it is fresh
    told_ns: int = 0
    due_ns: int = 0
    by_dagster: bool = False  # it was Dagster who called it late: an age of our own does not heal it
    ends_ns: int = 0  # it left the asset graph: its target ends then, unless it comes back; 0: it is there
    gone: bool = False  # wiped: it promises nothing until it is made again


class Turn(msgspec.Struct, frozen=True):
    """What comes of something that happened. `severity`: it is to be told as so bad; `recovered`: it is well again."""

    watch: Watch
    severity: Severity | None = None
    recovered: bool = False


def begun(now_ns: int, target: Target | None, again_ns: int) -> Watch:
    """Watching begins, with nothing known of updates before."""
    return _armed(Watch(now_ns, now_ns, target=target), now_ns, again_ns)


def updated(watch: Watch, at_ns: int, now_ns: int, again_ns: int) -> Turn:
    """It was updated at `at_ns`. An update that is older than the last one changes nothing."""
    if at_ns <= watch.last_ns:
        return Turn(watch)
    late = _worst(watch.target, at_ns, now_ns)
    if late and watch.told:  # too old to be a cure: it is late by this update, too
        return Turn(_armed(msgspec.structs.replace(watch, base_ns=at_ns, last_ns=at_ns), now_ns, again_ns))
    fresh = msgspec.structs.replace(
        watch, base_ns=at_ns, last_ns=at_ns, told="", told_ns=0, by_dagster=False, gone=False
    )
    return Turn(_armed(fresh, now_ns, again_ns), recovered=bool(watch.told))


def said(watch: Watch, state: str, before: str, at_ns: int, now_ns: int, again_ns: int) -> Turn:
    """Dagster's own word: PASS, WARN, FAIL, else that it does not know. Of assets whose target is ours it is not asked.

    What it said of a time before the last update is overtaken.
    """
    if (watch.target is not None and watch.target.source == "sla") or watch.gone:
        return Turn(watch)
    if state in ("WARN", "FAIL"):
        if at_ns < watch.last_ns:
            return Turn(watch)
        severity: Severity = "ERROR" if state == "FAIL" and (before == "WARN" or _warns(watch.target)) else "WARNING"
        if _RANK[severity] <= _RANK[watch.told]:
            return Turn(watch)
        late = msgspec.structs.replace(watch, told=severity, told_ns=now_ns, by_dagster=True)
        return Turn(_armed(late, now_ns, again_ns), severity)
    if not watch.told or (state != "PASS" and not watch.by_dagster):
        return Turn(watch)
    well = msgspec.structs.replace(watch, base_ns=max(watch.base_ns, at_ns), told="", told_ns=0, by_dagster=False)
    return Turn(_armed(well, now_ns, again_ns), recovered=True)


def judged(watch: Watch, now_ns: int, again_ns: int) -> Turn:
    """Its timer is due: it has become later, or is late still. The watch afterwards is due later than now, or never."""
    if watch.ends_ns and watch.ends_ns <= now_ns:
        watch = msgspec.structs.replace(watch, target=None, ends_ns=0, by_dagster=False)
    worst = _worst(watch.target, watch.base_ns, now_ns)
    if _RANK[worst] > _RANK[watch.told]:
        late = msgspec.structs.replace(watch, told=worst, told_ns=now_ns)
        return Turn(_armed(late, now_ns, again_ns), worst or None)
    if watch.told and not worst and not watch.by_dagster:  # the target has become milder, or is no more
        well = msgspec.structs.replace(watch, told="", told_ns=0)
        return Turn(_armed(well, now_ns, again_ns), recovered=True)
    if watch.told and again_ns and watch.told_ns + again_ns <= now_ns:
        still = msgspec.structs.replace(watch, told_ns=now_ns)
        return Turn(_armed(still, now_ns, again_ns), watch.told)
    return Turn(_armed(watch, now_ns, again_ns))


def retargeted(watch: Watch, target: Target | None, now_ns: int) -> Watch:
    """Another target holds from now on: its timer comes soon and says what follows."""
    by_dagster = watch.by_dagster and target is not None and target.source == "policy"
    due_ns = 0 if watch.gone else now_ns + LEAD_NS
    return msgspec.structs.replace(watch, target=target, due_ns=due_ns, ends_ns=0, by_dagster=by_dagster)


def leaving(watch: Watch, now_ns: int, after_ns: int, again_ns: int) -> Watch:
    """The asset graph no longer has it: a while later its target ends."""
    return _armed(msgspec.structs.replace(watch, ends_ns=now_ns + after_ns), now_ns, again_ns)


def wiped(watch: Watch, now_ns: int) -> Turn:
    """It was wiped: it promises nothing until it is made again."""
    over = Watch(now_ns, now_ns, target=watch.target, gone=True)
    return Turn(over, recovered=bool(watch.told))


def in_words(watch: Watch, now_ns: int) -> str:
    """How late it is, for a person."""
    if watch.last_ns:
        since = f"Last updated {span(max(0, now_ns - watch.last_ns))} ago ({moment(watch.last_ns)})"
    else:
        since = f"No update seen since {moment(watch.base_ns)} ({span(max(0, now_ns - watch.base_ns))})"
    target = watch.target
    if target is None:
        return f"{since}. Dagster calls it late."
    if target.cron:
        return f"{since}; the deadline `{target.cron}` ({target.zone}) was missed."
    promise = "its SLA allows" if target.source == "sla" else "its freshness policy allows"
    return f"{since}; {promise} {span(target.promised_ns)}."


def _worst(target: Target | None, base_ns: int, now_ns: int) -> Severity | Literal[""]:
    worst: Severity | Literal[""] = ""
    for level, each in enumerate(target.levels if target else ()):
        at = target.reached(level, base_ns) if target else None
        if at is not None and at <= now_ns and _RANK[each.severity] > _RANK[worst]:
            worst = each.severity
    return worst


def _warns(target: Target | None) -> bool:
    return target is not None and any(level.severity == "ERROR" for level in target.levels)


def _armed(watch: Watch, now_ns: int, again_ns: int) -> Watch:
    """With the time of its next timer: the next level, or when what lasts is told again."""
    times = [watch.told_ns + again_ns] if watch.told and again_ns else []
    if watch.ends_ns:
        times.append(watch.ends_ns)
    for level, each in enumerate(watch.target.levels if watch.target else ()):
        if _RANK[each.severity] > _RANK[watch.told]:
            at = watch.target.reached(level, watch.base_ns) if watch.target else None
            if at is not None:
                times.append(at)
            break
    due_ns = max(min(times), now_ns + LEAD_NS) if times else 0
    return watch if due_ns == watch.due_ns else msgspec.structs.replace(watch, due_ns=due_ns)
