"""Several daemons that share the work: `configs/cluster.yaml` on real Kafka and PostgreSQL."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, LiteralString, cast
from urllib.error import URLError
from urllib.request import urlopen

import psycopg
import pytest

from pipeline.batch import WHOLE
from tests.chaos.scene import Scene, size
from tests.integration.conftest import ROOT, Daemon, series
from tests.ports import free_port

POSTGRES = "DAGTEL_TEST_POSTGRES"
PORTS_APART = 10
"""The own pages of the second worker of a supervisor are so much higher; see docs/cluster.md."""
ASK_S = 0.1
"""A condition often means to ask each of them; asked more often they would do little else."""
STEADY_S = 3.0
SESSION_S = size(6, 10)
"""After so long Kafka gives the partitions of a member that is silent to others."""


class Member:
    """One of the daemons; `log` is all that it and those of its name before it have written."""

    def __init__(self, name: str, daemon: Daemon, own: str, health: str) -> None:
        self.name, self.daemon, self.own, self.health = name, daemon, own, health
        self.paused = False
        self._began = daemon.log.stat().st_size

    @property
    def pid(self) -> int:
        return self.daemon.process.pid

    @property
    def log(self) -> str:
        """What this one has written."""
        return self.daemon.log.read_bytes()[self._began :].decode(errors="replace")

    @property
    def shards(self) -> set[str]:
        """What it has of the work, as it says itself; nothing while it does not answer."""
        if self.paused or not self.alive:
            return set()
        return shards_at(self.own)

    @property
    def alive(self) -> bool:
        return self.daemon.process.poll() is None

    def signal(self, number: signal.Signals) -> None:
        self.paused = number == signal.SIGSTOP
        self.daemon.process.send_signal(number)


class Group(Scene):
    """A scene of several. Its own `started` are all that ever ran; `alone` is for reading what is left, in one."""

    def __init__(self, name: str, folder: Path, backends: dict[str, str], webhook: str = "") -> None:
        super().__init__(name, folder, backends, webhook)
        self.configs = [ROOT / "configs" / "cluster.yaml"]
        self.outcomes = f"{self.name}-outcomes"
        self.schema = f"chaos_{os.getpid()}_{time.time_ns()}"
        self.environment |= {
            "DAGTEL_POSTGRES": os.environ[POSTGRES],
            "DAGTEL_SCHEMA": self.schema,
            "DAGTEL_OUTCOMES_TOPIC": self.outcomes,
        }
        self.sets["exporters.webhook.timeout"] = "60s"  # a call that ran out of time is made again, and counted twice
        for receiver in ("kafka", "kafka/outcomes"):
            self.sets |= {
                f"receivers.{receiver}.session_timeout": f"{SESSION_S}s",
                f"receivers.{receiver}.heartbeat_interval": "1s",
            }
        self.members: dict[str, Member] = {}

    @property
    def log(self) -> str:
        return "".join(path.read_text(errors="replace") for path in sorted(self.folder.glob("*.log")))

    def join(self, name: str, *more: str, outcomes: bool = True) -> Member:
        """Start the member of this name, or start it again; `outcomes`: its configuration has that receiver."""
        own, health = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
        sets = self.sets | {
            "service.telemetry.metrics.address": own,
            "service.telemetry.health.address": health,
            "receivers.kafka.group_instance_id": name,
        }
        if outcomes:
            sets["receivers.kafka/outcomes.group_instance_id"] = name
        daemon = Daemon(*self.command(sets), *more, environment=self.environment, log=self.folder / f"{name}.log")
        self.started.append(daemon)
        self.members[name] = Member(name, daemon, own, health)
        return self.members[name]

    def owner(self) -> Member | None:
        """The member that counts and alerts; None while nobody does, or two think so."""
        owners = [member for member in self.members.values() if WHOLE in member.shards]
        return owners[0] if len(owners) == 1 else None

    def share(self, *names: str) -> Callable[[], bool]:
        """Whether these members, and they alone, have the events' partitions among them, and one has the whole."""

        def found() -> bool:
            has = {name: member.shards for name, member in self.members.items()}
            reads = {name for name, shards in has.items() if any(shard.startswith(f"{self.name}/") for shard in shards)}
            return reads == set(names) and sum(WHOLE in shards for shards in has.values()) == 1

        return found

    def settled(self, *names: str) -> Callable[[], bool]:
        """The same, and that it has been so for STEADY_S with one owner: each of the two groups balances by itself, and
        the last who joins may take the whole from who had it for a second."""
        shared, since, whose = self.share(*names), time.monotonic(), ""

        def found() -> bool:
            nonlocal since, whose
            owner = self.owner() if shared() else None
            if owner is None or owner.name != whose:
                since, whose = time.monotonic(), owner.name if owner else ""
            return bool(whose) and time.monotonic() - since >= STEADY_S

        return found

    def wait(self, what: str, found: Callable[[], Any], within_s: float = 180) -> Any:
        """Wait for a condition; daemons may come and go meanwhile."""
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline:
            if answer := found():
                return answer
            time.sleep(ASK_S)
        raise AssertionError(f"not in {within_s} s: {what}\n{self.log[-6000:]}")

    @property
    def textfile(self) -> bool:
        """Whether figures have been written."""
        return (self.folder / "metrics.prom").exists()

    def sql(self, statement: str) -> list[tuple[Any, ...]]:
        """Ask the state store."""
        with psycopg.connect(os.environ[POSTGRES], autocommit=True) as connection:
            connection.execute(cast(LiteralString, f"SET search_path TO {self.schema}"))
            return connection.execute(cast(LiteralString, statement)).fetchall()

    def close(self) -> None:
        for member in self.members.values():
            if member.alive:
                member.signal(signal.SIGCONT)
        super().close()
        with psycopg.connect(os.environ[POSTGRES], autocommit=True) as connection:
            connection.execute(cast(LiteralString, f"DROP SCHEMA IF EXISTS {self.schema} CASCADE"))


def shards_at(address: str) -> set[str]:
    """What the daemon with this page has of the work, as it says itself; nothing while it does not answer."""
    return {dict(labels)["shard"] for labels in figures(address, "dagtel_shard_epoch")}


def children(pid: int) -> list[int]:
    """The processes that a process has started."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def figures(address: str, name: str) -> dict[frozenset[tuple[str, str]], float]:
    """The samples of one metric that a daemon serves; none while it does not answer."""
    try:
        with urlopen(f"http://{address}/metrics", timeout=5) as answer:
            return series(answer.read().decode(), name)
    except (URLError, OSError):
        return {}


@pytest.fixture
def group(backends: dict[str, str], tmp_path: Path) -> Iterator[Callable[..., Group]]:
    """Makes groups, and ends the daemons that are left in them."""
    if POSTGRES not in os.environ:
        pytest.skip(f"{POSTGRES} names no PostgreSQL server")
    made: list[Group] = []

    def make(name: str, webhook: str = "") -> Group:
        folder = tmp_path / f"{name}-{len(made)}"
        folder.mkdir()
        made.append(Group(name, folder, backends, webhook))
        return made[-1]

    yield make
    for each in made:
        each.close()
