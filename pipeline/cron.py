"""Cron expressions in a time zone: the one door to `cronsim`. Pure.

Times in and out are Unix ns (UTC). A local time that a change of the clocks leaves out or repeats is handled as by
Debian's cron. Source: https://github.com/cuu508/cronsim.
"""

from datetime import UTC, datetime
from typing import Final
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from pipeline.clock import SECOND

_LAST_S: Final = 253_402_214_400
"""9999-12-31: an event's clock can be wrong, and a date must still be possible."""


def local_time(ns: int, zone: ZoneInfo) -> datetime:
    """The moment on the clocks of `zone`, to the second; times beyond the calendar stand at its ends."""
    return datetime.fromtimestamp(min(max(ns // SECOND, 0), _LAST_S), UTC).astimezone(zone)


def zone_of(name: str) -> ZoneInfo:
    """The IANA zone `name`. Raises ValueError for one that there is not."""
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        raise ValueError(f"there is no time zone {name!r}; write it as `Europe/Berlin` or `UTC`") from error


class Cron:
    """An expression of five fields (`0 9 * * mon-fri`), or of six with seconds first, in a zone.

    Raises ValueError for what is none.
    """

    def __init__(self, expression: str, zone: ZoneInfo) -> None:
        self.expression, self._zone = expression, zone
        try:
            CronSim(expression, datetime(2024, 1, 1, tzinfo=zone))
        except CronSimError as error:
            raise ValueError(f"{expression!r} is no cron expression: {error}") from error

    def after(self, now_ns: int) -> int | None:
        """The first time later than `now_ns`; None if there is none for 50 years."""
        return self._found(now_ns, reverse=False)

    def at_or_before(self, now_ns: int) -> int | None:
        """The last time that is not later than `now_ns`."""
        return self._found(now_ns + SECOND, reverse=True)

    def _found(self, now_ns: int, reverse: bool) -> int | None:
        try:
            found = next(CronSim(self.expression, local_time(now_ns, self._zone), reverse))
        except (StopIteration, OverflowError):
            return None
        return int(found.timestamp()) * SECOND
