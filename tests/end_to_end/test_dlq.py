"""Dead letters of a real daemon whose backend refuses, and what `dagtel dlq` makes of them."""

import gzip
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.timeout(400)

EVENTS = Path(__file__).parents[1] / "data" / "dagster-1.13.jsonl"
DAGTEL = Path(sys.executable).with_name("dagtel")
CONFIG = """
receivers: {file: {path: events.jsonl, follow: true, poll_interval: 20ms}}
processors: {run_ledger: }
connectors: {logs: }
exporters:
  loki:
    endpoint: '${env:LOKI}'
    sending_queue: {num_consumers: 1, batch: {max_size: 40}}
    retry_on_failure: {initial_interval: 20ms, max_interval: 50ms}
service:
  checkpoint_interval: 20ms
  telemetry: {metrics: {address: '', level: none}, health: {address: ''}}
  pipelines:
    events: {receivers: [file], processors: [run_ledger], exporters: [logs]}
    logs: {receivers: [logs], exporters: [loki]}
"""


class Loki:
    """Answers as Loki does; `refuses` everything for ever while that is set."""

    def __init__(self, url: str) -> None:
        self.url, self.refuses, self.slow_s = url, True, 0.0
        self.taken: list[bytes] = []
        self.refused: list[bytes] = []


def event_ids(payloads: list[bytes]) -> Counter[str]:
    """How often each event stands in them; records derived of one are left out."""
    lines = [
        json.loads(line)
        for body in list(payloads)
        for stream in json.loads(gzip.decompress(body))["streams"]
        for _, line in stream["values"]
    ]
    return Counter(line["event_id"] for line in lines if not line.get("derived"))


@pytest.fixture
def loki() -> Iterator[Loki]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            length = int(self.headers["Content-Length"])
            body = self.rfile.read(length)
            if len(body) < length:  # its sender was killed on the way: that was no request
                self.close_connection = True
                return
            time.sleep(fake.slow_s)
            (fake.refused if fake.refuses else fake.taken).append(body)
            said = b"unmarshal: we do not like this" if fake.refuses else b""
            self.send_response(400 if fake.refuses else 204)
            if said:
                self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            """The daemon is killed now and then."""

    server = Server(("127.0.0.1", 0), Handler)
    fake = Loki(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield fake
    server.shutdown()
    thread.join()
    server.server_close()


class Folder:
    """A folder with a configuration, its daemon, and its `dagtel dlq`."""

    def __init__(self, path: Path, loki: Loki) -> None:
        self.path = path
        self._environment = {**os.environ, "LOKI": loki.url, "COLUMNS": "80"}
        (path / "d.yaml").write_text(CONFIG)
        (path / "events.jsonl").write_bytes(EVENTS.read_bytes())
        self._daemons: list[subprocess.Popen[bytes]] = []

    def start(self) -> subprocess.Popen[bytes]:
        with (self.path / "log").open("ab") as log:
            command = [DAGTEL, "run", "--config", "d.yaml"]
            daemon = subprocess.Popen(command, cwd=self.path, env=self._environment, stderr=log)
        self._daemons.append(daemon)
        return daemon

    def dlq(self, *arguments: str) -> Any:
        """What `dagtel dlq … --json` prints."""
        done = subprocess.run(
            [DAGTEL, "dlq", *arguments, "--config", "d.yaml", "--json"],
            cwd=self.path, env=self._environment, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr + self.log()
        return json.loads(done.stdout)

    def letters(self) -> list[dict[str, Any]]:
        return self.dlq("list", "--limit", "10000")

    def log(self) -> str:
        return (self.path / "log").read_text()

    def end(self) -> None:
        for daemon in self._daemons:
            daemon.kill()
            daemon.wait()


@pytest.fixture
def folder(tmp_path: Path, loki: Loki) -> Iterator[Folder]:
    folder = Folder(tmp_path, loki)
    yield folder
    folder.end()


def until(what: str, found: Callable[[], Any], seconds: float = 60) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if answer := found():
            return answer
        time.sleep(0.1)
    raise AssertionError(f"not in {seconds} s: {what}")


def all_refused(folder: Folder, loki: Loki) -> list[dict[str, Any]]:
    """Wait until every event has been refused, and every payload that was is a dead letter."""
    count = len(EVENTS.read_bytes().splitlines())
    until("all are refused", lambda: len(event_ids(loki.refused)) >= count)
    return until("all are letters", lambda: len(found := folder.letters()) == len(set(loki.refused)) and found)


def ids(folder: Folder) -> set[str]:
    return {one["id"] for one in folder.letters()}


def test_refused_payloads_are_replayed_by_the_running_daemon_each_once(folder: Folder, loki: Loki) -> None:
    folder.start()
    letters = all_refused(folder, loki)
    assert {one["component"] for one in letters} == {"exporters.loki"}
    assert {one["reason"] for one in letters} == {"refused: Loki answered 400: unmarshal: we do not like this"}
    assert folder.dlq("replay", letters[0]["id"])["daemon"] is True
    first = letters[0]["id"]
    until("it is refused again", lambda: len(now := ids(folder)) == len(letters) and first not in now)

    loki.refuses = False
    assert folder.dlq("replay", "--reason", "unmarshal")["asked"] == len(letters)
    until("all are replayed", lambda: not folder.letters())
    until("all are taken", lambda: len(loki.taken) == len(letters))
    assert sorted(loki.taken) == sorted(set(loki.refused)), "byte for byte"
    found = event_ids(loki.taken)
    assert set(found.values()) == {1}
    assert len(found) == len(EVENTS.read_bytes().splitlines())


@pytest.mark.slow
def test_killed_again_and_again_while_it_replays_every_letter_is_delivered(folder: Folder, loki: Loki) -> None:
    daemon = folder.start()
    count = len(all_refused(folder, loki))
    daemon.kill()
    daemon.wait()
    loki.refuses, loki.slow_s = False, 0.02
    asked = folder.dlq("replay", "--since", "1h")
    assert (asked["asked"], asked["daemon"]) == (count, False)
    assert folder.dlq("replay", "--all") == {"asked": 0, "already": count, "cannot": 0, "partly": 0, "daemon": False}
    kills, taken_before = 5, list[int]()
    for kill in range(kills):
        daemon = folder.start()
        goal = count * (kill + 1) // (kills + 2)
        until("some are taken", lambda goal=goal: len(loki.taken) >= goal)
        daemon.send_signal(signal.SIGKILL)
        daemon.wait()
        time.sleep(2 * loki.slow_s)  # a call that had arrived whole is taken yet
        taken_before.append(len(loki.taken))
    daemon = folder.start()
    until("all are taken", lambda: len(set(loki.taken)) >= count)
    until("no letter is left", lambda: not folder.letters())
    daemon.send_signal(signal.SIGTERM)
    assert daemon.wait(40) == 0
    first: dict[bytes, int] = {}
    for at, body in enumerate(loki.taken):
        taken = first.setdefault(body, at)
        # A kill takes the answer to one call away, and the acknowledgements that no checkpoint has committed yet.
        near = any(taken < before <= at and before - taken <= 10 for before in taken_before)
        assert taken == at or near, f"payload {at} is payload {taken} again, and no kill stood shortly behind that"
    assert set(event_ids(list(set(loki.taken))).values()) == {1}


def test_what_is_dropped_beside_the_daemon_is_gone_and_never_sent(folder: Folder, loki: Loki) -> None:
    folder.start()
    letters = all_refused(folder, loki)
    kept, gone = letters[0], [one["id"] for one in letters[1:]]
    assert folder.dlq("drop", *gone, "--yes") == {"dropped": len(gone), "to_be_replayed": 0}
    loki.refuses = False
    assert folder.dlq("replay", "--all")["asked"] == 1
    until("it is taken", lambda: loki.taken)
    until("no letter is left", lambda: not folder.letters())
    assert len(loki.taken) == 1
    assert kept["component"] == "exporters.loki"
