"""The `dagster_api` receiver: what the event log does not hold, asked of Dagster's webserver: daemons that are down,
code locations that do not load, schedules and sensors whose ticks fail.

What was told and seen is the note of the receiver's position, stored in the checkpoint that holds the findings.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager

import anyio
import msgspec

from pipeline.clock import SECOND, Clock, SystemClock
from pipeline.components import Context, Intake, Position, Read, Receiver, ReceiverSpec
from pipeline.conditions import Conditions, moment, span
from pipeline.errors import RetryableError
from pipeline.options import Duration, Secret
from pipeline.signals import Alert, Severity, Signal
from receivers.dagster_api_query import Daemon, Health, Ticks, Webserver
from receivers.dagster_api_ticks import Seen, gone, judged, key
from receivers.readings import Judge, Reading, Told


class DagsterApiConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Asks Dagster's webserver for daemons and code locations (`daemon`) and failed ticks (`tick_failure`).

    Begins an alerts pipeline. docs/sources.md explains it.
    """

    url: str
    """The webserver: `http://localhost:3000`."""
    headers: dict[str, Secret] = {}
    """Further headers, such as `Dagster-Cloud-Api-Token`."""
    interval: Duration = Duration("30s")
    """How often daemons and code locations are asked for."""
    tick_interval: Duration = Duration("1m")
    """How often ticks are asked for. 0: never."""
    ticks: int = 20
    """Ticks of each schedule and sensor that are asked for: those that fail faster are counted too low."""
    timeout: Duration = Duration("30s")
    """How long an answer may take."""
    heartbeat: Duration = Duration("10m")
    """A daemon whose last heartbeat is older is down, whatever Dagster says (it waits half an hour). 0: as Dagster
    says."""
    polls: int = 2
    """So often in a row a daemon must be down before somebody is told."""
    again: Duration = Duration("6h")
    """What lasts is found again this often: by that it persists, and `dedup` escalates it. 0: never."""
    daemon_severity: Severity = "ERROR"
    """Of daemons that are down and code locations that do not load."""
    tick_severity: Severity = "ERROR"
    """Of ticks that fail."""
    ignore: tuple[str, ...] = ()
    """Daemon types (`ASSET`), code locations, schedules and sensors by name of which nobody is told."""
    instance: str = ""
    """Name of the Dagster instance, where several are asked: part of what is the same problem."""
    deployment: str = ""
    """Name of the deployment (`prod`): part of fingerprints."""

    def problems(self) -> Iterator[tuple[str, str]]:
        """Path and message of each fault."""
        if not self.url.startswith(("http://", "https://")):
            yield "url", "begins with http:// or https://"
        if self.interval < 1:
            yield "interval", "must be at least `1s`"
        if 0 < self.tick_interval < 1:
            yield "tick_interval", "must be at least `1s`, or 0 for never"
        if not 1 <= self.ticks <= 500:
            yield "ticks", "must be from 1 to 500"
        if self.polls < 1:
            yield "polls", "must be at least 1"


class Note(msgspec.Struct, frozen=True):
    """What was told of daemons, and seen of schedules and sensors."""

    told: dict[str, Told] = {}
    seen: dict[str, Seen] = {}


class DagsterApi:
    """The receiver."""

    def __init__(self, config: DagsterApiConfig, context: Context, clock: Clock | None = None) -> None:
        headers = {name: value.reveal() for name, value in config.headers.items()}
        self._config, self._clock = config, clock or SystemClock()
        self._webserver = Webserver(context.http, config.url, headers, config.timeout)
        self._source = f"dagster_api:{context.id}"
        self._conditions = Conditions(config.deployment)
        polls = 1 if context.once else config.polls
        self._judge = Judge(self._conditions, polls, config.again.ns, config.instance, kind="daemon")
        self._seen: dict[str, Seen] = {}
        self._position = Position(0)
        self._turn = anyio.Lock()

    async def run(self, intake: Intake[object]) -> None:
        """Ask until cancelled; with `once` ask once."""
        stored = (await intake.assign([self._source]))[self._source]
        if stored is not None:
            note = msgspec.msgpack.decode(stored.note, type=Note) if stored.note else Note()
            self._position, self._judge.told, self._seen = Position(stored.next, note=stored.note), note.told, note.seen
        await intake.put(Read(self._source, (), self._position))  # nothing is behind: time need not wait for us
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._poll, self._health, float(self._config.interval), intake)
            if self._config.tick_interval:
                tasks.start_soon(self._poll, self._ticks, float(self._config.tick_interval), intake)

    async def _poll(
        self, ask: Callable[[], Awaitable[Sequence[Alert]]], every_s: float, intake: Intake[object]
    ) -> None:
        while True:
            found = await ask()
            async with self._turn:
                note = msgspec.msgpack.encode(Note(self._judge.told, self._seen))
                if found or note != self._position.note:
                    self._position = Position(self._position.next + 1, note=note)
                    await intake.put(Read(self._source, found, self._position))
            if intake.once:
                return
            await anyio.sleep(every_s)

    # --- daemons and code locations ---

    async def _health(self) -> Sequence[Alert]:
        try:
            health = await self._webserver.health()
        except RetryableError as error:
            return self._judge.failed("Dagster's webserver", str(error), self._clock.wall_ns())
        now_ns = self._clock.wall_ns()
        return self._judge.judge("Dagster's webserver", list(self._readings(health, now_ns)), now_ns)

    def _readings(self, health: Health, now_ns: int) -> Iterator[Reading]:
        severity, ignore = self._config.daemon_severity, self._config.ignore
        for daemon in health.daemons:
            if daemon.daemon_type not in ignore:
                down = daemon.required and (daemon.healthy is False or self._is_old(daemon, now_ns))
                title, words = f"Daemon Down: {daemon.daemon_type}", _words(daemon, now_ns)
                thing = f"daemon {daemon.daemon_type}"
                yield Reading(thing, title, severity if down else "", words, kind="daemon")
        for name, error in health.locations():
            if name not in ignore:
                words = f"{error.type}: {error.message}"[:1000] if error else ""
                title = f"Code Location Does Not Load: {name}"
                yield Reading(f"location {name}", title, severity if error else "", words, kind="daemon")

    def _is_old(self, daemon: Daemon, now_ns: int) -> bool:
        last_s, limit = daemon.last_heartbeat_time, self._config.heartbeat
        return bool(limit) and last_s is not None and now_ns / SECOND - last_s > limit

    # --- ticks ---

    async def _ticks(self) -> Sequence[Alert]:
        try:
            answer = await self._webserver.ticks(self._config.ticks)
        except RetryableError:
            return ()  # that it does not answer is told by `_health`
        return self._judged(answer)

    def _judged(self, answer: Ticks) -> list[Alert]:
        config, found, seen = self._config, list[Alert](), dict[str, Seen]()
        loaded = answer.loaded()
        for place, kind, name, state in answer.instigators():
            if name in config.ignore:
                continue
            known = self._seen.get(key(place, kind, name))
            alerts, now = judged(
                place, kind, name, state, known, self._conditions, config.tick_severity, config.instance
            )
            found += alerts
            if now is not None:
                seen[key(place, kind, name)] = now
        for each, known in self._seen.items():
            if each in seen:
                continue
            if known.location in loaded:
                found += gone(each, known, self._conditions, config.instance)
            else:
                seen[each] = known  # its code location does not load now: nothing is known of it, nothing forgotten
        self._seen = seen
        return found


def _words(daemon: Daemon, now_ns: int) -> str:
    said = f" It says: {daemon.last_heartbeat_errors[0].message.strip()[:500]}" if daemon.last_heartbeat_errors else ""
    if daemon.last_heartbeat_time is None:
        return f"It is needed and has never had a heartbeat: is `dagster-daemon run` there?{said}"
    last_ns = round(daemon.last_heartbeat_time * SECOND)
    return f"Its last heartbeat was {span(max(0, now_ns - last_ns))} ago ({moment(last_ns)}).{said}"


@asynccontextmanager
async def build(config: DagsterApiConfig, context: Context) -> AsyncIterator[Receiver[Alert]]:
    yield DagsterApi(config, context)


SPEC = ReceiverSpec("dagster_api", DagsterApiConfig, build, gives=Signal.ALERTS)
