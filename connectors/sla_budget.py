"""Availability as an error budget: how many executions may fail, how many have, and how fast it is being spent. Pure.

The burn rate is how many times faster than allowed the budget goes: failed share / (1 − target). An alert needs a long
window, that says it matters, and a short one, that says it still goes on. Source: the SRE workbook, chapter 5, table
5-8: of the budget of 30 days, 2 % in an hour, 5 % in 6 hours, 10 % in 3 days.

Assets run seldom, so two rules more: a long window counts only with two failures or more, and a short window in which
nothing ran is spoken for by the last execution.
"""

from typing import Final

import msgspec

from connectors.sla import percent
from pipeline.clock import DAY, HOUR, MINUTE
from pipeline.conditions import span
from pipeline.signals import Severity

FINE_NS: Final = 5 * MINUTE
COARSE_NS: Final = HOUR
FAILURES: Final = 2
"""Failures in a long window below which it says nothing: one is an alert of its own already."""


class Rule(msgspec.Struct, frozen=True):
    """This share of the whole budget within `long_ns`, and `short_ns` as fast, is so bad."""

    share: float
    long_ns: int
    short_ns: int
    severity: Severity


RULES: Final = (
    Rule(0.02, HOUR, 5 * MINUTE, "CRITICAL"),
    Rule(0.05, 6 * HOUR, 30 * MINUTE, "ERROR"),
    Rule(0.10, 3 * DAY, 6 * HOUR, "WARNING"),
)

Bucket = tuple[int, int, int]
"""Index (time / width), executions that succeeded, that failed."""


class Executions(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """The executions of one asset: buckets of 5 minutes for what is recent, of an hour for the whole window."""

    fine: tuple[Bucket, ...] = ()
    coarse: tuple[Bucket, ...] = ()
    failed_last: bool = False
    told: str = ""  # as how bad it was told; "": within its budget
    told_ns: int = 0
    due_ns: int = 0


class Burn(msgspec.Struct, frozen=True):
    """A rule that holds: the burn rates and counts of its long window."""

    rule: Rule
    rate: float
    good: int
    bad: int


def counted(executions: Executions, failed: bool, now_ns: int, window_ns: int) -> Executions:
    """One execution more; what has left the windows is let go."""
    longest = RULES[1].long_ns + FINE_NS
    return msgspec.structs.replace(
        executions,
        fine=_added(executions.fine, FINE_NS, failed, now_ns, longest),
        coarse=_added(executions.coarse, COARSE_NS, failed, now_ns, window_ns + COARSE_NS),
        failed_last=failed,
    )


def totals(executions: Executions, now_ns: int, window_ns: int) -> tuple[int, int]:
    """Executions that succeeded and that failed within the window, to the bucket."""
    buckets, width = (executions.fine, FINE_NS) if window_ns <= RULES[1].long_ns else (executions.coarse, COARSE_NS)
    first = (now_ns - window_ns) // width
    inside = [bucket for bucket in buckets if bucket[0] > first]
    return sum(bucket[1] for bucket in inside), sum(bucket[2] for bucket in inside)


def burning(executions: Executions, target: float, now_ns: int, window_ns: int) -> Burn | None:
    """The worst rule that holds."""
    for rule in RULES:
        factor = rule.share * window_ns / rule.long_ns
        good, bad = totals(executions, now_ns, rule.long_ns)
        rate = _share(good, bad) / (1 - target)
        if bad < FAILURES or rate < factor:
            continue
        short_good, short_bad = totals(executions, now_ns, rule.short_ns)
        recent = _share(short_good, short_bad) if short_good + short_bad else float(executions.failed_last)
        if recent / (1 - target) >= factor:
            return Burn(rule, rate, good, bad)
    return None


def remaining(good: int, bad: int, target: float) -> float:
    """The share of the error budget that is left; below 0 where it is overspent."""
    return 1.0 - _share(good, bad) / (1 - target)


def in_words(executions: Executions, burn: Burn, target: float, now_ns: int, window_ns: int) -> str:
    """What a person wants to know of it."""
    good, bad = totals(executions, now_ns, window_ns)
    spent = 1.0 - remaining(good, bad, target)
    budget = f"spent {spent:,.1f} times over" if spent >= 1.05 else f"{max(0.0, spent) * 100:.0f}% spent"
    gone = span(window_ns / burn.rate)
    return (
        f"{bad:,} of {good + bad:,} executions in the last {span(window_ns)} failed: availability "
        f"{percent(good / (good + bad))} against {percent(target)}, the error budget is {budget}. "
        f"In the last {span(burn.rule.long_ns)} {burn.bad:,} of {burn.good + burn.bad:,} failed: that burns the budget "
        f"{burn.rate:.3g} times as fast as it may, all of it in {gone}."
    )


def _added(buckets: tuple[Bucket, ...], width: int, failed: bool, now_ns: int, keep_ns: int) -> tuple[Bucket, ...]:
    index, first = now_ns // width, (now_ns - keep_ns) // width
    kept = [bucket for bucket in buckets if bucket[0] > first]
    good, bad = 0, 0
    if kept and kept[-1][0] >= index:  # domain time does not go back; should it, the last bucket takes it
        index, good, bad = kept.pop()
    kept.append((index, good + (not failed), bad + failed))
    return tuple(kept)


def _share(good: int, bad: int) -> float:
    return bad / (good + bad) if good + bad else 0.0
