"""What people type becomes a command that can be obeyed, or is refused with a reason."""

import pytest

from pipeline.alert_asks import AskError, alert_name, equal_to, line, person, silence
from pipeline.expressions import Condition
from pipeline.moments import moment_ns, until_ns
from pipeline.signals import Alert, Signal

NOW = 1_795_435_200_000_000_000
HOUR = 3600 * 10**9


def alert(asset: str) -> Alert:
    return Alert("asset_failure", "failing", "ERROR", "v1:ab", NOW, NOW, NOW, asset=asset, job="nightly")


@pytest.mark.parametrize(
    "name", ["raw/orders", 'a" || true || "', "back\\slash", "tab\tnew\nline", "schlüssel ☃ 😀", "'"]
)
def test_a_name_matches_itself_and_nothing_else_whatever_is_in_it(name: str) -> None:
    condition = Condition(equal_to(asset=name, job="nightly"), Signal.ALERTS)
    assert condition.holds(alert(name), Signal.ALERTS)
    assert not condition.holds(alert(f"{name}x"), Signal.ALERTS)


def test_what_alerts_have_not_and_what_is_no_text_is_refused() -> None:
    with pytest.raises(AskError, match="no colour"):
        equal_to(colour="red")
    with pytest.raises(AskError, match="no Unicode"):
        equal_to(asset="\ud800")


@pytest.mark.parametrize(
    ("when", "until", "id", "why"),
    [
        ("", NOW + HOUR, "a", "say what is to be silent"),
        ("asset ==", NOW + HOUR, "a", "is no expression"),
        ('aset == "x"', NOW + HOUR, "a", "did you mean `asset`"),
        ("count", NOW + HOUR, "a", "not true or false"),
        ('asset == "x"', NOW, "a", "over before it begins"),
        ('asset == "x"', NOW + HOUR, "é", "an id is"),
        ('asset == "x"', NOW + HOUR, "", "an id is"),
        ('asset == "' + "x" * 3000 + '"', NOW + HOUR, "a", "more than 2000"),
    ],
)
def test_a_silence_that_could_not_be_obeyed_is_refused(when: str, until: int, id: str, why: str) -> None:
    with pytest.raises(AskError, match=why):
        silence(id, NOW, when, until, "", "")


def test_names_and_reasons_are_one_short_line() -> None:
    assert person("  Ann\r\nBcc: all\x1b[2J ") == "Ann Bcc: all [2J"
    assert len(person("x" * 999)) == 100
    assert len(line("x" * 999)) == 500


@pytest.mark.parametrize("name", ["", "  ", "v1:a\nb", "\x00", "x" * 501])
def test_what_names_no_alert_is_refused(name: str) -> None:
    with pytest.raises(AskError):
        alert_name(name)


def test_an_end_is_so_long_from_now_or_a_moment() -> None:
    assert until_ns("1h", "", NOW) == NOW + HOUR
    assert until_ns("2 days", "", NOW) == NOW + 48 * HOUR
    assert until_ns("", "2026-11-23T13:00", NOW) == moment_ns("2026-11-23T14:00+01:00") == NOW + HOUR


@pytest.mark.parametrize(
    ("for_", "until"),
    [("", ""), ("1h", "2026-11-24"), ("soon", ""), ("0", ""), ("400 days", ""), ("", "noon"), ("", "2020-01-01")],
)
def test_no_end_two_ends_and_impossible_ends_are_refused(for_: str, until: str) -> None:
    with pytest.raises(AskError):
        until_ns(for_, until, NOW)
