"""What the event log does not hold: daemons, code locations, ticks; from a webserver's answers, over restarts."""

import json
from collections.abc import Sequence
from typing import Any

import anyio
import pytest

from pipeline.clock import SECOND
from pipeline.components import Position
from pipeline.errors import RetryableError
from pipeline.http import Response
from pipeline.options import Duration, Secret
from pipeline.signals import Alert
from pipeline.testing.clock import VirtualClock
from pipeline.testing.context import FakeContext, FakeHttp
from pipeline.testing.intake import FakeIntake
from receivers.dagster_api import DagsterApi, DagsterApiConfig
from receivers.dagster_api_query import TYPES, Webserver, health_query, tick_query

pytestmark = pytest.mark.anyio

NOW_S = VirtualClock().wall_ns() / SECOND
FIELDS = {
    "DaemonStatus": ["daemonType", "required", "healthy", "lastHeartbeatTime", "lastHeartbeatErrors"],
    "InstigationTick": ["id", "tickId", "status", "timestamp", "error"],
    "InstigationState": ["status", "ticks"],
    "PythonError": ["message", "className", "stack", "cause"],
    "WorkspaceLocationEntry": ["name", "locationOrLoadError"],
}
ERROR = {
    "message": "dagster._core.errors.SensorExecutionError: Error in sensor\n",
    "cls_name": "SensorExecutionError",
    "stack": [],
    "cause": {
        "message": "ValueError: no answer from http://api/7\n",
        "cls_name": "ValueError",
        "stack": ['  File "/opt/shop/sensors.py", line 14, in arrivals\n    raise\n'],
        "cause": None,
    },
}


def daemon(
    kind: str = "SENSOR", healthy: bool = True, required: bool = True, last: float | None = NOW_S
) -> dict[str, Any]:
    about = {"daemonType": kind, "required": required, "healthy": healthy, "lastHeartbeatTime": last}
    return {**about, "lastHeartbeatErrors": []}


def tick(status: str, at: float, error: Any = None) -> dict[str, Any]:
    return {"tickId": str(at), "id": str(at), "status": status, "timestamp": at, "error": error}


def sensor(*ticks: dict[str, Any], name: str = "arrivals", status: str = "RUNNING") -> dict[str, Any]:
    latest_first = sorted(ticks, key=lambda each: -each["timestamp"])
    return {"name": name, "sensorState": {"status": status, "ticks": latest_first}}


class Dagster:
    """A webserver: what it knows, and what it was asked."""

    def __init__(self, fields: dict[str, list[str]] = FIELDS) -> None:
        self.fields = fields
        self.daemons: list[Any] = [daemon()]
        self.locations: list[Any] = [{"name": "shop", "locationOrLoadError": {"__typename": "RepositoryLocation"}}]
        self.sensors: list[Any] = []
        self.down = False
        self.http = FakeHttp(self.answer)

    def answer(self, method: str, url: str, body: bytes) -> Response:
        if self.down:
            raise RetryableError("nobody is there")
        return Response(200, {}, json.dumps({"data": self.data(json.loads(body)["query"])}).encode())

    def data(self, query: str) -> Any:
        if "__type(" in query:
            return {name: {"fields": [{"name": field} for field in self.fields.get(name, [])]} for name in TYPES}
        if "daemonHealth" in query:
            statuses = {"daemonHealth": {"allDaemonStatuses": self.daemons}}
            return {"instance": statuses, "workspaceOrError": {"locationEntries": self.locations}}
        return {"workspaceOrError": {"locationEntries": [self.with_sensors(each) for each in self.locations]}}

    def with_sensors(self, entry: Any) -> Any:
        if entry["locationOrLoadError"]["__typename"] != "RepositoryLocation":
            return entry
        repository = {"name": "__repository__", "schedules": [], "sensors": self.sensors}
        return {**entry, "locationOrLoadError": {"__typename": "RepositoryLocation", "repositories": [repository]}}


class Asked:
    """The receiver, asked once each time: `--once` after `--once`, each going on from what the last one stored."""

    def __init__(self, dagster: Dagster, **options: Any) -> None:
        self.dagster, self.stored = dagster, dict[str, Position]()
        self.config = DagsterApiConfig(url="http://dagster.test:3000", **options)

    async def __call__(self) -> list[Alert]:
        context = FakeContext("dagster_api", once=True)
        context.http = self.dagster.http
        intake = FakeIntake(self.stored, once=True)
        with anyio.fail_after(10):
            await DagsterApi(self.config, context, VirtualClock()).run(intake)
        self.stored = intake.stored
        return [item for item in intake.items if isinstance(item, Alert)]


def told(alerts: Sequence[Alert]) -> list[tuple[str, str, str]]:
    return [(alert.state, alert.kind, alert.title) for alert in alerts]


# --- daemons and code locations --------------------------------------------------------------------------------------


async def test_a_daemon_that_is_down_is_told_once_and_over_when_it_is_back() -> None:
    it = Asked(Dagster())
    assert await it() == []
    it.dagster.daemons = [daemon(healthy=False, last=None), daemon("ASSET", healthy=False, required=False)]
    (alert,) = await it()
    assert (alert.kind, alert.severity, alert.title) == ("daemon", "ERROR", "Daemon Down: SENSOR")
    assert alert.summary == "It is needed and has never had a heartbeat: is `dagster-daemon run` there?"
    assert await it() == [], "told already, and known after a restart"
    it.dagster.daemons = [daemon()]
    (over,) = await it()
    assert (over.state, over.fingerprint) == ("recovered", alert.fingerprint)


async def test_a_heartbeat_that_is_old_is_none_whatever_dagster_says() -> None:
    it = Asked(Dagster())
    it.dagster.daemons = [daemon(last=NOW_S - 900)]
    (alert,) = await it()
    assert alert.summary == "Its last heartbeat was 15 min ago (2023-11-14 21:58 UTC)."
    as_dagster_says = Asked(it.dagster, heartbeat=Duration(0))
    assert await as_dagster_says() == []


async def test_a_code_location_that_does_not_load_is_told_with_its_error() -> None:
    it = Asked(Dagster())
    broken = {
        "__typename": "PythonError",
        "message": "ImportError: no pandas\n",
        "cls_name": "ImportError",
        "stack": [],
    }
    it.dagster.locations = [
        {"name": "shop", "locationOrLoadError": broken},
        {"name": "other", "locationOrLoadError": None},
    ]
    it.dagster.data = lambda query, ask=it.dagster.data: (  # type: ignore[method-assign,misc]
        {"workspaceOrError": {}} if "sensorState" in query else ask(query)
    )
    (alert,) = await it()
    assert (alert.title, alert.summary) == ("Code Location Does Not Load: shop", "ImportError: no pandas")


async def test_a_webserver_that_does_not_answer_is_told_and_ends_nothing() -> None:
    it = Asked(Dagster())
    it.dagster.daemons = [daemon(healthy=False)]
    await it()
    it.dagster.down = True
    (alert,) = await it()
    assert (alert.title, alert.kind, alert.severity) == ("Cannot Read Dagster's webserver", "daemon", "WARNING")
    it.dagster.down = False
    assert told(await it()) == [("recovered", "daemon", "")]


async def test_what_is_ignored_is_told_nobody() -> None:
    it = Asked(Dagster(), ignore=("SENSOR", "arrivals"))
    it.dagster.daemons = [daemon(healthy=False)]
    it.dagster.sensors = [sensor(tick("FAILURE", 1.0))]
    assert await it() == []


# --- ticks -----------------------------------------------------------------------------------------------------------


async def test_a_failed_tick_is_told_with_its_innermost_error_and_over_with_the_next_that_is_well() -> None:
    it = Asked(Dagster())
    it.dagster.sensors = [sensor(tick("FAILURE", 100.0, ERROR))]
    (alert,) = await it()
    assert told([alert]) == [("failing", "tick_failure", "Sensor Tick Failed: arrivals")]
    assert alert.error is not None
    assert (alert.error.type, alert.error.message) == ("ValueError", "no answer from http://api/7")
    assert (alert.error.file, alert.error.line, alert.error.stack) == ("/opt/shop/sensors.py", 14, "")
    assert (alert.first_ns, alert.now_ns) == (100 * SECOND, 0)
    assert alert.tags == {"sensor": "arrivals", "location": "shop"}
    assert await it() == []
    it.dagster.sensors = [sensor(tick("FAILURE", 100.0, ERROR), tick("SKIPPED", 130.0))]
    (over,) = await it()
    assert (over.state, over.fingerprint) == ("recovered", alert.fingerprint)


async def test_each_further_failed_tick_is_found_again() -> None:
    it = Asked(Dagster())
    it.dagster.sensors = [sensor(tick("FAILURE", 100.0))]
    await it()
    it.dagster.sensors = [sensor(*(tick("FAILURE", at) for at in (100.0, 130.0, 160.0)), tick("STARTED", 190.0))]
    assert [alert.first_ns for alert in await it()] == [130 * SECOND, 160 * SECOND]


async def test_at_first_only_the_latest_tick_counts() -> None:
    it = Asked(Dagster())
    it.dagster.sensors = [sensor(*(tick("FAILURE", float(at)) for at in range(100, 110)), tick("SUCCESS", 111.0))]
    assert await it() == []


async def test_a_sensor_that_is_switched_off_or_gone_is_over() -> None:
    for after in ([sensor(tick("FAILURE", 100.0), status="STOPPED")], []):
        it = Asked(Dagster())
        it.dagster.sensors = [sensor(tick("FAILURE", 100.0))]
        await it()
        it.dagster.sensors = after
        assert told(await it()) == [("recovered", "tick_failure", "")]
        assert await it() == []


async def test_of_a_code_location_that_does_not_load_nothing_is_forgotten() -> None:
    it = Asked(Dagster(), ignore=("shop",))
    it.dagster.sensors = [sensor(tick("FAILURE", 100.0))]
    await it()
    whole = it.dagster.locations
    it.dagster.locations = [{"name": "shop", "locationOrLoadError": {"__typename": "PythonError", "message": "x"}}]
    assert await it() == []
    it.dagster.locations = whole
    assert await it() == [], "and not told again"


async def test_ticks_can_be_left_alone() -> None:
    it = Asked(Dagster(), tick_interval=Duration(0))
    it.dagster.sensors = [sensor(tick("FAILURE", 100.0))]
    assert await it() == []


async def test_several_instances_are_told_apart() -> None:
    one, other = Asked(Dagster(), instance="blue"), Asked(Dagster(), instance="green")
    prints, titles = set(), []
    for it in (one, other):
        it.dagster.sensors = [sensor(tick("FAILURE", 100.0))]
        it.dagster.daemons = [daemon(healthy=False)]
        alerts = await it()
        prints |= {alert.fingerprint for alert in alerts}
        titles += [alert.title for alert in alerts]
    assert len(prints) == 4
    assert titles[0] == "Daemon Down: SENSOR (blue)"


# --- asking ----------------------------------------------------------------------------------------------------------


def test_queries_ask_for_nothing_that_the_webserver_does_not_know() -> None:
    old = {
        "DaemonStatus": {"daemonType", "required", "healthy", "lastHeartbeatTime"},
        "InstigationTick": {"id", "status", "timestamp", "error"},
        "InstigationState": {"status", "ticks"},
        "PythonError": {"message", "className", "stack"},
        "WorkspaceLocationEntry": {"name", "locationOrLoadError"},
    }
    assert "lastHeartbeatErrors" not in health_query(old)
    assert "cause" not in tick_query(old, 5)
    assert "tickId" not in tick_query(old, 5)
    new = {name: frozenset(fields) for name, fields in FIELDS.items()}
    assert tick_query(new, 5).count("cause {") == 2 * 3, "of schedules and sensors, three deep"


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"<html>", "http://x/graphql"),
        (b'{"errors":[{"message":"Cannot query field"}]}', "Cannot query field"),
        (b'{"data":{"DaemonStatus":null}}', "is it a Dagster webserver"),
    ],
)
async def test_an_answer_that_is_none_is_an_error_to_try_again(answer: bytes, said: str) -> None:
    http = FakeHttp(lambda *_: Response(200, {}, answer))
    with pytest.raises(RetryableError, match=said):
        await Webserver(http, "http://x/graphql", {}, 5.0).health()


async def test_after_an_error_the_schema_is_asked_again() -> None:
    dagster = Dagster()
    webserver = Webserver(dagster.http, "http://x", {"token": "t"}, 5.0)
    await webserver.health()
    await webserver.ticks(3)
    assert sum(b"__type(" in body for _, _, body, _ in dagster.http.requests) == 1
    dagster.down = True
    with pytest.raises(RetryableError):
        await webserver.health()
    dagster.down = False
    await webserver.health()
    assert sum(b"__type(" in body for _, _, body, _ in dagster.http.requests) == 2
    assert dagster.http.requests[0][3]["token"] == "t"


async def test_its_headers_are_secrets_that_only_the_webserver_sees() -> None:
    it = Asked(Dagster(), headers={"Dagster-Cloud-Api-Token": Secret("hunter2")})
    await it()
    assert it.dagster.http.requests[0][3]["Dagster-Cloud-Api-Token"] == "hunter2"
    assert "hunter2" not in repr(it.config)


@pytest.mark.parametrize(
    ("options", "path"),
    [
        ({"url": "dagster:3000"}, "url"),
        ({"interval": Duration(0)}, "interval"),
        ({"tick_interval": Duration("10ms")}, "tick_interval"),
        ({"ticks": 0}, "ticks"),
        ({"polls": 0}, "polls"),
    ],
)
def test_what_makes_no_sense_is_named(options: dict[str, Any], path: str) -> None:
    config = DagsterApiConfig(**{"url": "http://x", **options})
    assert [where for where, _ in config.problems()] == [path]
