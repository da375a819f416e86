"""What is said of scenarios that are not as expected."""

from collections.abc import Callable

from click.testing import Result

Play = Callable[..., Result]

FAILS = """\
scenarios:
  - name: a failure
    events:
      - asset_failed: {asset: orders, error: "KeyError: 'id'"}
      - at: 10m
        asset_materialized: {asset: orders}
"""
TOLD = """\
    expect:
      - {at: 0s, state: firing, asset: orders}
      - {at: 10m, state: resolved, asset: orders}
"""


def test_what_is_as_expected_exits_with_0_and_is_shown(play: Play) -> None:
    result = play(FAILS + TOLD)
    assert result.exit_code == 0
    assert result.stdout.splitlines()[0] == "ok   a failure (a.test.yaml:3)"
    assert result.stdout.splitlines()[-1] == "1 of 1 scenarios are as expected"


def test_what_nobody_expects_is_a_failure(play: Play) -> None:
    result = play(FAILS + "    expect: [{at: 0s, state: firing}]\n")
    assert result.exit_code == 1
    assert "FAIL a failure" in result.stdout
    assert "+       10m  resolved ERROR asset_failure orders count 1" in result.stdout


def test_it_may_be_told_if_the_scenario_is_not_strict(play: Play) -> None:
    assert play(FAILS + "    strict: false\n    expect: [{at: 0s, state: firing}]\n").exit_code == 0


def test_what_is_not_told_is_a_failure_and_the_nearest_is_named(play: Play) -> None:
    result = play(FAILS + TOLD.replace("at: 0s", "at: 0s, count: 2"))
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    missing = lines.index("   -        0s  firing orders count 2")
    assert lines[missing + 1].strip() == "expected in line 9"
    assert lines[missing + 2].strip() == "nearest, at 0s: count is 1"


def test_a_time_is_exact_unless_it_has_a_within(play: Play) -> None:
    assert play(FAILS + TOLD.replace("at: 10m", "at: 9m")).exit_code == 1
    assert play(FAILS + TOLD.replace("at: 10m", "at: 9m, within: 59s")).exit_code == 1
    assert play(FAILS + TOLD.replace("at: 10m", "at: 9m, within: 1m")).exit_code == 0


def test_one_notification_fulfils_one_expectation(play: Play) -> None:
    result = play(FAILS + TOLD + "      - {state: firing, asset: orders}\n")
    assert result.exit_code == 1
    assert "-  any time  firing orders" in result.stdout


def test_what_must_never_be_told_is_a_failure_even_if_it_is_expected(play: Play) -> None:
    result = play(FAILS + TOLD + "    never: [{state: resolved}]\n")
    assert result.exit_code == 1
    assert "!       10m  resolved" in result.stdout
    assert "forbidden in line 11" in result.stdout


def test_the_text_is_what_a_notifier_sends(play: Play) -> None:
    both = TOLD.replace("state: firing", "state: firing, text: [KeyError, Asset Materialization Failed]")
    assert play(FAILS + both).exit_code == 0
    result = play(FAILS + TOLD.replace("state: firing", "state: firing, text: IndexError"))
    assert result.exit_code == 1
    assert "text has no 'IndexError'" in result.stdout


def test_who_takes_it_is_seen_by_what_is_switched_on(play: Play) -> None:
    only = TOLD.replace("state: firing", "state: firing, exporters: console_alerts")
    both = TOLD.replace("state: firing", "state: firing, exporters: [console_alerts, webhook]")
    assert play(FAILS + only).exit_code == 0
    assert "exporters are console_alerts" in play(FAILS + both).stdout
    assert play("env: {HOOK: http://127.0.0.1:9/}\n" + FAILS + both).exit_code == 0


def test_variables_of_the_process_are_not_seen(play: Play) -> None:
    only = TOLD.replace("state: firing", "state: firing, exporters: console_alerts")
    assert play(FAILS + only, HOOK="http://127.0.0.1:9/").exit_code == 0


def test_refused_entries_are_a_failure_unless_they_are_expected(play: Play) -> None:
    refused = "scenarios:\n  - name: no entry\n    events: [{at: 0s, lines: '{\"a\": 1}'}]\n"
    result = play(refused)
    assert result.exit_code == 1
    assert "1 dead letters, expected 0" in result.stdout
    assert play(refused + "    dead_letters: 1\n").exit_code == 0


def test_hostile_text_is_written_inert(play: Play) -> None:
    result = play('scenarios:\n  - name: red\n    events: [{asset_failed: {asset: "a\\e[31m"}}]\n')
    assert result.exit_code == 1
    assert "\x1b" not in result.stdout and "\\x1b[31m" in result.stdout


def test_only_and_quiet_choose_what_is_played_and_said(play: Play) -> None:
    second = "  - name: nothing happens\n    events: [{at: 1h}]\n"
    result = play(FAILS + TOLD + second, "-k", "nothing")
    assert result.stdout.splitlines()[-1] == "1 of 1 scenarios are as expected"
    assert "nothing is told" in result.stdout
    assert play(FAILS + TOLD + second, "--quiet").stdout == "2 of 2 scenarios are as expected\n"
    assert play(FAILS + TOLD, "-k", "no such").exit_code == 2
