"""`configs/file.yaml` on real event logs: the figures equal the truth, and a kill at any moment changes nothing."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DATA = ROOT / "tests" / "data"
DAGTEL = Path(sys.executable).with_name("dagtel")


def environment(events: Path, out: Path, **more: str) -> dict[str, str]:
    return {**os.environ, "DAGTEL_INPUT": str(events), "DAGTEL_OUT": str(out), **more}


def command(*sets: str) -> list[str]:
    options = [option for each in sets for option in ("--set", each)]
    return [str(DAGTEL), "run", "--config", str(ROOT / "configs" / "file.yaml"), "--once", *options]


def run(events: Path, out: Path, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(), env=environment(events, out, **more), capture_output=True, text=True, timeout=120, check=False
    )


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def items(out: Path) -> dict[str, Counter[str]]:
    """Every item of every file, whatever lines they came in."""
    spans = [
        json.dumps(span, sort_keys=True)
        for request in lines(out / "spans.jsonl")
        for resource in request["resourceSpans"]
        for scope in resource["scopeSpans"]
        for span in scope["spans"]
    ]
    found = {"spans": Counter(spans)}
    for name in ("logs", "alerts", "dead_letters"):
        found[name] = Counter((out / f"{name}.jsonl").read_text().splitlines())
    found["metrics"] = Counter((out / "metrics.prom").read_text().splitlines())
    return found


@pytest.mark.parametrize(
    ("log", "truth"),
    [("dagster-1.7", "1.7"), ("dagster-1.10", "1.10"), ("dagster-1.13", "1.13"), ("mill-1.13", "mill-1.13")],
)
def test_the_figures_equal_what_dagsters_own_api_says(log: str, truth: str, tmp_path: Path) -> None:
    events, expected = DATA / f"{log}.jsonl", DATA / f"truth-{truth}.json"
    done = run(events, tmp_path)
    assert done.returncode == 0, done.stderr
    checked = subprocess.run(
        [sys.executable, str(DATA / "check.py"), str(events), str(expected), str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout
    assert re.fullmatch(r"(\d+) of \1 figures agree with .*", checked.stdout.strip())


def test_the_impact_of_a_failing_asset_is_what_dagsters_graph_says(tmp_path: Path) -> None:
    done = run(DATA / "dagster-1.13.jsonl", tmp_path, DAGTEL_GRAPH=str(DATA / "asset-graph.json"))
    assert done.returncode == 0, done.stderr
    truth = json.loads((DATA / "truth-lineage.json").read_text())["assets"]
    alerts = [a for a in lines(tmp_path / "alerts.jsonl") if a["kind"] == "asset_failure"]
    assert len({a["asset"] for a in alerts}) >= 5
    for alert in alerts:
        assert set(alert["impact"]["assets"]) == set(truth[alert["asset"]]["downstream"]), alert["asset"]


def test_nothing_is_skipped_when_there_is_no_asset_graph(tmp_path: Path) -> None:
    done = run(DATA / "dagster-1.13.jsonl", tmp_path)
    assert done.returncode == 0
    assert any(a["impact"]["assets"] for a in lines(tmp_path / "alerts.jsonl") if a["kind"] == "asset_failure")


def test_one_failure_of_a_step_is_one_alert_however_many_assets_it_takes_along(tmp_path: Path) -> None:
    assert run(DATA / "mill-1.13.jsonl", tmp_path).returncode == 0
    told = [
        (a["state"], a["asset"], len(a["assets"]))
        for a in lines(tmp_path / "alerts.jsonl")
        if a["step_key"] == "wide_step"
    ]
    assert told == [
        ("firing", "wide_00", 14),
        ("firing", "wide_07", 7),  # another error
        ("firing", "wide_05", 4),  # of a selection, and without a message
        ("firing", "wide_05", 1),
        ("resolved", "wide_05", 1),
        ("resolved", "wide_05", 4),
    ]


def test_a_second_run_over_the_same_folder_adds_nothing(tmp_path: Path) -> None:
    run(DATA / "dagster-1.10.jsonl", tmp_path)
    before = items(tmp_path)
    assert run(DATA / "dagster-1.10.jsonl", tmp_path).returncode == 0
    assert items(tmp_path) == before


def twice(tmp_path: Path) -> Path:
    """A log whose times go back by hours: the same events under other run ids once more."""
    once = (DATA / "dagster-1.13.jsonl").read_bytes()
    runs = re.compile(rb'"run_id": "([0-9a-f])')
    again = runs.sub(lambda found: found[0][:-1] + b"%x" % (int(found[1], 16) ^ 8), once)
    events = tmp_path / "twice.jsonl"
    events.write_bytes(once + again)
    return events


def recorded(tmp_path: Path) -> Path:
    return DATA / "dagster-1.13.jsonl"


@pytest.mark.slow
@pytest.mark.parametrize("log", [recorded, twice])
def test_killed_at_any_moment_and_started_again_it_ends_with_the_same_items(
    log: Callable[[Path], Path], tmp_path: Path
) -> None:
    """12 kills, each at a random moment of a twelfth of the way; batches of 3 and checkpoints of 2 ms, so that most of
    them hit something. How far it is says the log file and not a clock: machines differ.
    """
    events = log(tmp_path)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert run(events, whole).returncode == 0
    slow = command("receivers.file.max_items=3", "service.checkpoint_interval=2ms")
    size = (whole / "logs.jsonl").stat().st_size
    chance = random.Random(7)
    for number in range(12):
        process = subprocess.Popen(slow, env=environment(events, cut), stderr=subprocess.DEVNULL)
        wait_for_size(cut / "logs.jsonl", int(size * (number + chance.random()) / 13), process)
        time.sleep(chance.random() * 0.01)
        assert process.poll() is None, f"the run was over before kill {number + 1}"
        process.send_signal(signal.SIGKILL)
        process.wait()
    done = subprocess.run(slow, env=environment(events, cut), capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    expected, found = items(whole), items(cut)
    for kind in expected:
        assert found[kind] == expected[kind], kind


def wait_for_size(path: Path, size: int, process: subprocess.Popen[bytes]) -> None:
    while process.poll() is None and not (path.exists() and path.stat().st_size >= size):
        time.sleep(0.001)


def test_input_of_any_shape_is_dead_lettered_or_processed_and_stops_nothing(tmp_path: Path) -> None:
    good = (DATA / "dagster-1.7.jsonl").read_bytes().splitlines()[:300]
    bad = [b"{", b"null", b"[]", b'"text"', b"\xff\xfe\x00", b'{"a": 1}', b"1e999", b"[" * 5000, b'{"timestamp": "x"}']
    mixed = []
    for number, line in enumerate(good):
        mixed.append(line)
        if number % 10 == 9:
            mixed.append(bad[number // 10 % len(bad)])
    events = tmp_path / "events.jsonl"
    events.write_bytes(b"\n".join(mixed) + b"\n")
    done = run(events, tmp_path / "out")
    assert done.returncode == 0, done.stderr
    dead = lines(tmp_path / "out" / "dead_letters.jsonl")
    assert len(dead) == 30
    assert all(letter["message"] and letter["origin"].startswith("file:") for letter in dead)
    logs = [record for record in lines(tmp_path / "out" / "logs.jsonl") if not record.get("derived")]
    assert len(logs) == 300


def test_a_missing_input_is_said_and_exits_with_1(tmp_path: Path) -> None:
    done = run(tmp_path / "nowhere.jsonl", tmp_path / "out")
    assert done.returncode == 1
    assert "nowhere.jsonl" in done.stderr
