"""What flows while things break: recorded events, and failing runs of which each must give one alert of its own."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Any
from uuid import UUID, uuid5

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from benchmarks.load import CORPUS, Record, records

FAILING = "9f528e9d-2ee5-47c6-a226-f02f9fced061"
"""A run of the corpus: `warehouse_ping`, 13 events, its only step fails."""
JOB = b"warehouse_ping"
EVERY = 1000
"""Among so many recorded events there is one failing run more."""
_TIME = re.compile(rb'"timestamp": (\d+)')
_SPACE = UUID("0b8d4f53-6a4e-5d0e-8f6b-1b7d6f1f2a10")


@cache
def recorded_at() -> int:
    """When the corpus's last event was, in Unix seconds."""
    return max(int(json.loads(record.value)["timestamp"]) for record in records(3000))


@cache
def _failing_lines() -> tuple[bytes, ...]:
    return tuple(line for line in CORPUS.read_bytes().splitlines() if f'"run_id": "{FAILING}"'.encode() in line)


def alarm_job(number: int) -> str:
    """The job of the failing run of this number."""
    return f"ping_{number:05d}_warehouse"


def alarm(number: int, later_s: int, salt: str, first_id: int) -> list[Record]:
    """A failing run of a job of its own: one alert."""
    run = str(uuid5(_SPACE, f"{salt}{number}")).encode()
    job = alarm_job(number).encode()
    lines = (_TIME.sub(lambda at: b'"timestamp": %d' % (int(at[1]) + later_s), line) for line in _failing_lines())
    lines = (line.replace(FAILING.encode(), run).replace(JOB, job) for line in lines)
    return [Record(line, run, first_id + at) for at, line in enumerate(lines)]


def mixed(count: int, later_s: int, salt: str, every: int = EVERY) -> list[Record]:
    """About `count` recorded events with a failing run after each `every` of them."""
    made: list[Record] = []
    alarms = 0
    for number, recorded in enumerate(records(count, later_s=later_s, salt=salt), 1):
        made.append(recorded)
        if number % every == 0:
            made += alarm(alarms, later_s, salt, 10_000_000 + 100 * alarms)
            alarms += 1
    return made


def headers(record: Record) -> list[tuple[str, bytes]]:
    """As the bridge writes them."""
    return [("dagtel-instance", b"chaos"), ("dagtel-storage-id", str(record.storage_id).encode())]


async def make_topic(
    bootstrap: str, topic: str, partitions: int, replicas: int = 1, configs: Mapping[str, str] | None = None
) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        answer = await admin.create_topics([NewTopic(topic, partitions, replicas, topic_configs=dict(configs or {}))])
        assert all(error[1] == 0 for error in answer.topic_errors), answer.topic_errors
    finally:
        await admin.close()


async def write(bootstrap: str, topic: str, made: Iterable[Record]) -> None:
    """Append records and wait until all are there."""
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap, linger_ms=20, max_batch_size=2**20, max_request_size=2**24, acks="all"
    )
    await producer.start()
    try:
        for record in made:
            await producer.send(topic, record.value, key=record.key, headers=headers(record))
        await producer.flush()
    finally:
        await producer.stop()


async def fill(bootstrap: str, topic: str, made: Iterable[Record], partitions: int, replicas: int = 1) -> None:
    """Make `topic` and write the records into it."""
    await make_topic(bootstrap, topic, partitions, replicas)
    await write(bootstrap, topic, made)


def chunks(made: list[Record], size: int) -> Iterator[list[Record]]:
    for start in range(0, len(made), size):
        yield made[start : start + size]


class Truth:
    """What events say, counted here without any of dagtel's own code."""

    def __init__(self, made: Iterable[Record]) -> None:
        self.events = 0
        self.materializations: Counter[str] = Counter()
        self.checks: Counter[tuple[str, str]] = Counter()
        self.runs_ended: Counter[tuple[str, str]] = Counter()
        self.attempts: Counter[str] = Counter()
        self.alarms: set[str] = set()
        self.times_ns: list[int] = []
        steps: dict[str, set[tuple[str, str]]] = {"STEP_START": set(), "STEP_FAILURE": set()}
        self.runs: set[str] = set()
        for record in made:
            self._count(json.loads(record.value), steps)
        for run, _ in steps["STEP_START"] | steps["STEP_FAILURE"]:
            self.attempts[run] += 1

    def _count(self, event: dict[str, Any], steps: dict[str, set[tuple[str, str]]]) -> None:
        self.events += 1
        self.times_ns.append(int(event["timestamp"] * 1e9))
        run = event["run_id"]
        if run:
            self.runs.add(run)
        detail = event["dagster_event"]
        if not detail:
            return
        kind, data = detail["event_type_value"], detail["event_specific_data"]
        if kind in steps:
            steps[kind].add((run, detail["step_key"]))
        elif kind == "STEP_RESTARTED":
            self.attempts[run] += 1
        elif kind == "ASSET_MATERIALIZATION":
            self.materializations["/".join(data["materialization"]["asset_key"]["path"])] += 1
        elif kind == "ASSET_CHECK_EVALUATION":
            self.checks["/".join(data["asset_key"]["path"]), "passed" if data["success"] else "failed"] += 1
        elif kind in ("PIPELINE_SUCCESS", "PIPELINE_FAILURE", "PIPELINE_CANCELED"):
            self.runs_ended[detail["pipeline_name"], kind.removeprefix("PIPELINE_").lower()] += 1
            if detail["pipeline_name"].startswith("ping_"):
                self.alarms.add(detail["pipeline_name"])
