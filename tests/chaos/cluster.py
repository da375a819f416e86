"""A Kafka of three brokers of our own, to be broken."""

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient

from tests.integration.conftest import ROOT
from tests.ports import free_port

SCRIPT = ROOT / "tests" / "backends" / "kafka"
NODES = (1, 2, 3)
_TOOLS = "org.apache.kafka.tools"


class Cluster:
    """Brokers are numbered from 1."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._environment = {
            **os.environ,
            "BACKENDS_RUN": str(folder / "backends"),
            "KAFKA_PORT": str(free_port(1, 2, 3, 4, 5)),
            "KAFKA_HEAP": "256m",
        }
        for variable in ("KAFKA_SASL", "KAFKA_TLS", "KAFKA_EXTRA"):
            self._environment.pop(variable, None)
        self.bootstrap = self.run("up", "3").splitlines()[-1]

    def run(self, *arguments: str) -> str:
        """What a command of tests/backends/kafka prints."""
        done = subprocess.run(
            [SCRIPT, *arguments], env=self._environment, stdout=subprocess.PIPE, text=True, timeout=120, check=True
        )
        return done.stdout.strip()

    def kill(self, node: int) -> None:
        self.run("kill", str(node))

    def start(self, node: int) -> None:
        self.run("start", str(node))

    def put_replicas(self, topic: str, replicas: list[list[int]]) -> None:
        """Say where the partitions' replicas are, the leader first, and move the leaders there."""
        plan = {
            "version": 1,
            "partitions": [{"topic": topic, "partition": p, "replicas": nodes} for p, nodes in enumerate(replicas)],
        }
        path = self._folder / "moves.json"
        path.write_text(json.dumps(plan))
        where = ("--bootstrap-server", self.bootstrap)
        moves = ("--reassignment-json-file", str(path), "--execute")
        self.run("cli", f"{_TOOLS}.reassign.ReassignPartitionsCommand", *where, *moves)
        election = ("--election-type", "preferred", "--all-topic-partitions")
        self.run("cli", f"{_TOOLS}.LeaderElectionCommand", *where, *election)


async def leaders(bootstrap: str, topic: str) -> dict[int, int]:
    """Which broker leads which partition."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        found: list[dict[str, Any]] = await admin.describe_topics([topic])
        return {each["partition"]: each["leader"] for each in found[0]["partitions"]}
    finally:
        await admin.close()


async def coordinator(bootstrap: str, group: str) -> int:
    """Which broker coordinates a group."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        return int(await admin.find_coordinator(group))
    finally:
        await admin.close()


@contextmanager
def three_brokers(folder: Path) -> Iterator[Cluster]:
    cluster = Cluster(folder)
    try:
        yield cluster
    finally:
        cluster.run("wipe")
