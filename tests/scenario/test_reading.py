"""Files that are wrong: every problem with its place, exit code 2, nothing played."""

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

Play = Callable[..., Result]

WRONG = """\
scenarios:
  - name: wrong
    events:
      - asset_faild: {asset: a}
      - at: soon
      - {every: 5m, asset_failed: {asset: a}}
      - {asset_failed: {asset: a}, run_failed: {job: b}}
    expect:
      - {at: 0s, count: many}
"""


def test_all_problems_are_named_with_their_lines(play: Play) -> None:
    result = play(WRONG)
    assert result.exit_code == 2
    assert [line.split(": ")[0] for line in result.stderr.splitlines()] == [
        *["a.test.yaml:5"], *["a.test.yaml:6"], *["a.test.yaml:7"], *["a.test.yaml:8"], *["a.test.yaml:10"],
    ]  # fmt: skip
    assert "did you mean `asset_failed`?" in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("scenarios: []\n", "a.test.yaml:2: scenarios: there are none"),
        ("scenarios: [{name: a}, {name: a}]\n", "a.test.yaml:2: scenarios: there are two named 'a'"),
        ("scenarios: [{name: a, start: noon}]\n", "a.test.yaml:2: a: start: 'noon' is no time"),
        ("scenarios: [{name: a, events: [{}]}]\n", "nothing happens in it"),
        ("scenarios: [{name: a, events: [{at: 0s, file: gone.jsonl}]}]\n", "gone.jsonl cannot be read"),
        ("scenarios: [{name: a, expect: [{every: 5m, times: 2}]}]\n", "needs an `at`"),
        ("scenarios: [{name: a, expect: [{at: 0s, every: 1ms, for: 30d}]}]\n", "between 1 and 100000 times"),
        ("scenarios:\n  - {name: a, set: processors.dedup.window=soon}\n", "'soon' is no duration"),
        ("scenarios:\n  - {name: a, set: nothing}\n", "a.test.yaml:3: set[0]: "),
    ],
)
def test_what_is_wrong_is_said(play: Play, text: str, said: str) -> None:
    result = play(text)
    assert result.exit_code == 2
    assert said in result.stderr


def test_a_wrong_configuration_is_told_with_its_own_lines(play: Play, folder: Path) -> None:
    (folder / "alerts.yaml").write_text("receivers:\n  fil:\n")
    result = play("scenarios: [{name: a}]\n")
    assert result.exit_code == 2
    assert "alerts.yaml:2: receivers.fil" in result.stderr


def test_a_missing_file_is_told(play: Play, folder: Path) -> None:
    result = play("scenarios: [{name: a}]\n", "b.test.yaml")
    assert result.exit_code == 2
    assert "b.test.yaml:1: cannot be read" in result.stderr
