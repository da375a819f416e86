"""The `host` receiver: what the pipelines run on, as gauges and as alerts of kind `resource`.

Each collector is asked at its own pace. What was told is stored as the note of the receiver's position, in the same
checkpoint as the findings, so that a restart neither repeats an alert nor forgets to end one.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from functools import partial

import anyio
import anyio.to_thread
import msgspec

from pipeline.clock import Clock, SystemClock
from pipeline.components import Context, Intake, Position, Read, Receiver, ReceiverSpec
from pipeline.conditions import Conditions
from pipeline.errors import RetryableError
from pipeline.names_metrics import GAUGES
from pipeline.options import Duration
from pipeline.signals import Alert, Sample, Signal
from receivers import host_docker, host_lake, host_machine, host_postgres
from receivers.host_docker import DockerOption
from receivers.host_lake import LakeOption
from receivers.host_postgres import PostgresOption
from receivers.readings import Figure, Judge, Limits, Reading, Told

Item = Alert | Sample


class HostConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Reads disk, memory and load of this machine, and where they are named containers, connections and lakes.

    Begins a metrics pipeline, an alerts pipeline, or both. docs/sources.md explains it.
    """

    interval: Duration = Duration("15s")
    """How often everything but lakes is read."""
    polls: int = 2
    """So often in a row a thing must be bad before somebody is told."""
    again: Duration = Duration("6h")
    """What lasts is found again this often: by that it persists, and `dedup` escalates it. 0: never."""
    mounts: tuple[str, ...] = ("/",)
    """Folders whose file systems are read."""
    disk: Limits = Limits()
    """Share of each disk that is used."""
    memory: Limits = Limits()
    """Share of the memory that is used."""
    load: Limits = Limits(warning=0, critical=0)
    """Load of five minutes as a share of the CPUs: 100 is all that they can do. Off: a busy machine is no problem."""
    docker: DockerOption = DockerOption()
    """Containers."""
    postgres: tuple[PostgresOption, ...] = ()
    """PostgreSQL servers whose connections are counted."""
    lakes: tuple[LakeOption, ...] = ()
    """Buckets whose size is measured."""
    lake_interval: Duration = Duration("1h")
    """How often lakes are measured: all their objects are listed each time."""
    host: str = ""
    """Name of this machine: a label on its series and part of what is the same problem, where several are read."""
    deployment: str = ""
    """Name of the deployment (`prod`): part of fingerprints, and a label on every series."""

    def problems(self) -> Iterator[tuple[str, str]]:
        """Path and message of each fault."""
        for name in ("interval", "lake_interval"):
            if getattr(self, name) < 1:
                yield name, "must be at least `1s`"
        if self.polls < 1:
            yield "polls", "must be at least 1"
        for number, mount in enumerate(self.mounts):
            if not mount.startswith("/"):
                yield f"mounts[{number}]", f"{mount!r} is no absolute path"
        if self.docker.address and not self.docker.address.startswith(("unix:///", "http://", "https://")):
            yield "docker.address", "begins with unix:///, http:// or https://"
        for path, names in (
            ("postgres", [option.name for option in self.postgres]),
            ("lakes", [f"{option.bucket}/{option.prefix}" for option in self.lakes]),
        ):
            if len(set(names)) < len(names):
                yield path, "names one of them twice"


class Collector(msgspec.Struct, frozen=True):
    """Something that is read. `read` raises RetryableError or OSError when it cannot be."""

    name: str
    every_s: float
    read: Callable[[], Awaitable[Sequence[Reading]]]


class Host:
    """The receiver. Collectors are read side by side; what comes of them goes on one after another."""

    def __init__(self, config: HostConfig, context: Context, clock: Clock | None = None) -> None:
        self._config, self._http, self._log = config, context.http, context.log
        self._clock = clock or SystemClock()
        self._source = f"host:{context.id}"
        self._judge = Judge(
            Conditions(config.deployment), 1 if context.once else config.polls, config.again.ns, config.host
        )
        self._position = Position(0)
        self._given: dict[str, dict[tuple[str, tuple[tuple[str, str], ...]], None]] = {}
        self._turn = anyio.Lock()
        labels = (("deployment", config.deployment), ("host", config.host))
        self._labels = tuple(label for label in labels if label[1])

    async def run(self, intake: Intake[object]) -> None:
        """Read until cancelled; with `once` read everything once."""
        stored = (await intake.assign([self._source]))[self._source]
        if stored is not None:
            self._position = Position(stored.next, note=stored.note)
            self._judge.told = msgspec.msgpack.decode(stored.note, type=dict[str, Told]) if stored.note else {}
        await intake.put(Read(self._source, (), self._position))  # nothing is behind: time need not wait for us
        async with anyio.create_task_group() as tasks:
            for collector in self.collectors():
                tasks.start_soon(self._poll, collector, intake)

    def collectors(self) -> list[Collector]:
        """What the configuration wants to be read."""
        config, before = self._config, self._judge.level_told
        every = float(config.interval)
        machine: list[tuple[str, Callable[[], Reading]]] = [
            *((f"disk {mount}", partial(host_machine.disk, mount, config.disk, before)) for mount in config.mounts),
            ("memory", partial(host_machine.memory, config.memory, before)),
            ("load", partial(host_machine.load, config.load, before)),
        ]
        found = [Collector(name, every, partial(_in_thread, read)) for name, read in machine]
        if config.docker.address:
            found.append(Collector("docker", every, self._containers))
        found += [Collector(f"connections {o.name}", every, partial(self._connections, o)) for o in config.postgres]
        pace = float(config.lake_interval)
        return [*found, *(Collector(f"lake {o.bucket}/{o.prefix}", pace, partial(_lake, o)) for o in config.lakes)]

    async def _containers(self) -> Sequence[Reading]:
        docker = self._config.docker
        return host_docker.readings(await host_docker.containers(self._http, docker), docker)

    async def _connections(self, option: PostgresOption) -> Sequence[Reading]:
        used, most = await host_postgres.counted(option)
        return [host_postgres.reading(option, used, most, self._judge.level_told(f"connections {option.name}"))]

    # --- what comes of it ---

    async def _poll(self, collector: Collector, intake: Intake[object]) -> None:
        while True:
            alerts, figures = await self._read(collector)
            async with self._turn:
                await self._give(intake, [*self._samples(collector.name, figures), *alerts])
            if intake.once:
                return
            await anyio.sleep(collector.every_s)

    async def _read(self, collector: Collector) -> tuple[Sequence[Alert], Sequence[Figure]]:
        """What a collector finds. Of one that cannot be read the series end: an old figure would look new."""
        try:
            readings = await collector.read()
        except (RetryableError, OSError) as error:
            return self._judge.failed(collector.name, str(error), self._clock.wall_ns()), ()
        alerts = self._judge.judge(collector.name, readings, self._clock.wall_ns())
        return alerts, [figure for reading in readings for figure in reading.figures]

    async def _give(self, intake: Intake[object], items: Sequence[Item]) -> None:
        note = msgspec.msgpack.encode(self._judge.told)
        self._position = Position(self._position.next + 1, note=note)
        await intake.put(Read(self._source, items, self._position))

    def _samples(self, collector: str, figures: Sequence[Figure]) -> list[Sample]:
        """Gauges; a series that a collector no longer gives ends."""
        now = {(figure.name, figure.labels): None for figure in figures}
        gone = [series for series in self._given.get(collector, {}) if series not in now]
        self._given[collector] = now
        ended = [self._sample(name, labels, None) for name, labels in gone]
        return [*ended, *(self._sample(figure.name, figure.labels, figure.value) for figure in figures)]

    def _sample(self, name: str, labels: tuple[tuple[str, str], ...], value: float | None) -> Sample:
        return Sample(name, "gauge", tuple(sorted((*labels, *self._labels))), value, 0, GAUGES[name].help)


async def _in_thread(read: Callable[[], Reading]) -> Sequence[Reading]:
    """A file system that hangs (a dead NFS server) holds a thread, not the daemon."""
    return [await anyio.to_thread.run_sync(read, abandon_on_cancel=True)]


async def _lake(option: LakeOption) -> Sequence[Reading]:
    def measure() -> Reading:
        return host_lake.reading(option, *host_lake.measured(host_lake.open_store(option), option))

    return await _in_thread(measure)


@asynccontextmanager
async def build(config: HostConfig, context: Context) -> AsyncIterator[Receiver[Item]]:
    yield Host(config, context)


SPEC = ReceiverSpec("host", HostConfig, build, gives=frozenset({Signal.METRICS, Signal.ALERTS}))
