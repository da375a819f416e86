"""Service levels as they are written (`freshness: "2 hours"`, `availability: "99.9%"`); how late is how bad. Pure."""

from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from functools import lru_cache
from math import isfinite
from typing import Final, Literal

import msgspec

from pipeline.clock import SECOND
from pipeline.cron import Cron, zone_of
from pipeline.lineage import AssetFacts, Freshness
from pipeline.options import Duration
from pipeline.signals import Severity

SHORTEST_S: Final = 60
"""A freshness target below this is none that a batch system can keep; it counts as this."""


class SlaOption(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The service levels of one asset, or of all that a pattern names."""

    freshness: Duration | None = None
    """It is updated at least this often: `2 hours`. Takes the place of Dagster's policy of the asset."""
    availability: str | float | None = None
    """The share of its executions that succeed, as `99.9%`."""
    partitions: Literal["any", "each"] = "any"
    """`any`: an update of any partition makes the asset fresh. `each`: every partition that was ever made has to be
    as fresh by itself (one a country, a tenant), and breaches by itself."""

    def problems(self) -> Iterator[tuple[str, str]]:
        """Path and message of each fault."""
        if self.freshness is not None and self.freshness < SHORTEST_S:
            yield "freshness", "must be at least a minute, as in `2 hours`"
        if self.availability is not None:
            try:
                availability(self.availability)
            except ValueError as error:
                yield "availability", str(error)


def availability(written: str | float) -> float:
    """The share, as a number above 0 and below 1: of `99.9%`, `99.9`, 99.9 and 0.999. Raises ValueError."""
    text = str(written).strip()
    try:
        number = float(text.removesuffix("%").strip())
    except ValueError:
        number = float("nan")
    share = number / 100 if text.endswith("%") or number > 1 else number
    if not isfinite(share) or not 0 < share < 1:
        raise ValueError(f"{text!r} is no availability; write for example `99.9%` (below 100%: none has no errors)")
    return round(share, 9)


def percent(share: float) -> str:
    """`99.95%`, without needless zeros."""
    return f"{share * 100:.3f}".rstrip("0").rstrip(".") + "%"


class Slas:
    """The service levels of every asset. A key written out goes before patterns, of which the first holds."""

    def __init__(self, options: Mapping[str, SlaOption]) -> None:
        self._exact = dict(options)
        self._patterns = [(p, option) for p, option in options.items() if any(sign in p for sign in "*?[")]

    def of(self, asset: str) -> SlaOption | None:
        """What is written for this asset; None if nothing is."""
        found = self._exact.get(asset)
        if found is not None or not self._patterns:
            return found
        return next((option for pattern, option in self._patterns if fnmatchcase(asset, pattern)), None)

    def named(self) -> list[str]:
        """The assets that are written out, no patterns."""
        patterns = {pattern for pattern, _ in self._patterns}
        return [asset for asset in self._exact if asset not in patterns]


class Level(msgspec.Struct, frozen=True, gc=False):
    """So old is so bad."""

    after_ns: int
    severity: Severity


class Target(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """When an asset is late: by its age, or by a deadline of which it needs an update `lower_ns` before or later.

    `levels` rise; with a deadline the n-th is reached when the n-th deadline in a row has been missed.
    """

    levels: tuple[Level, ...]
    promised_ns: int = 0  # the age that is promised; 0 of a deadline
    cron: str = ""
    zone: str = "UTC"
    lower_ns: int = 0
    each: bool = False
    source: Literal["sla", "policy"] = "sla"

    def reached(self, level: int, base_ns: int) -> int | None:
        """When the level (from 0) is reached by what was updated at `base_ns`; None if never."""
        if level >= len(self.levels):
            return None
        if not self.cron:
            return base_ns + self.levels[level].after_ns
        cron = _cron(self.cron, self.zone)
        at = cron.after(base_ns + self.lower_ns)  # the first deadline for which that update was too early
        for _ in range(level):
            at = cron.after(at) if at is not None else None
        return at


@lru_cache(256)
def _cron(expression: str, zone: str) -> Cron:
    return Cron(expression, zone_of(zone))


def target_of(option: SlaOption | None, facts: AssetFacts | None, twice: float) -> Target | None:
    """The freshness target: what is written, else Dagster's policy. `twice`: so many times late is CRITICAL (0: never).

    Raises ValueError for a policy that cannot be read (its deadline is no cron expression).
    """
    each = option is not None and option.partitions == "each"
    if option is not None and option.freshness is not None:
        return Target(_levels(option.freshness.ns, None, twice), option.freshness.ns, each=each)
    if facts is None or facts.freshness is None:
        return None
    return _of_policy(facts.freshness, twice, each)


def _of_policy(policy: Freshness, twice: float, each: bool) -> Target | None:
    if policy.deadline_cron:
        zone = policy.timezone or "UTC"
        _cron(policy.deadline_cron, zone)
        first = Level(0, "WARNING")
        levels = (first, Level(0, "CRITICAL")) if twice else (first,)
        return Target(levels, 0, policy.deadline_cron, zone, (policy.lower_bound_s or 0) * SECOND, each, "policy")
    if not policy.fail_s or policy.fail_s <= 0:
        return None
    fail_ns = max(policy.fail_s, SHORTEST_S) * SECOND
    warn_ns = max(policy.warn_s, SHORTEST_S) * SECOND if policy.warn_s else None
    return Target(_levels(fail_ns, warn_ns, twice), fail_ns, each=each, source="policy")


def _levels(target_ns: int, warn_ns: int | None, twice: float) -> tuple[Level, ...]:
    """At the target WARNING, or ERROR where Dagster warns before; at twice the target CRITICAL."""
    levels = [Level(target_ns, "WARNING")]
    if warn_ns is not None and warn_ns < target_ns:
        levels = [Level(warn_ns, "WARNING"), Level(target_ns, "ERROR")]
    if twice:
        levels.append(Level(round(target_ns * twice), "CRITICAL"))
    return tuple(levels)
