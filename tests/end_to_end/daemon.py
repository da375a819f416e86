"""`dagtel run` as a process, on a configuration that a test writes again and again, with a followed file as input."""

import json
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

import yaml

from tests.ports import free_address

ROOT = Path(__file__).parents[2]
DATA = ROOT / "tests" / "data"
DAGTEL = str(Path(sys.executable).with_name("dagtel"))
SECONDS = 120


def until(what: str, found: Callable[[], Any]) -> Any:
    """Ask until the answer is true; gives it."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        if answer := found():
            return answer
        time.sleep(0.02)
    raise AssertionError(f"not in {SECONDS} s: {what}")


def text_of(url: str) -> str:
    """The body of a page, whatever its status; "" while nobody answers."""
    try:
        with urlopen(f"http://{url}", timeout=5) as answer:
            return str(answer.read().decode())
    except HTTPError as error:
        return error.read().decode()
    except (URLError, ConnectionError):
        return ""


class Daemon:
    """`dagtel run` on a configuration that the test writes again and again."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder, self.events = folder, folder / "events.jsonl"
        self.health, self.metrics = free_address(), free_address()
        self.out, self.log = folder / "out", folder / "daemon.log"
        self.config: dict[str, Any] = self.base()
        self.options = options
        self.process: subprocess.Popen[bytes]

    def base(self) -> dict[str, Any]:
        return {
            "receivers": {"file": {"path": str(self.events), "follow": True, "poll_interval": "10ms"}},
            "processors": {"run_ledger": {}},
            "connectors": {"metrics": {}, "logs": {}},
            "exporters": {
                "file/logs": {"path": str(self.out / "logs.jsonl")},
                "prometheus": {"address": "", "textfile": str(self.out / "metrics.prom"), "hold": "0"},
            },
            "service": {
                "clock": "events",
                "checkpoint_interval": "50ms",
                "state": {"path": str(self.folder / "state.db")},
                "telemetry": {"metrics": {"address": self.metrics}, "health": {"address": self.health}},
                "pipelines": {
                    "events": {"receivers": ["file"], "processors": ["run_ledger"], "exporters": ["metrics", "logs"]},
                    "metrics": {"receivers": ["metrics"], "exporters": ["prometheus"]},
                    "logs": {"receivers": ["logs"], "exporters": ["file/logs"]},
                },
            },
        }

    @property
    def file(self) -> Path:
        return self.folder / "dagtel.yaml"

    def write(self) -> None:
        part = self.folder / ".dagtel.yaml.part"
        part.write_text(yaml.safe_dump(self.config, sort_keys=False))
        part.replace(self.file)

    def start(self) -> None:
        self.write()
        self.events.touch()
        with self.log.open("ab") as log:
            command = [DAGTEL, "run", "--config", str(self.file), *self.options]
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        until("ready", lambda: self.ready.get("ready"))

    @property
    def ready(self) -> dict[str, Any]:
        text = text_of(f"{self.health}/readyz")
        return json.loads(text) if text.startswith("{") else {}

    def reloads(self) -> Counter[str]:
        """Reloads by result, from the daemon's own metrics."""
        found: Counter[str] = Counter()
        for line in text_of(f"{self.metrics}/metrics").splitlines():
            if line.startswith("dagtel_config_reloads_total{"):
                found[line.split('result="')[1].split('"')[0]] = int(float(line.rsplit(" ", 1)[1]))
        return found

    def figure(self, name: str) -> float:
        lines = text_of(f"{self.metrics}/metrics").splitlines()
        return float(next(line for line in lines if line.startswith(f"{name} ")).rsplit(" ", 1)[1])

    def hang_up(self) -> None:
        self.process.send_signal(signal.SIGHUP)

    def reload(self, expect: str = "success") -> None:
        """Write the configuration, reload it, and wait for the result."""
        before = self.reloads()[expect]
        self.write()
        self.hang_up()
        until(f"a reload with {expect}", lambda: self.reloads()[expect] > before or self.process.poll() is not None)
        assert self.process.poll() is None, self.log.read_text()

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(SECONDS)

    def logs(self, name: str = "logs.jsonl") -> list[dict[str, Any]]:
        """The lines of an output file; one that is being written is not there yet."""
        path = self.out / name
        written = path.read_text().split("\n")[:-1] if path.exists() else []
        return [json.loads(line) for line in written]

    def originals(self, *names: str) -> list[str]:
        """The events whose records are in these files, derived ones left out."""
        found = [record for name in names or ("logs.jsonl",) for record in self.logs(name) if not record.get("derived")]
        return [f"{record['event_id']} {record['time']} {record['message']}" for record in found]


def lines(count: int) -> list[bytes]:
    return (DATA / "dagster-1.13.jsonl").read_bytes().splitlines(keepends=True)[:count]


def append(daemon: Daemon, some: list[bytes]) -> None:
    with daemon.events.open("ab") as file:
        file.writelines(some)


def counters(path: Path) -> Counter[str]:
    return Counter(line for line in path.read_text().splitlines() if "_total{" in line)
