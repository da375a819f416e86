"""What people do in a scenario: silences, acknowledgements, resolutions."""

from collections.abc import Callable

from click.testing import Result

Play = Callable[..., Result]

FAILING = """\
scenarios:
  - name: people
    events:
      - {at: 0s, every: 10m, times: 13, asset_failed: {asset: orders}}
"""


def test_without_anybody_it_is_told_each_hour(play: Play) -> None:
    result = play(
        FAILING + "    expect: [{at: 0s, state: firing}, {at: 1h, every: 1h, times: 2, state: digest, count: 6}]\n"
    )
    assert result.exit_code == 0, result.output


def test_a_silence_keeps_it_from_being_told(play: Play) -> None:
    silence = "      - {at: 1m, silence: {when: 'asset == \"orders\"', for: 5h, by: anna}}\n"
    assert play(FAILING + silence + "    expect: [{at: 0s, state: firing}]\n").exit_code == 0
    other = silence.replace("orders", "other")
    assert play(FAILING + other + "    expect: [{at: 0s, state: firing}]\n").exit_code == 1


def test_what_is_acknowledged_does_not_escalate(play: Play) -> None:
    events = FAILING.replace("times: 13", "times: 42")
    expect = "    strict: false\n    never: [{state: escalated}]\n"
    assert play(events + expect).exit_code == 1
    assert play(events + "      - {at: 30m, acknowledge: {asset: orders}}\n" + expect).exit_code == 0


def test_what_is_resolved_by_hand_is_told_as_such(play: Play) -> None:
    events = FAILING.replace("every: 10m, times: 13, ", "") + "      - {at: 30m, resolve: {asset: orders, by: anna}}\n"
    result = play(events + "    expect: [{at: 0s, state: firing}, {at: 30m, state: resolved, reason: by_hand}]\n")
    assert result.exit_code == 0, result.output


def test_somebody_who_has_nothing_to_answer_is_a_failure(play: Play) -> None:
    result = play(FAILING + "      - {at: 30m, acknowledge: {asset: other}}\n    strict: false\n")
    assert result.exit_code == 1
    assert "! at 30m nothing had been told that could be answered" in result.stdout


def test_a_silences_condition_is_checked_before_anything_is_played(play: Play) -> None:
    result = play(FAILING + "      - {at: 1m, silence: {when: 'aset == 1'}}\n")
    assert result.exit_code == 2
    assert "a.test.yaml:6: scenarios[0].events[1].silence.when: " in result.stderr
