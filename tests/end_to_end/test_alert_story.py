"""The seed's story: an asset that fails every five minutes from 02:00. One alert, a digest an hour, at 08:00 the
escalation, a message every two hours, and its end; not 121 messages. A crash between any two steps changes nothing.
"""

import copy
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from pipeline.clock import HOUR, MINUTE, SECOND
from pipeline.components import Position, Read
from pipeline.config.load import load
from pipeline.store.state import Ack
from pipeline.testing.builders import Fault, Log
from pipeline.testing.clock import VirtualClock
from pipeline.testing.harness import Harness, harness
from pipeline.topology.plan import Plan
from pipeline.topology.registry import Registry
from pipeline.topology.resolve import resolve
from tests.end_to_end.daemon import until

ROOT = Path(__file__).parents[2]
DAGTEL = Path(sys.executable).with_name("dagtel")
TWO = 1_705_284_000 * SECOND  # 2024-01-15 02:00 UTC
FAULT = Fault("TimeoutError", "Connection timeout after 30s", file="ingestion/nightscout/readings.py", line=45)

STORY = [
    ("firing", 1, "02:00", "ERROR", "first"),
    *(("digest", 12, f"0{hour}:00", "ERROR", "window_over") for hour in range(3, 8)),
    ("escalated", 72, "08:00", "CRITICAL", "persists"),
    ("repeated", 24, "10:00", "CRITICAL", "not_resolved"),
    ("repeated", 24, "12:00", "CRITICAL", "not_resolved"),
    ("resolved", 121, "12:05", "CRITICAL", "recovered"),
]


def runs() -> list[Log]:
    """121 runs that fail on the minute, and one that succeeds."""
    failing = [_run(number, failed=True) for number in range(121)]
    return [*failing, _run(121, failed=False)]


def _run(number: int, failed: bool) -> Log:
    at = TWO + number * 5 * MINUTE
    log = Log(f"run-{number}", start_ns=at - 3 * SECOND)
    log.plan("glucose_entries", "fetch").run_start().step_start("fetch")
    if failed:
        return log.step_failure("fetch", FAULT).run_failure()
    return log.materialize("glucose_entries", "fetch").step_success("fetch").run_success()


def told(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "alerts.jsonl").read_text().splitlines()]


def story(alerts: Sequence[dict]) -> list[tuple[str, int, str, str, str]]:
    return [(a["state"], a["count"], a["time"][11:16], a["severity"], a["reason"]) for a in alerts]


# --- the real daemon -------------------------------------------------------------------------------------------------


def daemon(folder: Path, *sets: str) -> tuple[list[str], dict[str, str]]:
    events = folder / "events.jsonl"
    if not events.exists():
        events.write_bytes(b"\n".join(line for log in runs() for line in log.lines()) + b"\n")
    options = [option for each in sets for option in ("--set", each)]
    command = [str(DAGTEL), "run", "--config", str(ROOT / "configs" / "file.yaml"), "--once", *options]
    return command, {**os.environ, "DAGTEL_INPUT": str(events), "DAGTEL_OUT": str(folder)}


def test_through_the_daemon_it_is_ten_messages(tmp_path: Path) -> None:
    command, env = daemon(tmp_path, 'processors.dedup.escalate_to=["@oncall-data","pagerduty"]')
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    alerts = told(tmp_path)
    assert story(alerts) == STORY
    escalated = alerts[6]
    assert (escalated["first_at"], escalated["last_at"]) == ("2024-01-15T02:00:00Z", "2024-01-15T08:00:00Z")
    assert (escalated["window_seconds"], escalated["repeat_every_seconds"]) == (6 * 3600, 2 * 3600)
    assert escalated["error"]["message"] == "Connection timeout after 30s"
    assert escalated["escalate_to"] == ["@oncall-data", "pagerduty"]
    assert len({a["key"] for a in alerts}) == 1


@pytest.mark.slow
def test_killed_on_the_way_and_started_again_it_tells_the_same(tmp_path: Path) -> None:
    command, env = daemon(tmp_path, "receivers.file.max_items=1", "service.checkpoint_interval=2ms")
    chance = random.Random(5)
    log, size = tmp_path / "logs.jsonl", 0
    for _ in range(10):
        process = subprocess.Popen(command, env=env, stderr=subprocess.DEVNULL)
        size += 15_000 + int(chance.random() * 5000)
        while process.poll() is None and not (log.exists() and log.stat().st_size >= size):
            time.sleep(0.001)
        assert process.poll() is None, "it was over before it was killed: make the steps smaller"
        process.send_signal(signal.SIGKILL)
        process.wait()
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert story(told(tmp_path)) == STORY


@pytest.mark.slow
def test_killed_between_any_two_steps_of_the_story_it_tells_the_same(tmp_path: Path) -> None:
    """The daemon follows a log that grows: before and after each run that something is said of, it is killed."""
    command, env = daemon(tmp_path, "receivers.file.follow=true", "receivers.file.poll_interval=10ms")
    following = [part for part in command if part != "--once"]
    events, log, logs = tmp_path / "events.jsonl", tmp_path / "logs.jsonl", runs()
    events.write_bytes(b"")
    steps = sorted({0, *range(0, 73, 12), 96, 120})  # the runs at which a window ends or something is told
    ends = sorted({end for step in steps for end in (step, step + 1)} - {0} | {len(logs)})
    begin = 0
    for end in ends:
        process = subprocess.Popen(following, env=env, stderr=subprocess.DEVNULL)
        with events.open("ab") as file:
            file.write(b"".join(line + b"\n" for run in logs[begin:end] for line in run.lines()))
        last = f'"run-{end - 1}"'
        until(f"run {end - 1} is read", lambda last=last: log.exists() and last in log.read_text())
        process.send_signal(signal.SIGKILL)
        process.wait()
        begin = end
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert story(told(tmp_path)) == STORY


# --- step by step ----------------------------------------------------------------------------------------------------


def plan(folder: Path) -> Plan:
    """configs/file.yaml; reads are the test's own."""
    env = {"DAGTEL_INPUT": str(folder / "none.jsonl"), "DAGTEL_OUT": str(folder)}
    return resolve(load([ROOT / "configs" / "file.yaml"], env=env), Registry.installed())


class Crash(Exception):
    """The process ends here."""


RUNS = [(log.events(), log.now_ns) for log in runs()]
BUSY = [number for number in range(len(RUNS)) if number < 3 or number % 12 in (0, 1) or number > 118]
"""Runs around which something is said."""


async def step(life: Harness, number: int, crash: str) -> None:
    """One run is read, committed and what is said of it written; `crash` names where the process ends."""
    events, at_ns = RUNS[number]
    if (life.engine.positions.get("file:story") or Position(0)).next <= number:
        copies = [copy.copy(event) for event in events]
        await life.engine.take("file", Read("file:story", copies, Position(number + 1, at_ns), behind=True))
        await life.engine.fire()
        if crash == "read":
            raise Crash
        commit = await life.barrier()
        if crash == "barrier":
            raise Crash
        life.store.commit(commit)
        for id, outbox in life.outboxes.items():
            outbox.release([row for row in commit.outbox if row.exporter == id])
        if crash == "commit":
            raise Crash
    outbox = life.outboxes["file/alerts"]
    while outbox.ready:
        entry = await outbox.next()
        payload = entry.payload or life.store.payload(entry.id)
        assert payload is not None
        receipt = await outbox.exporter.send(payload)
        if crash == "send":
            raise Crash
        outbox.acked(entry.id)
        life.engine.acknowledge(Ack(entry.id, "file/alerts", receipt))
    await life.commit()


@pytest.mark.anyio
@pytest.mark.parametrize("crash", ["read", "barrier", "commit", "send"])
async def test_a_crash_at_any_step_changes_nothing(crash: str, tmp_path: Path) -> None:
    """Each step around which something is said is first made by a process that dies in it."""
    todo, the_plan = list(range(len(RUNS))), plan(tmp_path)
    crashes = set(BUSY)
    while todo:
        async with harness(the_plan, tmp_path / "state.db", VirtualClock(wall=TWO + 24 * HOUR)) as life:
            await life.assign("file:story")
            try:
                while todo:
                    dies = todo[0] in crashes
                    crashes.discard(todo[0])
                    await step(life, todo[0], crash if dies else "")
                    todo.pop(0)
            except Crash:
                continue
    assert story(told(tmp_path)) == STORY
