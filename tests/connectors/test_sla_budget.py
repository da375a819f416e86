"""Availability as an error budget: burn rates over two windows."""

from connectors.sla_budget import Executions, burning, counted, in_words, remaining, totals
from pipeline.clock import DAY, HOUR, MINUTE, SECOND

START = 1_700_000_100 * SECOND
MONTH = 30 * DAY
TARGET = 0.999


def ran(
    outcomes: str, every_ns: int = 5 * MINUTE, start_ns: int = START, before: Executions | None = None
) -> Executions:
    """Executions one after another: `.` succeeded, `x` failed."""
    row = before or Executions()
    for place, outcome in enumerate(outcomes):
        row = counted(row, outcome == "x", start_ns + place * every_ns, MONTH)
    return row


def last(outcomes: str, every_ns: int = 5 * MINUTE) -> int:
    return START + (len(outcomes) - 1) * every_ns


def test_one_failure_is_no_breach() -> None:
    assert burning(ran("x"), TARGET, START, MONTH) is None


def test_two_failures_in_an_hour_burn_the_budget_fast() -> None:
    row = ran("." * 288 + "xx")
    burn = burning(row, TARGET, last("." * 288 + "xx"), MONTH)
    assert burn is not None
    assert (burn.rule.long_ns, burn.rule.severity, burn.bad) == (HOUR, "CRITICAL", 2)
    assert 100 < burn.rate < 200


def test_what_has_stopped_failing_no_longer_burns_fast() -> None:
    log = "." * 288 + "xx"
    row = ran(log + "...")
    burn = burning(row, TARGET, last(log + "..."), MONTH)
    assert burn is None or burn.rule.long_ns > HOUR


def test_a_daily_asset_that_fails_twice_in_three_days_is_a_slow_burn() -> None:
    row = ran("......x.x", DAY)
    burn = burning(row, TARGET, START + 8 * DAY, MONTH)
    assert burn is not None
    assert burn.rule.severity == "WARNING"


def test_a_short_window_in_which_nothing_ran_is_spoken_for_by_the_last_execution() -> None:
    now = START + 40 * MINUTE  # nothing ran in the last half hour
    failing, well = ran("xxx", MINUTE), ran("xx.", MINUTE)
    assert burning(failing, TARGET, now, MONTH) is not None
    burn = burning(well, TARGET, now, MONTH)
    assert burn is not None
    assert burn.rule.short_ns == 6 * HOUR, "the half hour and the five minutes are well again"


def test_the_window_slides() -> None:
    row = ran("x" * 10, HOUR)
    assert totals(row, START + 9 * HOUR, MONTH) == (0, 10)
    assert totals(row, START + 31 * DAY, MONTH) == (0, 0)
    later = ran(".", start_ns=START + 40 * DAY, before=row)
    assert len(later.coarse) == 1, "what is past is let go"
    assert len(later.fine) == 1


def test_the_budget_that_is_left() -> None:
    assert remaining(1000, 0, 0.99) == 1.0
    assert round(remaining(995, 5, 0.99), 3) == 0.5
    assert round(remaining(900, 100, 0.99), 3) == -9.0


def test_it_is_said_in_words() -> None:
    log = "." * 285 + "xxx"
    row, now = ran(log), last(log)
    burn = burning(row, TARGET, now, MONTH)
    assert burn is not None
    assert in_words(row, burn, TARGET, now, MONTH) == (
        "3 of 288 executions in the last 30 d failed: availability 98.958% against 99.9%, the error budget is spent "
        "10.4 times over. In the last 1 h 3 of 12 failed: that burns the budget 250 times as fast as it may, all of it "
        "in 2 h 52 min."
    )


def test_time_that_goes_back_counts_in_the_last_bucket() -> None:
    row = counted(ran("."), True, START - HOUR, MONTH)
    assert totals(row, START, HOUR) == (1, 1)
