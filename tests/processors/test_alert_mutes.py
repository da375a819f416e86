"""Mute windows on the clocks of their zone, also where those are changed."""

from datetime import datetime
from typing import Any

import msgspec
import pytest

from pipeline.clock import HOUR
from pipeline.cron import Cron, local_time, zone_of
from processors.alert_mutes import MuteWindow, Window, muted


def ns(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp()) * 10**9


def window(**options: Any) -> Window:
    given = {"name": "w", "timezone": "Europe/Berlin", **options}
    return Window(msgspec.convert(given, MuteWindow, dec_hook=lambda kind, value: kind(value)))


def ends(muting: Window, at: str) -> str:
    end = muting.ends(ns(at))
    return local_time(end, zone_of("Europe/Berlin")).strftime("%m-%d %H:%M") if end else ""


NIGHT = {"from": "22:00", "until": "06:00"}
OFFICE = {"from": "09:00", "until": "17:00", "days": "mon-fri", "outside": True}


@pytest.mark.parametrize(
    ("options", "at", "until"),
    [
        (NIGHT, "2026-01-15T21:59:59+01:00", ""),
        (NIGHT, "2026-01-15T22:00:00+01:00", "01-16 06:00"),
        (NIGHT, "2026-01-16T05:59:59+01:00", "01-16 06:00"),
        (NIGHT, "2026-01-16T06:00:00+01:00", ""),
        (NIGHT, "2026-03-28T23:00:00+01:00", "03-29 06:00"),  # seven hours long, that night
        ({**NIGHT, "days": "fri"}, "2026-01-17T03:00:00+01:00", "01-17 06:00"),  # it began on Friday
        ({**NIGHT, "days": "fri"}, "2026-01-16T03:00:00+01:00", ""),
        (OFFICE, "2026-01-15T12:00:00+01:00", ""),
        (OFFICE, "2026-01-15T17:00:00+01:00", "01-16 09:00"),
        (OFFICE, "2026-01-16T18:00:00+01:00", "01-19 09:00"),  # Friday evening to Monday
        ({"from": "00:00", "until": "24:00", "days": "sat,sun"}, "2026-01-17T12:00:00+01:00", "01-19 00:00"),
        ({"cron": "0 2 * * sun", "lasts": "3h"}, "2026-01-18T04:59:00+01:00", "01-18 05:00"),
        ({"cron": "0 2 * * sun", "lasts": "3h"}, "2026-01-18T05:00:00+01:00", ""),
        ({"cron": "*/30 * * * *", "lasts": "30m"}, "2026-01-18T05:10:00+01:00", None),  # for good
        ({"from": "2026-12-24T18:00+01:00", "until": "2026-12-26T23:00Z"}, "2026-12-25T00:00Z", "12-27 00:00"),
        ({"from": "2026-12-24T18:00+01:00", "until": "2026-12-26T23:00Z"}, "2026-12-24T16:59Z", ""),
    ],
)
def test_when_a_window_ends(options: dict[str, Any], at: str, until: str | None) -> None:
    found = ends(window(**options), at)
    assert found == until if until is not None else found


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({}, "needs `from` and `until`"),
        ({"from": "22:00"}, "needs `from` and `until`"),
        ({"from": "25:00", "until": "06:00"}, "needs `from` and `until`"),
        ({"from": "2026-12-24T18:00", "until": "2026-12-26T23:00"}, "with its offset"),
        ({"from": "2026-12-26T18:00Z", "until": "2026-12-24T18:00Z"}, "`from` before `until`"),
        ({**NIGHT, "days": "mon-fry"}, "'mon-fry' is no day"),
        ({**NIGHT, "timezone": "Europe/Berln"}, "no time zone 'Europe/Berln'"),
        ({"cron": "0 2 * *", "lasts": "1h"}, "no cron expression"),
        ({"cron": "0 0 30 2 *", "lasts": "1h"}, "no cron expression"),  # never
        ({"cron": "0 2 * * *"}, "needs `lasts`"),
    ],
)
def test_a_window_that_says_nothing_is_refused(options: dict[str, Any], why: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=why):
        window(**options)


def test_windows_that_touch_one_another_are_one_silence() -> None:
    both = [window(name="night", **NIGHT), window(name="morning", **{"from": "06:00", "until": "08:00"})]
    until, name = muted(both, ns("2026-01-15T23:00:00+01:00"))
    assert (until, name) == (ns("2026-01-16T08:00:00+01:00"), "night")


def test_cron_finds_the_times_around_a_moment_on_both_changes_of_the_clocks() -> None:
    cron, hour = Cron("30 2 * * *", zone_of("Europe/Berlin")), HOUR
    spring = ns("2026-03-29T12:00:00+02:00")  # there was no 02:30
    assert cron.at_or_before(spring) == ns("2026-03-29T03:00:00+02:00")
    autumn = ns("2026-10-25T12:00:00+01:00")  # there were two
    before = cron.at_or_before(autumn)
    assert before is not None
    assert cron.after(before - hour * 24) in (before, before - hour)
    assert Cron("0 9 * * *", zone_of("UTC")).after(ns("2026-01-01T09:00:00Z")) == ns("2026-01-02T09:00:00Z")
    assert Cron("0 9 * * *", zone_of("UTC")).at_or_before(ns("2026-01-01T09:00:00Z")) == ns("2026-01-01T09:00:00Z")
