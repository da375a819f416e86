"""Dagster's webserver asked by GraphQL: its daemons, its code locations, the ticks of schedules and sensors.

Fields come and go with Dagster's version, and GraphQL refuses a whole query for one unknown name, so the schema is
asked first and each query is built from what is there. Errors are asked for under the names of the event log, so that
they are read like those. Source: Dagster's GraphQL schema, measured on 1.13.
"""

from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from typing import Final, TypeVar

import msgspec

from pipeline.errors import PermanentError, RetryableError
from pipeline.facts import ErrorInfo
from pipeline.http import HttpClient, expect_ok
from receivers.wire_errors import error_info

T = TypeVar("T")
Fields = Mapping[str, AbstractSet[str]]
"""Type → its fields, as far as the webserver knows them."""

TYPES: Final = ("DaemonStatus", "InstigationTick", "InstigationState", "PythonError", "WorkspaceLocationEntry")
_CAUSES: Final = 3
"""How deep causes of an error are asked for: GraphQL knows no recursion."""


def schema_query() -> str:
    """Asks which fields the types have that the queries pick."""
    return "{ " + " ".join(f'{name}: __type(name: "{name}") {{ fields {{ name }} }}' for name in TYPES) + " }"


def health_query(fields: Fields) -> str:
    """Daemons, and whether code locations load."""
    errors = "lastHeartbeatErrors { message }" if "lastHeartbeatErrors" in fields["DaemonStatus"] else ""
    return (
        "{ instance { daemonHealth { allDaemonStatuses { daemonType required healthy lastHeartbeatTime "
        f"{errors} }} }} }} workspaceOrError {{ __typename ... on PythonError {{ {_error(fields)} }} "
        "... on Workspace { locationEntries { name locationOrLoadError { __typename "
        f"... on PythonError {{ {_error(fields)} }} }} }} }} }} }}"
    )


def tick_query(fields: Fields, limit: int) -> str:
    """The last ticks of each schedule and sensor."""
    wanted = ("tickId", "id", "status", "timestamp")
    picked = " ".join(name for name in wanted if name in fields["InstigationTick"])
    state = f"{{ status ticks(limit: {limit}) {{ {picked} error {{ {_error(fields)} }} }} }}"
    return (
        "{ workspaceOrError { __typename ... on Workspace { locationEntries { name locationOrLoadError { __typename "
        f"... on RepositoryLocation {{ repositories {{ name schedules {{ name scheduleState {state} }} "
        f"sensors {{ name sensorState {state} }} }} }} }} }} }} }} }}"
    )


def _error(fields: Fields, depth: int = _CAUSES) -> str:
    picked = "message cls_name: className stack"
    return f"{picked} cause {{ {_error(fields, depth - 1)} }}" if depth and "cause" in fields["PythonError"] else picked


# --- answers ---------------------------------------------------------------------------------------------------------


class _Message(msgspec.Struct):
    message: str = ""


class Daemon(msgspec.Struct, rename="camel"):
    """A daemon. `last_heartbeat_time`: seconds since the epoch."""

    daemon_type: str
    required: bool = False
    healthy: bool | None = None
    last_heartbeat_time: float | None = None
    last_heartbeat_errors: list[_Message] | None = None


class Tick(msgspec.Struct, rename="camel"):
    """An evaluation. `status`: STARTED, SKIPPED, SUCCESS, FAILURE. `timestamp`: seconds since the epoch."""

    status: str
    timestamp: float
    tick_id: str = ""
    error: msgspec.Raw = msgspec.Raw(b"null")

    @property
    def failure(self) -> ErrorInfo | None:
        """Why it failed, without the stack."""
        found = error_info(self.error)
        return msgspec.structs.replace(found, stack="") if found else None


class State(msgspec.Struct):
    """Whether a schedule or sensor is switched on (`RUNNING`), and its last ticks, the latest first."""

    status: str = ""
    ticks: list[Tick] = []


class _Instigator(msgspec.Struct, rename="camel"):
    name: str
    schedule_state: State | None = None
    sensor_state: State | None = None


class _Repository(msgspec.Struct):
    name: str = ""
    schedules: list[_Instigator] = []
    sensors: list[_Instigator] = []


class _Location(msgspec.Struct):
    typename: str = msgspec.field(default="", name="__typename")
    message: str = ""
    cls_name: str = ""
    stack: list[str] = []
    cause: msgspec.Raw = msgspec.Raw(b"null")
    repositories: list[_Repository] = []


class _Entry(msgspec.Struct, rename="camel"):
    name: str
    location_or_load_error: _Location | None = None


class _Workspace(msgspec.Struct, rename="camel", frozen=True):
    location_entries: list[_Entry] = []
    message: str = ""


class _DaemonHealth(msgspec.Struct, rename="camel", frozen=True):
    all_daemon_statuses: list[Daemon] = []


class _Instance(msgspec.Struct, rename="camel", frozen=True):
    daemon_health: _DaemonHealth = _DaemonHealth()


class Health(msgspec.Struct, rename="camel"):
    """What `health_query` is answered with."""

    instance: _Instance = _Instance()
    workspace_or_error: _Workspace = _Workspace()

    @property
    def daemons(self) -> list[Daemon]:
        """All daemons that the instance knows."""
        return self.instance.daemon_health.all_daemon_statuses

    def locations(self) -> Iterator[tuple[str, ErrorInfo | None]]:
        """Each code location, and why it does not load."""
        for entry in self.workspace_or_error.location_entries:
            found = entry.location_or_load_error
            broken = found is not None and found.typename == "PythonError"
            yield entry.name, error_info(msgspec.Raw(msgspec.json.encode(found))) if broken else None


class Ticks(msgspec.Struct, rename="camel"):
    """What `tick_query` is answered with."""

    workspace_or_error: _Workspace = _Workspace()

    def loaded(self) -> frozenset[str]:
        """The code locations of which anything is known."""
        entries = ((entry.name, entry.location_or_load_error) for entry in self.workspace_or_error.location_entries)
        return frozenset(
            name for name, found in entries if found is not None and found.typename == "RepositoryLocation"
        )

    def instigators(self) -> Iterator[tuple[str, str, str, State]]:
        """Location (and repository, unless it is the unnamed one), kind, name and state of each."""
        for entry in self.workspace_or_error.location_entries:
            location = entry.location_or_load_error
            for repository in location.repositories if location else ():
                plain = repository.name in ("", "__repository__")
                place = entry.name if plain else f"{repository.name}@{entry.name}"
                for kind, each in (
                    *(("schedule", schedule) for schedule in repository.schedules),
                    *(("sensor", sensor) for sensor in repository.sensors),
                ):
                    state = each.schedule_state or each.sensor_state
                    if state is not None:
                        yield place, kind, each.name, state


# --- asking ----------------------------------------------------------------------------------------------------------


class _Name(msgspec.Struct):
    name: str


class _Type(msgspec.Struct):
    fields: list[_Name] | None = None


class _Answer(msgspec.Struct):
    data: msgspec.Raw = msgspec.Raw(b"null")
    errors: list[_Message] | None = None


_decode_answer = msgspec.json.Decoder(_Answer).decode
_decode_schema = msgspec.json.Decoder(dict[str, _Type | None]).decode


class Webserver:
    """A webserver. Its schema is asked once, and again after an error: it may be another one by then."""

    def __init__(self, http: HttpClient, url: str, headers: Mapping[str, str], timeout_s: float) -> None:
        self._http, self._timeout_s = http, timeout_s
        self._endpoint = url if url.rstrip("/").endswith("/graphql") else url.rstrip("/") + "/graphql"
        self._headers = {"content-type": "application/json", **headers}
        self._fields: Fields | None = None

    async def health(self) -> Health:
        """Raises RetryableError whatever went wrong, as `ticks` does."""
        return await self._asked(health_query(await self._schema()), Health)

    async def ticks(self, limit: int) -> Ticks:
        """The last ticks of all schedules and sensors."""
        return await self._asked(tick_query(await self._schema(), limit), Ticks)

    async def _schema(self) -> Fields:
        if self._fields is None:
            known = _decode_schema(await self._ask(schema_query()))
            fields = {name: _names(known.get(name)) for name in TYPES}
            if not fields["DaemonStatus"]:
                raise RetryableError(f"{self._endpoint} knows no DaemonStatus: is it a Dagster webserver?")
            self._fields = fields
        return self._fields

    async def _asked(self, query: str, shape: type[T]) -> T:
        try:
            return msgspec.json.decode(await self._ask(query), type=shape)
        except (msgspec.MsgspecError, RecursionError) as error:
            self._fields = None
            raise RetryableError(f"{self._endpoint}: the answer is not understood: {error}") from error
        except RetryableError:
            self._fields = None
            raise

    async def _ask(self, query: str) -> bytes:
        """The `data` of the answer. Raises RetryableError: who refuses today may be replaced tomorrow."""
        body = msgspec.json.encode({"query": query})
        try:
            response = await self._http.request(
                "POST", self._endpoint, body=body, headers=self._headers, timeout_s=self._timeout_s
            )
            answer = _decode_answer(expect_ok(response, self._endpoint).body)
        except (PermanentError, msgspec.MsgspecError, RecursionError) as error:
            raise RetryableError(f"{self._endpoint}: {error}") from error
        data = bytes(answer.data)
        if data == b"null" or answer.errors:
            said = answer.errors[0].message[:300] if answer.errors else "it has no data"
            raise RetryableError(f"{self._endpoint}: {said}")
        return data


def _names(known: _Type | None) -> AbstractSet[str]:
    return frozenset(field.name for field in (known.fields or ()) if known) if known else frozenset()
