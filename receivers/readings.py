"""What was read of a machine or a server, and what of that is worth telling. Pure.

A reading is of one thing ("disk /"): how bad it is now, in words, with its figures. It is told when it was bad in
`polls` readings one after another (a spike is none), again when it gets worse or has lasted for `again`, and over when
it is no longer read as bad, or no longer there.
"""

from collections.abc import Mapping, Sequence
from typing import Final, Literal

import msgspec

from pipeline.conditions import Conditions, Of
from pipeline.options import Size
from pipeline.signals import Alert, Severity

Level = Severity | Literal[""]
"""How bad; "" is well."""

RANK: Final[Mapping[str, int]] = {"": 0, "INFO": 1, "WARNING": 2, "ERROR": 3, "CRITICAL": 4}
BACK: Final = 2.0
"""So many points below its limit a figure is well again: one that hovers at the limit does not come and go."""


class Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """From which share on it is bad, in percent. 0: never."""

    warning: float = 80.0
    """WARNING from here on."""
    critical: float = 95.0
    """CRITICAL from here on."""

    def __post_init__(self) -> None:
        if self.warning < 0 or self.critical < 0:
            raise ValueError("limits are not below 0")
        if self.warning and self.critical and self.warning > self.critical:
            raise ValueError("warning must not be above critical")

    def level(self, value: float, told: Level = "") -> Level:
        """How bad the value is; it has to fall a little further to be better than what was told."""
        for limit, level in ((self.critical, "CRITICAL"), (self.warning, "WARNING")):
            back = BACK if RANK[told] >= RANK[level] else 0.0
            if limit and value >= limit - back:
                return "CRITICAL" if level == "CRITICAL" else "WARNING"
        return ""


class Figure(msgspec.Struct, frozen=True):
    """One gauge's value."""

    name: str
    value: float
    labels: tuple[tuple[str, str], ...] = ()


class Reading(msgspec.Struct, frozen=True):
    """One thing, as it is now. `kind` is the alert's."""

    thing: str
    title: str = ""
    level: Level = ""
    words: str = ""
    figures: tuple[Figure, ...] = ()
    kind: str = "resource"


class Told(msgspec.Struct, frozen=True, omit_defaults=True):
    """What was told of a thing. `by`: the collector that reads it."""

    level: Severity
    at_ns: int
    by: str
    kind: str = "resource"


class Judge:
    """Keeps what was told (`told`, to be stored) and how often in a row a thing was bad (lost in a restart)."""

    def __init__(
        self, conditions: Conditions, polls: int, again_ns: int, host: str = "", kind: str = "resource"
    ) -> None:
        self.told: dict[str, Told] = {}
        self._bad: dict[str, int] = {}
        self._conditions, self._polls, self._again_ns = conditions, polls, again_ns
        self._host, self._kind = host, kind

    def level_told(self, thing: str) -> Level:
        """As how bad it was told; "" if it was not."""
        known = self.told.get(thing)
        return known.level if known else ""

    def judge(self, by: str, readings: Sequence[Reading], now_ns: int) -> list[Alert]:
        """The findings of one poll of a collector. Their `now_ns` is 0: the runtime gives them the time."""
        found: list[Alert] = []
        for reading in readings:
            alert = self._one(by, reading, now_ns)
            if alert is not None:
                found.append(alert)
        self._bad.pop(_reading(by), None)
        here = {reading.thing for reading in readings}
        for thing in [thing for thing, told in self.told.items() if told.by == by and thing not in here]:
            found.append(self._over(thing, now_ns))
        return found

    def failed(self, by: str, error: str, now_ns: int) -> list[Alert]:
        """A collector could not read: that is a condition too, or a cut line would look like health.

        Nothing is known of its things meanwhile, so nothing of them is over.
        """
        words = f"{by} cannot be read: {error}"
        reading = Reading(_reading(by), f"Cannot Read {by}", "WARNING", words, kind=self._kind)
        alert = self._one(by, reading, now_ns)
        return [alert] if alert is not None else []

    def _one(self, by: str, reading: Reading, now_ns: int) -> Alert | None:
        known = self.told.get(reading.thing)
        if not reading.level:
            self._bad.pop(reading.thing, None)
            return self._over(reading.thing, now_ns) if known else None
        bad = self._bad[reading.thing] = self._bad.get(reading.thing, 0) + 1
        worse = RANK[reading.level] > RANK[known.level if known else ""]
        lasts = known is not None and bool(self._again_ns) and known.at_ns + self._again_ns <= now_ns
        if not (worse and bad >= self._polls) and not lasts:
            return None
        self.told[reading.thing] = Told(reading.level, now_ns, by, reading.kind)
        title = f"{reading.title} ({self._host})" if self._host else reading.title
        of = self._of(reading.thing)
        return self._conditions.failing(reading.kind, reading.level, title, reading.words, of, 0, now_ns)

    def _over(self, thing: str, now_ns: int) -> Alert:
        known = self.told.pop(thing)
        self._bad.pop(thing, None)
        return self._conditions.recovered(known.kind, self._of(thing), 0, now_ns)

    def _of(self, thing: str) -> Of:
        return Of(thing=f"{self._host} {thing}".strip())


def _reading(by: str) -> str:
    return f"reading of {by}"


def percent(used: float, total: float) -> float:
    """Of 100; 0 of nothing."""
    return 100.0 * used / total if total > 0 else 0.0


def size(value: float) -> str:
    """`180 GB`, as people say it (decimal)."""
    for unit, factor in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if abs(value) >= factor:
            return f"{value / factor:.3g} {unit}"
    return f"{value:.0f} B"


class SizeLimits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """From which size on it is bad. 0: never."""

    warning: Size = Size(0)
    """WARNING from here on."""
    critical: Size = Size(0)
    """CRITICAL from here on."""

    def level(self, value: float) -> Level:
        """How bad the value is."""
        if self.critical and value >= self.critical:
            return "CRITICAL"
        return "WARNING" if self.warning and value >= self.warning else ""
