"""`dagtel replay`: what a recorded event log would have led to."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from pipeline.cli.app import app
from pipeline.scenario.history import history
from pipeline.scenario.machine import ScenarioError
from pipeline.scenario.story import Log

ROOT = Path(__file__).parents[2]
DAY = 86_400 * 10**9
TWO = 1_705_284_000 * 10**9  # 2024-01-15 02:00:00

Replay = Callable[..., Result]


@pytest.fixture
def replay(folder: Path) -> Replay:
    """On a log of an asset that fails at 02:00, 02:20 and 02:40."""
    lines: list[bytes] = []
    for number in range(3):
        log = Log(f"r{number}", start_ns=TWO + number * 1200 * 10**9, tick_ns=0)
        lines += log.plan("orders", "orders").run_start().step_start("orders").step_failure("orders").lines()
    (folder / "log.jsonl").write_bytes(b"\n".join(lines) + b"\n")

    def call(*options: str) -> Result:
        arguments = ["replay", "--from", "log.jsonl", "--config", "alerts.yaml", *options]
        return CliRunner().invoke(app, arguments, env={"HOOK": "http://127.0.0.1:9/"})

    return call


def rows(result: Result) -> list[tuple[str, str, str]]:
    """Mark, time of day, state."""
    assert result.exit_code == 0, result.output
    return [(line[0], line[2:].split()[1], line[2:].split()[2]) for line in result.stdout.splitlines()[:-1]]


def test_what_would_have_been_sent_is_listed_with_who_takes_it(replay: Replay) -> None:
    result = replay()
    assert rows(result) == [(" ", "02:00:00Z", "firing")]
    assert "(by console_alerts, webhook)" in result.stdout
    assert result.stdout.splitlines()[-1] == "1 notifications"


def test_time_goes_on_beyond_the_last_entry_if_it_is_asked_to(replay: Replay) -> None:
    assert rows(replay("--beyond", "1h")) == [(" ", "02:00:00Z", "firing"), (" ", "03:00:00Z", "digest")]


def test_the_difference_to_another_configuration_is_one_list_by_time(replay: Replay) -> None:
    options = ("--set", "processors.dedup.window=30m", "--against", "alerts.yaml", "--beyond", "20m")
    result = replay(*options)
    assert rows(result) == [
        (" ", "02:00:00Z", "firing"),
        ("+", "02:30:00Z", "digest"),
        ("-", "03:00:00Z", "digest"),
        ("+", "03:00:00Z", "digest"),  # of one failure and not of two
    ]
    assert result.stdout.splitlines()[-1] == "3 notifications instead of 2: 1 alike, 1 no more, 2 new"


def test_the_same_configuration_makes_no_difference(replay: Replay) -> None:
    result = replay("--against", "alerts.yaml")
    assert result.stdout.splitlines()[-1] == "1 notifications instead of 1: 1 alike, 0 no more, 0 new"


def test_nothing_of_a_shipped_configuration_is_touched_by_a_replay(replay: Replay, folder: Path) -> None:
    before = sorted(folder.rglob("*"))
    replay()
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize("content", [None, b"", b"{}\nnothing\n"], ids=["missing", "empty", "no event log"])
def test_a_log_that_is_none_is_told(replay: Replay, folder: Path, content: bytes | None) -> None:
    (folder / "log.jsonl").unlink()
    if content is not None:
        (folder / "log.jsonl").write_bytes(content)
    result = replay()
    assert result.exit_code == 1
    assert "log.jsonl" in result.stderr


def test_a_wrong_configuration_exits_with_2(replay: Replay, folder: Path) -> None:
    (folder / "old.yaml").write_text("receivers:\n  fil:\n")
    result = replay("--against", "old.yaml")
    assert result.exit_code == 2
    assert "old.yaml:2" in result.stderr


def test_entries_that_are_none_are_counted_and_stop_nothing(replay: Replay, folder: Path) -> None:
    log = folder / "log.jsonl"
    log.write_bytes(b"{broken\n" + log.read_bytes())
    result = replay()
    assert len(rows(result)) == 1
    assert "alerts.yaml: 1 dead letters, the first: " in result.stderr


def test_a_line_that_no_event_can_be_is_told_wherever_it_stands(
    replay: Replay, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.scenario.history.MAX_LINE", 10_000)
    log = folder / "log.jsonl"
    log.write_bytes(log.read_bytes() + b"x" * 10_001)
    result = replay()
    assert result.exit_code == 1
    assert "log.jsonl has a line of more than 10000 bytes" in result.stderr


def test_time_never_goes_back_and_no_wrong_clock_moves_it(tmp_path: Path) -> None:
    times = [TWO, TWO + DAY, TWO + 5, 99_999_999_999 * 10**9, TWO + 2 * DAY]
    entries = [json.dumps({"timestamp": at / 10**9}).encode() for at in times]
    (tmp_path / "log").write_bytes(b"\n".join(entries))
    moments = [(moment.at_ns, len(moment.lines)) for moment in history(tmp_path / "log", TWO + 3 * DAY)]
    assert moments == [(TWO, 1), (TWO + DAY, 3), (TWO + 2 * DAY, 1), (TWO + 2 * DAY + 1, 0)]


def test_a_file_of_lines_without_a_time_is_not_read_to_its_end(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"{}\n" * 5000 + b'{"timestamp": 1}\n')
    with pytest.raises(ScenarioError, match="holds no entry"):
        list(history(tmp_path / "log", TWO))


def test_a_replay_of_a_real_log_tells_what_the_daemon_told(tmp_path: Path) -> None:
    events, config = ROOT / "tests" / "data" / "dagster-1.13.jsonl", str(ROOT / "configs" / "file.yaml")
    command = [str(Path(sys.executable).with_name("dagtel")), "run", "--once", "--config", config]
    env = {"DAGTEL_INPUT": str(events), "DAGTEL_OUT": str(tmp_path)}
    subprocess.run(command, env=env, check=True, timeout=120)
    alerts = [json.loads(line) for line in (tmp_path / "alerts.jsonl").read_text().splitlines()]
    told = sorted((a["time"][:19].replace("T", " ") + "Z", a["state"], a["kind"]) for a in alerts)
    result = CliRunner().invoke(app, ["replay", "--from", str(events), "--config", config])
    assert result.exit_code == 0, result.output
    lines = [line.split() for line in result.stdout.splitlines()[:-1]]
    assert sorted((f"{line[0]} {line[1]}", line[2], line[4]) for line in lines) == told
    assert len(told) > 10
