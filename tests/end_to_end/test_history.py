"""The history, through the real daemon: the seed's story asked for afterwards, whatever was killed on the way; a
history that cannot be written; what is old; what no terminal may be told."""

import json
import os
import random
import signal
import sqlite3
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, LiteralString, cast
from uuid import uuid4

import psycopg
import pytest
import yaml

from pipeline.clock import MINUTE, SECOND
from pipeline.errors import RetryableError
from pipeline.store.history import History, Notification, Story, Wanted, reading
from pipeline.store.history_writes import HistoryWriter
from pipeline.store.place import Place
from pipeline.testing.builders import Fault, Log
from tests.end_to_end.daemon import DAGTEL, ROOT, Daemon, until
from tests.end_to_end.test_alert_story import STORY, TWO, runs, story, told
from tests.small_disk import fill

Answers = Iterator[int]


@contextmanager
def webhook(*answers: int) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A URL and the alerts that came to it; calls are answered with these statuses, then with 200."""
    taken: list[dict[str, Any]] = []
    left = list(answers)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            taken.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(left.pop(0) if left else 200)
            self.end_headers()
            self.wfile.write(b"what the backend says")

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", taken
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def once(folder: Path, url: str, *sets: str) -> tuple[list[str], dict[str, str]]:
    """configs/file.yaml with a history and a webhook beside its file of alerts."""
    events = folder / "events.jsonl"
    if not events.exists():
        events.write_bytes(b"\n".join(line for log in runs() for line in log.lines()) + b"\n")
    more = {
        "exporters": {"store": {"path": str(folder / "history.db")}, "webhook": {"url": url}},
        "service": {"pipelines": {"alerts": {"exporters": ["file/alerts", "webhook", "store"]}}},
    }
    (folder / "more.yaml").write_text(yaml.safe_dump(more))
    options = [option for each in sets for option in ("--set", each)]
    files = ["--config", str(ROOT / "configs" / "file.yaml"), "--config", str(folder / "more.yaml")]
    env = {**os.environ, "DAGTEL_INPUT": str(events), "DAGTEL_OUT": str(folder)}
    return [DAGTEL, "run", *files, "--once", *options], env


def the_one(folder: Path) -> Story:
    with reading(Place(str(folder / "history.db"))) as history:
        [row] = history.alerts()
        return history.story(row)


def lines(found: Story) -> list[tuple[str, int, str, str, str]]:
    """The story as `STORY` has it."""
    return [
        (n.state, n.failures, time.strftime("%H:%M", time.gmtime(n.at_ns / 1e9)), n.severity, n.reason)
        for n in found.notifications
    ]


def cli(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    command = [DAGTEL, "alerts", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env={**os.environ, **env}, check=False)


def test_the_seeds_story_can_be_asked_for(tmp_path: Path) -> None:
    with webhook() as (url, taken):
        command, env = once(tmp_path, url)
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    found = the_one(tmp_path)
    assert (found.alert.status, found.alert.failures, found.alert.failing) == ("resolved", 121, 0)
    assert [(one.number, one.run_id) for one in found.occurrences] == [(n + 1, f"run-{n}") for n in range(121)]
    assert found.occurrences[0].event_ns == TWO
    assert lines(found) == STORY
    reasons = [(one.reason, one.times) for one in found.decisions]
    hours = [("counted", 12), ("window_over", 1)] * 5
    assert reasons == [
        ("first", 1),
        *hours,
        ("counted", 12),
        ("persists", 1),
        ("counted", 24),
        ("not_resolved", 1),
        ("counted", 24),
        ("not_resolved", 1),
        ("recovered", 1),
    ]
    calls = [call for one in found.notifications for call in one.deliveries]
    assert len(calls) == 10
    assert {call.notifier for call in calls} == {"webhook"}
    delivered = [call for call in calls if call.outcome == "delivered"]
    assert len(delivered) == len(taken)  # the others were overtaken: the log is read faster than a call is made
    assert found.notifications[0].why["webhook"] == "severity ERROR"
    assert found.notifications[6].why == {"*": "severity CRITICAL"}
    assert found.fingerprint is not None
    assert found.fingerprint.message == "Connection timeout after 30s"
    assert found.fingerprint.parts.message == ("Connection timeout after <duration>",)

    shown = cli("explain", found.alert.key.partition(":")[2][:6], "--history", str(tmp_path / "history.db"))
    assert shown.returncode == 0, shown.stderr
    assert "message     Connection timeout after <duration>\n  unmasked    Connection timeout after 30s" in shown.stdout
    assert "persists [escalated]: still fails after `escalate_after`" in " ".join(shown.stdout.split())
    assert "to *: severity CRITICAL" in shown.stdout
    assert "webhook delivered" in shown.stdout


def content(path: Path) -> dict[str, list[tuple[Any, ...]]]:
    """All rows, without the wall's times."""
    tables = {
        "alerts": "key, began_ns, status, failures, told, ended_ns, alert",
        "occurrences": "key, began_ns, number, at_ns, event_ns, decision, run_id, message",
        "decisions": "key, began_ns, number, at_ns, reason, times, detail",
        "notifications": "id, state, alert",
        "routings": "notification, channel, why",
        "fingerprints": "fingerprint, parts, message",
    }
    with sqlite3.connect(path) as file:
        return {t: sorted(file.execute(f"SELECT {columns} FROM {t}")) for t, columns in tables.items()}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_killed_on_the_way_it_has_neither_holes_nor_doubles(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir()
    killed.mkdir()
    with webhook() as (url, _):
        command, env = once(whole, url)
        subprocess.run(command, env=env, capture_output=True, timeout=240, check=True)
    with webhook() as (url, taken):
        command, env = once(killed, url, "receivers.file.max_items=1", "service.checkpoint_interval=2ms")
        chance = random.Random(7)
        log, size = killed / "logs.jsonl", 0
        for _ in range(8):
            process = subprocess.Popen(command, env=env, stderr=subprocess.DEVNULL)
            size += 18_000 + int(chance.random() * 5000)
            while process.poll() is None and not (log.exists() and log.stat().st_size >= size):
                time.sleep(0.001)
            assert process.poll() is None, "it was over before it was killed: make the steps smaller"
            process.send_signal(signal.SIGKILL)
            process.wait()
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=240, check=False)
        assert done.returncode == 0, done.stderr
    assert story(told(killed)) == STORY
    assert content(killed / "history.db") == content(whole / "history.db")
    notifications = the_one(killed).notifications
    # Each has one end. A call that had no answer was made again: calls may be more, never less, than deliveries.
    assert [len(one.deliveries) for one in notifications] == [1] * 10
    received = Counter((alert["state"], alert["number"]) for alert in taken)
    for one in notifications:
        if one.deliveries[0].outcome == "delivered":
            assert received[one.state, one.number] >= 1, one
        else:
            assert one.deliveries[0].outcome == "overtaken", one


# --- a daemon that goes on -------------------------------------------------------------------------------------------


def failing(number: int, asset: str = "glucose_entries", fault: Fault | None = None) -> Log:
    at = TWO + number * 5 * MINUTE
    log = Log(f"run-{asset}-{number}", start_ns=at - 3 * SECOND)
    log.plan(asset, "fetch").run_start().step_start("fetch")
    return log.step_failure("fetch", fault or Fault("TimeoutError", "Connection timeout after 30s")).run_failure()


def well(number: int, asset: str = "glucose_entries") -> Log:
    log = Log(f"run-{asset}-{number}", start_ns=TWO + number * 5 * MINUTE - 3 * SECOND)
    log.plan(asset, "fetch").run_start().step_start("fetch")
    return log.materialize(asset, "fetch").step_success("fetch").run_success()


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    daemon = Daemon(tmp_path)
    config = daemon.config
    config["processors"] |= {"dedup": {"group_wait": "0s"}}
    config["connectors"] |= {"alerts": {}}
    config["exporters"] |= {
        "file/alerts": {"path": str(daemon.out / "alerts.jsonl")},
        "store": {
            "path": str(tmp_path / "history.db"),
            "retry_on_failure": {"initial_interval": "50ms", "max_interval": "200ms"},
            "circuit_breaker": {"enabled": False},
        },
    }
    pipelines = config["service"]["pipelines"]
    pipelines["events"]["exporters"] = ["metrics", "logs", "alerts"]
    pipelines["alerts"] = {"receivers": ["alerts"], "processors": ["dedup"], "exporters": ["file/alerts", "store"]}
    yield daemon
    process = getattr(daemon, "process", None)
    if process is not None and process.poll() is None:
        process.kill()
        process.wait()


def feed(daemon: Daemon, *logs: Log) -> None:
    with daemon.events.open("ab") as file:
        for log in logs:
            file.write(b"\n".join(log.lines()) + b"\n")


def stories(daemon: Daemon, path: Path | None = None) -> list[Story]:
    place = Place(str(path or daemon.folder / "history.db"))
    try:
        with reading(place) as history:
            return [history.story(row) for row in history.alerts(Wanted(limit=1000))]
    except RetryableError as error:
        begun = ("there is no history", "is empty", "it is lifted when")  # it is only just being made
        assert any(words in str(error) for words in begun), error
        return []


def statuses(daemon: Daemon) -> dict[str, Any]:
    components = daemon.ready.get("pipelines", {}).get("alerts", {}).get("components", {})
    found: dict[str, Any] = components.get("exporters.store", {})
    return found


def test_it_is_asked_beside_the_daemon_and_by_its_configuration(daemon: Daemon) -> None:
    daemon.start()
    feed(daemon, failing(0), failing(1), failing(0, "raw/orders"), well(2, "raw/orders"))
    until("two alerts, one resolved", lambda: [s.alert.status for s in stories(daemon)] == ["firing", "resolved"])
    config = ("-c", str(daemon.file))
    table = cli("list", *config)
    assert table.returncode == 0, table.stderr
    first, *rows = table.stdout.splitlines()
    assert first.split() == ["ID", "SEVERITY", "STATUS", "ALERT", "FAILED", "LATEST"]
    assert "firing" in rows[0]
    assert "resolved" in rows[2]
    assert all(len(line) <= 80 for line in table.stdout.splitlines())
    assert "\x1b" not in table.stdout
    [row] = json.loads(cli("list", *config, "--open", "--json").stdout)
    assert (row["asset"], row["status"], row["failures"]) == ("glucose_entries", "firing", 2)
    [line] = cli("list", *config, "--asset", "raw/*", "--jsonl").stdout.splitlines()
    assert json.loads(line)["resolved_at"] == "2024-01-15T02:10:00Z"
    assert cli("list", *config, "--severity", "critical").stdout == "No alert is like that.\n"
    unknown = cli("show", "zzz", *config)
    assert (unknown.returncode, unknown.stdout) == (1, "")
    assert "has no alert 'zzz'" in unknown.stderr
    assert "v1:" in unknown.stderr
    assert daemon.stop() == 0


@pytest.mark.parametrize(
    ("answers", "outcome", "attempts", "answer"),
    [
        ((400,), "refused", 1, "what the backend says"),
        ((503, 503), "delivered", 3, "503"),
    ],
)
def test_what_a_backend_answered_is_on_record(
    daemon: Daemon, answers: tuple[int, ...], outcome: str, attempts: int, answer: str
) -> None:
    with webhook(*answers) as (url, _):
        retry = {"initial_interval": "20ms", "max_interval": "50ms"}
        daemon.config["exporters"]["webhook/team"] = {"url": url, "retry_on_failure": retry}
        daemon.config["service"]["pipelines"]["alerts"]["exporters"].append("webhook/team")
        daemon.start()
        feed(daemon, failing(0))
        calls = until("a call on record", lambda: [c for s in stories(daemon) for c in s.notifications[0].deliveries])
        assert daemon.stop() == 0
    [call] = calls
    assert (call.notifier, call.outcome, call.attempts) == ("webhook/team", outcome, attempts)
    assert answer in call.answer
    assert abs(call.at_ns - time.time_ns()) < 120 * SECOND


def test_a_history_that_cannot_be_written_stops_nothing_and_is_filled_in_afterwards(daemon: Daemon) -> None:
    history = daemon.folder / "history.db"
    history.write_bytes(b"this is no database")
    daemon.start()
    feed(daemon, *(failing(n, f"asset_{n}") for n in range(3)))
    until("three alerts told", lambda: len(daemon.logs("alerts.jsonl")) == 3)
    reason = until("it says why", lambda: "is damaged" in statuses(daemon).get("reason", "") and statuses(daemon))
    assert "move it" in reason["reason"]
    asked = cli("list", "--history", str(history))
    assert asked.returncode == 1
    assert "is damaged" in asked.stderr
    daemon.process.kill()  # what belongs into it is in the outbox
    daemon.process.wait()
    history.rename(daemon.folder / "no-history.db")
    daemon.start()
    until("all three are in it", lambda: len(stories(daemon)) == 3)
    assert all(len(s.notifications) == len(s.occurrences) == 1 for s in stories(daemon))
    assert statuses(daemon)["status"] == "ok"
    assert daemon.stop() == 0


def test_a_history_of_a_newer_program_is_left_alone(daemon: Daemon) -> None:
    path = daemon.folder / "history.db"
    writer = HistoryWriter(Place(str(path)), keep=10)
    writer.write([], 1)
    writer.close()
    with sqlite3.connect(path) as file:
        file.execute("UPDATE meta SET value = '99' WHERE key = 'schema_version'")
    daemon.start()
    feed(daemon, failing(0))
    until("it says why", lambda: "has schema 99" in statuses(daemon).get("reason", ""))
    until("it is told", lambda: daemon.logs("alerts.jsonl"))
    asked = cli("list", "--history", str(path))
    assert (asked.returncode, "run the newer program" in asked.stderr) == (1, True)
    daemon.process.kill()
    daemon.process.wait()
    with sqlite3.connect(path) as file:
        assert file.execute("SELECT count(*) FROM alerts").fetchone() == (0,)


def test_input_stops_where_its_settings_say_so(daemon: Daemon) -> None:
    (daemon.folder / "history.db").write_bytes(b"this is no database")
    daemon.config["exporters"]["store"]["sending_queue"] = {"queue_size": "100B", "on_full": "block"}
    daemon.start()
    feed(daemon, failing(0))
    until("no input is taken", lambda: "the outbox of exporter store is full" in daemon.ready.get("blocked", ""))
    feed(daemon, failing(0, "raw/orders"))
    (daemon.folder / "history.db").unlink()
    until("both are in it", lambda: len(stories(daemon)) == 2)
    assert daemon.ready["blocked"] == ""
    assert daemon.stop() == 0


def test_a_full_disk_is_waited_for(daemon: Daemon, small_disk: Path) -> None:
    path = small_disk / "history.db"
    daemon.config["exporters"]["store"]["path"] = str(path)
    daemon.start()
    feed(daemon, failing(0))
    until("the first is in it", lambda: len(stories(daemon, path)) == 1)
    filler = fill(small_disk)
    feed(daemon, *(failing(n, f"asset_{n}", Fault("E", f"{n} " * 1900)) for n in range(1, 100)))
    told_of_all = daemon.out / "alerts.jsonl"
    until("all are told", lambda: told_of_all.read_bytes().count(b"\n") >= 100)
    until("it says why", lambda: "database or disk is full" in statuses(daemon).get("reason", ""))
    assert daemon.ready["ready"]
    filler.unlink()
    until("all are in it", lambda: len([s for s in stories(daemon, path) if s.alert.kind != "overflow"]) == 100)
    assert daemon.stop() == 0


def test_what_is_old_is_forgotten_in_the_background(daemon: Daemon) -> None:
    daemon.config["exporters"]["store"]["retention"] = "1s"
    daemon.start()
    feed(daemon, failing(0), failing(0, "raw/orders"), well(1, "raw/orders"))
    until("it was resolved", lambda: "resolved" in [a["state"] for a in daemon.logs("alerts.jsonl")])
    until("what is resolved is gone", lambda: [s.alert.asset for s in stories(daemon)] == ["glucose_entries"])
    until("what was told of the open one, too", lambda: not stories(daemon)[0].notifications)
    assert daemon.stop() == 0


def test_a_problem_that_fails_often_is_bounded(daemon: Daemon) -> None:
    daemon.config["exporters"]["store"]["max_occurrences"] = 20
    daemon.start()
    feed(daemon, *(failing(n) for n in range(200)))
    until("all are counted", lambda: [s.alert.failures for s in stories(daemon)] == [200])
    [found] = stories(daemon)
    numbers = [one.number for one in found.occurrences]
    assert numbers == [*range(1, 11), *range(191, 201)]
    assert daemon.stop() == 0


HOSTILE = "\x1b[2J\x1b]0;owned\x07<script>\u202eevil\r\nSubject: x\0"


def test_hostile_text_does_nothing_in_a_terminal(daemon: Daemon) -> None:
    daemon.start()
    feed(daemon, failing(0, f"raw/{HOSTILE}".replace("\0", ""), Fault(f"E{HOSTILE}", HOSTILE)))
    [found] = until("it is told", lambda: stories(daemon))
    history = ("--history", str(daemon.folder / "history.db"))
    for command in (("list",), ("show", found.alert.key), ("explain", found.alert.key)):
        asked = cli(*command, *history)
        assert asked.returncode == 0, asked.stderr
        strange = [c for c in asked.stdout if not c.isprintable() and c != "\n"]
        assert not strange, (command, strange)
        assert "owned" in asked.stdout
    assert daemon.stop() == 0


def test_it_begins_with_a_reload(daemon: Daemon) -> None:
    """What was told before is not in it; how it stands is."""
    pipeline = daemon.config["service"]["pipelines"]["alerts"]
    store = daemon.config["exporters"].pop("store")
    pipeline["exporters"] = ["file/alerts"]
    daemon.start()
    feed(daemon, failing(0))
    until("it is told", lambda: daemon.logs("alerts.jsonl"))
    daemon.config["exporters"]["store"], pipeline["exporters"] = store, ["file/alerts", "store"]
    daemon.reload()
    feed(daemon, failing(1), well(2))
    found = until("it is resolved", lambda: [s for s in stories(daemon) if s.alert.status == "resolved"])[0]
    assert (found.alert.failures, [one.number for one in found.occurrences]) == (2, [2])
    assert [one.state for one in found.notifications] == ["resolved"]
    assert daemon.stop() == 0


@pytest.mark.integration
def test_it_can_be_in_postgresql(daemon: Daemon) -> None:
    server = os.environ.get("DAGTEL_TEST_POSTGRES")
    if not server:
        pytest.skip("DAGTEL_TEST_POSTGRES names no PostgreSQL server")
    place = Place(url=server, schema=f"dagtel_{uuid4().hex}")
    daemon.config["exporters"]["store"] = {"postgresql": {"url": server, "schema": place.schema}}
    try:
        with webhook() as (url, _):
            daemon.config["exporters"]["webhook"] = {"url": url}
            daemon.config["service"]["pipelines"]["alerts"]["exporters"].append("webhook")
            daemon.start()
            feed(daemon, failing(0), failing(1), well(2))
            until("it is resolved", lambda: '"resolved"' in cli("list", "-c", str(daemon.file), "--json").stdout)
            daemon.process.kill()
            daemon.process.wait()
            daemon.start()
            with reading(place) as history:
                until("both deliveries", lambda: [len(n.deliveries) for n in told_of(history)] == [1, 1])
                [row] = history.alerts()
                assert [one.number for one in history.story(row).occurrences] == [1, 2]
            assert daemon.stop() == 0
        at = cli("explain", row.key, "--history", f"{server}?schema={place.schema}")
        assert "webhook delivered" in at.stdout, at.stderr
    finally:
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute(cast(LiteralString, f"DROP SCHEMA IF EXISTS {place.schema} CASCADE"))


def told_of(history: History) -> tuple[Notification, ...]:
    return history.story(history.alerts()[0]).notifications
