"""Mute windows: times at which channels are not to be told. Pure; times are domain times in Unix ns.

A window is a weekly range (`days`, `from`, `until`), a cron expression and a duration, or one stretch between two
dates. `outside: true` turns a weekly range round: mute whenever it is not business hours.
"""

import re
from collections.abc import Iterator, Sequence
from datetime import date, datetime, timedelta
from datetime import time as clock_time
from typing import Final
from zoneinfo import ZoneInfo

import msgspec

from pipeline.clock import SECOND
from pipeline.cron import Cron, local_time, zone_of
from pipeline.options import Duration

_DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_CLOCK: Final = re.compile(r"([01]?\d|2[0-4]):([0-5]\d)")
_STEPS: Final = 60
"""How many ends of windows that touch one another are followed to find the end of the silence."""


class MuteWindow(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename={"from_": "from"}):
    """When not to tell. Give `from` and `until` as times of day (with `days`), or as dates, or `cron` with `lasts`."""

    name: str
    """What routes call it."""
    days: str = "mon-sun"
    """Days of a weekly range: `mon-fri`, `sat,sun`. A range over midnight belongs to the day on which it begins."""
    from_: str = ""
    """When it begins: `22:00`, or a date and time with its offset: `2026-12-24T18:00+01:00`."""
    until: str = ""
    """When it ends: `06:00` (the next day if not later than `from`), or a date and time."""
    outside: bool = False
    """Mute at all other times than the weekly range: business hours are `mon-fri`, `09:00`, `17:00`."""
    cron: str = ""
    """When it begins, as cron says it: `0 2 * * sun`."""
    lasts: Duration = Duration(0)
    """How long it lasts from each time that `cron` names."""
    timezone: str = "UTC"
    """The time zone of times of day and of `cron`: `Europe/Berlin`."""

    def __post_init__(self) -> None:
        _reader(self)


class Window:
    """A window at work."""

    def __init__(self, config: MuteWindow) -> None:
        self.name = config.name
        self._reader = _reader(config)

    def ends(self, now_ns: int) -> int:
        """If it is muted at `now_ns`: when that ends; else 0."""
        end = now_ns
        for _ in range(_STEPS):
            later = self._reader.ends(end)
            if later <= end:
                break
            end = later
        return end if end > now_ns else 0


class _Weekly:
    def __init__(self, days: frozenset[int], begins: int, ends: int, outside: bool, zone: ZoneInfo) -> None:
        self._days, self._begins, self._ends, self._outside, self._zone = days, begins, ends, outside, zone

    def ends(self, now_ns: int) -> int:
        spans = list(self._spans(now_ns))
        within = max((end for begin, end in spans if begin <= now_ns < end), default=0)
        if not self._outside:
            return within
        return 0 if within else min((begin for begin, _ in spans if begin > now_ns), default=0)

    def _spans(self, now_ns: int) -> Iterator[tuple[int, int]]:
        """Those of the days around: yesterday's may last until today, the next one may be a week away."""
        today = local_time(now_ns, self._zone).date()
        for offset in range(-2, 9):
            day = today + timedelta(days=offset)
            if day.weekday() in self._days:
                longer = self._ends <= self._begins
                yield self._at(day, self._begins), self._at(day + timedelta(days=1) if longer else day, self._ends)

    def _at(self, day: date, minutes: int) -> int:
        whole = day + timedelta(days=minutes // 1440)
        moment = datetime.combine(whole, clock_time(minutes % 1440 // 60, minutes % 60), self._zone)
        return int(moment.timestamp()) * SECOND


class _Recurring:
    def __init__(self, cron: Cron, lasts_ns: int) -> None:
        self._cron, self._lasts = cron, lasts_ns

    def ends(self, now_ns: int) -> int:
        began = self._cron.at_or_before(now_ns)
        return began + self._lasts if began is not None and now_ns < began + self._lasts else 0


class _Once:
    def __init__(self, begins: int, ends: int) -> None:
        self._begins, self._ends = begins, ends

    def ends(self, now_ns: int) -> int:
        return self._ends if self._begins <= now_ns < self._ends else 0


def _reader(config: MuteWindow) -> _Weekly | _Recurring | _Once:
    """Raises ValueError for a window that says nothing, or two things."""
    zone = zone_of(config.timezone)
    if config.cron:
        if config.from_ or config.until or config.outside or config.lasts <= 0:
            raise ValueError(f"mute window {config.name!r}: `cron` needs `lasts` and goes with nothing else")
        return _Recurring(Cron(config.cron, zone), config.lasts.ns)
    begins, ends = _minutes(config.from_), _minutes(config.until)
    if begins is not None and ends is not None:
        return _Weekly(_weekdays(config), begins, ends, config.outside, zone)
    first, last = _moment(config.from_), _moment(config.until)
    if first is None or last is None or last <= first or config.outside:
        raise ValueError(
            f"mute window {config.name!r}: needs `from` and `until` (`22:00`, or a date with its offset "
            "`2026-12-24T18:00+01:00`, `from` before `until`), or `cron` and `lasts`"
        )
    return _Once(first, last)


def _weekdays(config: MuteWindow) -> frozenset[int]:
    found: set[int] = set()
    for part in config.days.lower().replace(" ", "").split(","):
        first, _, last = part.partition("-")
        if first not in _DAYS or (last or first) not in _DAYS:
            raise ValueError(f"mute window {config.name!r}: {part!r} is no day; there are {', '.join(_DAYS)}")
        begin, end = _DAYS.index(first), _DAYS.index(last or first)
        found.update(day % 7 for day in range(begin, end + 1 if end >= begin else end + 8))
    return frozenset(found)


def _minutes(text: str) -> int | None:
    match = _CLOCK.fullmatch(text.strip())
    minutes = int(match[1]) * 60 + int(match[2]) if match else None
    return minutes if minutes is not None and minutes <= 1440 else None


def _moment(text: str) -> int | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return int(moment.timestamp()) * SECOND if moment.tzinfo else None


def muted(windows: Sequence[Window], now_ns: int) -> tuple[int, str]:
    """Until when the windows together are silent at `now_ns`, and the name of the first; (0, "") if none is."""
    end, name = now_ns, ""
    for _ in range(_STEPS):
        later, by = max(((window.ends(end), window.name) for window in windows), default=(0, ""))
        if later <= end:
            break
        end, name = later, name or by
    return (end, name) if name else (0, "")
