"""What the pipelines run on: what is read, what is told of it, and that a restart neither repeats nor forgets."""

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import psutil
import pytest

from pipeline.clock import HOUR
from pipeline.components import Position
from pipeline.conditions import Conditions
from pipeline.errors import RetryableError
from pipeline.names_metrics import GAUGES
from pipeline.options import Duration, Size
from pipeline.runtime.http import open_http
from pipeline.signals import Alert, Sample
from pipeline.testing.clock import VirtualClock
from pipeline.testing.context import FakeContext
from pipeline.testing.intake import FakeIntake
from receivers import host_docker, host_machine
from receivers.host import SPEC, Collector, Host, HostConfig
from receivers.host_docker import Container, DockerOption
from receivers.readings import Figure, Judge, Limits, Reading, SizeLimits, percent, size

pytestmark = pytest.mark.anyio

NOW = VirtualClock().wall_ns()


def judge(polls: int = 1, host: str = "", again_ns: int = 6 * HOUR) -> Judge:
    return Judge(Conditions(), polls, again_ns, host)


def bad(level: Any = "WARNING", thing: str = "disk /") -> Reading:
    return Reading(thing, f"Bad: {thing}", level, "as it is")


WELL = Reading("disk /")


def told(alerts: Sequence[Alert]) -> list[tuple[str, str]]:
    return [(alert.state, alert.severity) for alert in alerts]


# --- what is worth telling -------------------------------------------------------------------------------------------


def test_a_spike_is_none_and_what_lasts_is_told_once_until_it_is_over() -> None:
    it = judge(polls=2)
    assert it.judge("disk", [bad()], NOW) == []
    assert it.judge("disk", [WELL], NOW) == []
    assert it.judge("disk", [bad()], NOW) == []
    assert told(it.judge("disk", [bad()], NOW)) == [("failing", "WARNING")]
    assert it.judge("disk", [bad()], NOW) == []
    assert told(it.judge("disk", [WELL], NOW)) == [("recovered", "INFO")]
    assert it.judge("disk", [WELL], NOW) == []


def test_what_gets_worse_is_told_and_what_gets_better_is_not() -> None:
    it = judge()
    assert told(it.judge("disk", [bad()], NOW)) == [("failing", "WARNING")]
    assert told(it.judge("disk", [bad("CRITICAL")], NOW)) == [("failing", "CRITICAL")]
    assert it.judge("disk", [bad()], NOW) == []


def test_what_lasts_is_found_again() -> None:
    it = judge()
    assert it.judge("disk", [bad()], NOW)
    assert it.judge("disk", [bad()], NOW + 5 * HOUR) == []
    assert told(it.judge("disk", [bad()], NOW + 6 * HOUR)) == [("failing", "WARNING")]


def test_what_is_no_longer_there_is_over_but_only_for_who_reads_it() -> None:
    it = judge()
    it.judge("docker", [bad(thing="container a")], NOW)
    assert it.judge("disk", [WELL], NOW) == []
    assert told(it.judge("docker", [], NOW)) == [("recovered", "INFO")]


def test_a_collector_that_cannot_read_is_told_and_ends_nothing() -> None:
    it = judge(polls=2)
    it.judge("docker", [bad("ERROR", "container a")], NOW)
    it.judge("docker", [bad("ERROR", "container a")], NOW)
    assert it.failed("docker", "no socket", NOW) == []
    (alert,) = it.failed("docker", "no socket", NOW)
    assert (alert.title, alert.summary) == ("Cannot Read docker", "docker cannot be read: no socket")
    assert told(it.judge("docker", [bad("ERROR", "container a")], NOW)) == [("recovered", "INFO")]
    assert set(it.told) == {"container a"}


def test_figures_and_words_are_no_part_of_what_is_the_same_but_the_host_is() -> None:
    (here,) = judge().judge("disk", [bad()], NOW)
    (later,) = judge().judge("disk", [Reading("disk /", "Bad", "CRITICAL", "99%")], NOW)
    (there,) = judge(host="db-1").judge("disk", [bad()], NOW)
    assert here.fingerprint == later.fingerprint != there.fingerprint
    assert there.title == "Bad: disk / (db-1)"
    assert (here.kind, here.now_ns, here.first_ns) == ("resource", 0, NOW)


def test_limits_have_a_way_back() -> None:
    limits = Limits()
    assert [limits.level(value) for value in (79.9, 80, 94.9, 95, 100)] == [
        "",
        "WARNING",
        "WARNING",
        "CRITICAL",
        "CRITICAL",
    ]
    assert limits.level(78.5, "WARNING") == "WARNING", "it has to fall a little further"
    assert limits.level(77.9, "WARNING") == ""
    assert limits.level(94, "CRITICAL") == "CRITICAL"
    assert Limits(warning=0, critical=0).level(100) == ""
    with pytest.raises(ValueError, match="above"):
        Limits(warning=99)


def test_sizes_are_said_as_people_do() -> None:
    assert [size(value) for value in (180e9, 1.5e12, 999, 0)] == ["180 GB", "1.5 TB", "999 B", "0 B"]
    assert percent(1, 0) == 0
    assert [SizeLimits(warning=Size("1GB"), critical=Size("2GB")).level(v) for v in (5e8, 1e9, 2e9)] == [
        "",
        "WARNING",
        "CRITICAL",
    ]


# --- the machine -----------------------------------------------------------------------------------------------------


def never(thing: str) -> Any:
    return ""


def test_the_disk_of_a_folder_is_read(tmp_path: Path) -> None:
    reading = host_machine.disk(str(tmp_path), Limits(warning=0.0001, critical=0), never)
    values = {figure.name: figure.value for figure in reading.figures}
    assert values["disk_total_bytes"] == psutil.disk_usage(str(tmp_path)).total
    assert 0 <= values["disk_usage_percent"] <= 100
    assert reading.figures[0].labels == (("mount_point", str(tmp_path)),)
    assert reading.words.endswith("Limits: 0.0001% WARNING.")
    with pytest.raises(OSError, match="No such file"):
        host_machine.disk(str(tmp_path / "gone"), Limits(), never)


def test_memory_and_load_are_read() -> None:
    memory = {figure.name: figure.value for figure in host_machine.memory(Limits(), never).figures}
    assert memory["memory_total_bytes"] == psutil.virtual_memory().total
    assert 0 < memory["memory_used_bytes"] < memory["memory_total_bytes"]
    load = host_machine.load(Limits(warning=0, critical=0), never)
    assert load.level == ""
    assert {figure.name for figure in load.figures} == {"load_average", "load_percent"}


# --- containers ------------------------------------------------------------------------------------------------------

# As Docker 28 answers `GET /v1.47/containers/json?all=1`, cut to a few of its fields.
DOCKER = [
    {"Id": "a1", "Names": ["/dagster"], "Image": "d", "State": "running", "Status": "Up 2 hours (healthy)"},
    {"Id": "b2", "Names": ["/minio"], "Image": "m", "State": "running", "Status": "Up 3 minutes (unhealthy)"},
    {"Id": "c3", "Names": ["/postgres"], "Image": "p", "State": "exited", "Status": "Exited (137) 4 minutes ago"},
    {"Id": "d4", "Names": ["/migrate"], "Image": "x", "State": "exited", "Status": "Exited (0) 2 hours ago"},
    {"Id": "e5", "Names": ["/loop"], "Image": "x", "State": "restarting", "Status": "Restarting (1) 5 seconds ago"},
]


@asynccontextmanager
async def docker(path: Path, status: int = 200, body: bytes | None = None) -> AsyncIterator[list[bytes]]:
    """A server on a socket file that answers as Docker does; gives the requests."""
    requests: list[bytes] = []

    async def serve(stream: anyio.abc.ByteStream) -> None:
        async with stream:
            requests.append(await stream.receive())
            answer = json.dumps(DOCKER).encode() if body is None else body
            head = f"HTTP/1.1 {status} X\r\nApi-Version: 1.47\r\nContent-Type: application/json\r\n"
            await stream.send(f"{head}Content-Length: {len(answer)}\r\nConnection: close\r\n\r\n".encode() + answer)

    async with await anyio.create_unix_listener(path) as listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, serve)
        yield requests
        tasks.cancel_scope.cancel()


async def test_containers_are_asked_for_by_dockers_socket(tmp_path: Path) -> None:
    option = DockerOption(address=f"unix://{tmp_path}/docker.sock", expected=("dagster", "postgres", "minio", "gone"))
    async with docker(tmp_path / "docker.sock") as requests, open_http() as http:
        found = await host_docker.containers(http, option)
    assert requests[0].startswith(b"GET /containers/json?all=1 HTTP/1.1\r\nHost: localhost\r\n")
    readings = {reading.thing: reading for reading in host_docker.readings(found, option)}
    assert {thing: (reading.level, reading.figures[0].value) for thing, reading in readings.items()} == {
        "container dagster": ("", 1.0),
        "container minio": ("ERROR", 0.0),
        "container postgres": ("ERROR", 0.0),
        "container migrate": ("", 0.0),
        "container loop": ("ERROR", 0.0),
        "container gone": ("ERROR", 0.0),
    }
    assert readings["container minio"].title == "Container Unhealthy: minio"
    assert readings["container postgres"].words == "Docker says: Exited (137) 4 minutes ago."
    assert readings["container gone"].title == "Container Missing: gone"


async def test_a_socket_that_is_not_there_and_an_answer_that_is_none_are_errors_to_try_again(tmp_path: Path) -> None:
    option = DockerOption(address=f"unix://{tmp_path}/docker.sock")
    async with open_http() as http:
        with pytest.raises(RetryableError, match="no answer"):
            await host_docker.containers(http, option)
        async with docker(tmp_path / "docker.sock", body=b"<html>"):
            with pytest.raises(RetryableError, match="Docker's API"):
                await host_docker.containers(http, option)
    (tmp_path / "docker.sock").unlink(missing_ok=True)
    async with open_http() as http, docker(tmp_path / "docker.sock", status=403, body=b"denied"):
        with pytest.raises(RetryableError, match="403"):
            await host_docker.containers(http, option)


def test_patterns_expect_what_is_there_and_ignore_what_is_named() -> None:
    found = [Container(["/worker-1"], "exited"), Container(["/cache"], "dead")]
    option = DockerOption(expected=("worker-*", "api-*"), ignore=("cache",))
    assert [(r.thing, r.level) for r in host_docker.readings(found, option)] == [
        ("container worker-1", "ERROR"),
        ("container cache", ""),
    ]


# --- the receiver ----------------------------------------------------------------------------------------------------


class Scripted(Host):
    """Reads what it is told; the collectors are the test's."""

    def __init__(self, config: HostConfig, context: FakeContext, *polls: Any) -> None:
        super().__init__(config, context, VirtualClock())
        self.script = list(polls)

    def collectors(self) -> list[Collector]:
        return [Collector("docker", 0.0, self.next)]

    async def next(self) -> Sequence[Reading]:
        if not self.script:
            await anyio.sleep_forever()
        readings: Sequence[Reading] | Exception = self.script.pop(0)
        if isinstance(readings, Exception):
            raise readings
        return readings


async def polled(*polls: Any, stored: dict[str, Position] | None = None, **options: Any) -> FakeIntake:
    """The intake after these polls."""
    intake = FakeIntake(stored)
    host = Scripted(HostConfig(polls=1, **options), FakeContext("host"), *polls)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(host.run, intake)
        await intake.until(lambda: len(intake.reads) == 1 + len(polls))
        tasks.cancel_scope.cancel()
    return intake


def container(level: Any = "ERROR", health: float = 0.0, name: str = "a") -> Reading:
    figures = (Figure("container_health", health, (("container_name", name),)),)
    return Reading(f"container {name}", f"Container Not Running: {name}", level, "", figures)


async def test_figures_and_findings_go_on_together_with_what_was_told() -> None:
    intake = await polled([container()], host="db-1")
    sample, alert = intake.reads[1].items
    assert sample == Sample(
        "container_health",
        "gauge",
        (("container_name", "a"), ("host", "db-1")),
        0.0,
        0,
        GAUGES["container_health"].help,
    )
    assert isinstance(alert, Alert)
    assert (alert.kind, alert.severity) == ("resource", "ERROR")
    assert not intake.reads[1].behind


async def test_after_a_restart_nothing_is_told_twice_and_its_end_is() -> None:
    first = await polled([container()])
    second = await polled([container()], [container("", 1.0)], stored=first.stored)
    alerts = [item for item in second.items if isinstance(item, Alert)]
    assert told(alerts) == [("recovered", "INFO")]
    assert second.stored["host:host"].next == 3


async def test_the_series_of_what_is_gone_end() -> None:
    intake = await polled([container("", 1.0, "a"), container("", 1.0, "b")], [container("", 1.0, "b")])
    ended = [item for item in intake.reads[2].items if isinstance(item, Sample) and item.value is None]
    assert [dict(sample.labels) for sample in ended] == [{"container_name": "a"}]


async def test_what_cannot_be_read_is_told_and_its_series_end() -> None:
    intake = await polled([container("", 1.0)], RetryableError("no socket"), OSError("denied"), [container("", 1.0)])
    assert [told([i for i in read.items if isinstance(i, Alert)]) for read in intake.reads[1:]] == [
        [],
        [("failing", "WARNING")],
        [],
        [("recovered", "INFO")],
    ]
    assert [i.value for i in intake.reads[2].items if isinstance(i, Sample)] == [None]


async def test_with_once_everything_is_read_once(tmp_path: Path) -> None:
    intake = FakeIntake(once=True)
    config = HostConfig(mounts=(str(tmp_path),), disk=Limits(warning=0.0001, critical=0))
    async with SPEC.build(config, FakeContext("host", once=True)) as receiver:
        with anyio.fail_after(30):
            await receiver.run(intake)
    names = {item.name for item in intake.items if isinstance(item, Sample)}
    assert {"disk_usage_percent", "memory_usage_percent", "load_percent"} <= names
    assert [item.title for item in intake.items if isinstance(item, Alert)] == [f"Disk Almost Full: {tmp_path}"]


async def test_a_folder_that_is_not_there_stops_nothing(tmp_path: Path) -> None:
    intake = FakeIntake(once=True)
    config = HostConfig(mounts=(str(tmp_path / "gone"),))
    async with SPEC.build(config, FakeContext("host", once=True)) as receiver:
        await receiver.run(intake)
    (alert,) = [item for item in intake.items if isinstance(item, Alert)]
    assert alert.title == f"Cannot Read disk {tmp_path}/gone"
    assert "memory_usage_percent" in {item.name for item in intake.items if isinstance(item, Sample)}


@pytest.mark.parametrize(
    ("options", "path"),
    [
        ({"interval": Duration("10ms")}, "interval"),
        ({"polls": 0}, "polls"),
        ({"mounts": ("data",)}, "mounts[0]"),
        ({"docker": DockerOption(address="docker.sock")}, "docker.address"),
    ],
)
def test_what_makes_no_sense_is_named(options: dict[str, Any], path: str) -> None:
    assert [where for where, _ in HostConfig(**options).problems()] == [path]


def test_every_gauge_that_it_gives_has_its_help() -> None:
    source = "".join(path.read_text() for path in Path("receivers").glob("host_*.py"))
    for name in GAUGES:
        assert name.startswith("asset_") or f'"{name}"' in source
