"""What each process of the demo is told."""

import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from demo import road
from demo.seen import Seen
from demo.sink import Received


class Recorded:
    """In the place of `Children`: keeps command lines and environments."""

    def __init__(self) -> None:
        self.command: list[str] = []
        self.env: dict[str, str] = {}

    def start(
        self,
        name: str,
        command: Sequence[str],
        env: Mapping[str, str],
        on_line: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.command, self.env = list(command), dict(env)

    def sets(self) -> dict[str, str]:
        pairs = [part for before, part in zip(self.command, self.command[1:], strict=False) if before == "--set"]
        return dict(pair.split("=", 1) for pair in pairs)


@pytest.fixture
def seen() -> Seen:
    return Seen("way", "", "", Received())


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(road.JAEGER, raising=False)
    monkeypatch.delenv(road.LOKI, raising=False)


def started(place: road.Place, seen: Seen) -> Recorded:
    recorded = Recorded()
    road.start_daemon(place, seen, recorded)  # type: ignore[arg-type]  # starts nothing
    return recorded


def accepted(recorded: Recorded) -> subprocess.CompletedProcess[str]:
    command = [part if part != "run" else "validate" for part in recorded.command]
    return subprocess.run(command, env={**os.environ, **recorded.env}, capture_output=True, text=True, timeout=60)


def test_the_daemon_takes_what_it_is_told(tmp_path: Path, seen: Seen) -> None:
    recorded = started(road.Place(tmp_path, "http://127.0.0.1:1", "127.0.0.1:2"), seen)
    done = accepted(recorded)
    assert (done.returncode, done.stderr) == (0, "")
    assert recorded.env["DAGTEL_KAFKA"] == "127.0.0.1:2"
    assert recorded.env[road.JAEGER] == recorded.env[road.LOKI] == "http://127.0.0.1:1"


def test_without_a_broker_the_daemon_reads_dagsters_storage(tmp_path: Path, seen: Seen) -> None:
    recorded = started(road.Place(tmp_path, "http://127.0.0.1:1", None), seen)
    assert accepted(recorded).returncode == 0
    assert recorded.sets()["service.pipelines.events.receivers"] == "[dagster]"
    assert recorded.sets()["receivers.dagster.home"] == str(tmp_path / "dagster")


def test_the_users_own_backends_get_everything_as_well(
    tmp_path: Path, seen: Seen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(road.JAEGER, "http://jaeger:4318")
    monkeypatch.setenv(road.LOKI, "http://loki:3100")
    place = road.Place(tmp_path, "http://127.0.0.1:1", "127.0.0.1:2")
    recorded = started(place, seen)
    assert accepted(recorded).returncode == 0
    assert recorded.env[road.JAEGER] == "http://jaeger:4318"
    assert recorded.sets()["service.pipelines.traces.exporters"] == "[jaeger, jaeger/screen]"
    assert recorded.sets()["exporters.loki/screen.endpoint"] == "http://127.0.0.1:1"
    road.start_project(place, seen, recorded, once=True)  # type: ignore[arg-type]  # starts nothing
    assert recorded.env["GLUCOSE_OTLP_ENDPOINTS"] == "http://127.0.0.1:1,http://jaeger:4318"
