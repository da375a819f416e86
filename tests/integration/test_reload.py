"""Twenty reloads under load on real Kafka: the group does not notice, and the figures equal the truth."""

import json
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import anyio
import pytest
import yaml
from aiokafka import AIOKafkaClient, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.protocol.group import HeartbeatRequest

from benchmarks.load import records
from benchmarks.topic import fill
from tests.integration.conftest import Daemon, totals, until
from tests.ports import free_port

pytestmark = pytest.mark.integration

EVENTS = 30_000
RELOADS = 20


@pytest.fixture
def kafka() -> str:
    address = os.environ.get("DAGTEL_TEST_KAFKA", "")
    if not address:
        pytest.skip("DAGTEL_TEST_KAFKA not set: no real Kafka (tests/backends/kafka starts one)")
    return address


def configuration(kafka: str, name: str, folder: Path, number: int, metrics: int) -> dict[str, Any]:
    """With each number something else is different; the receiver stays the same."""
    exporters: dict[str, Any] = {
        "prometheus": {"address": "", "textfile": str(folder / "metrics.prom"), "hold": f"{number % 2}s"},
        "file/logs": {"path": str(folder / "logs.jsonl"), "fsync": "always" if number % 3 == 1 else "never"},
    }
    if number % 4 == 2:
        exporters["file/more"] = {"path": str(folder / "more.jsonl")}
    return {
        "receivers": {"kafka": {"brokers": kafka, "topics": name, "group_id": name}},
        "processors": {"redelivery": {}, "run_ledger": {"run_timeout": f"{24 + number % 5}h"}},
        "connectors": {"metrics": {}, "logs": {}},
        "exporters": exporters,
        "service": {
            "checkpoint_interval": f"{50 + number}ms",
            "state": {"path": str(folder / "state.db")},
            "telemetry": {"metrics": {"address": f"127.0.0.1:{metrics}"}, "health": {"address": ""}},
            "pipelines": {
                "events": {
                    "receivers": ["kafka"],
                    "processors": ["redelivery", "run_ledger"],
                    "exporters": ["metrics", "logs"],
                },
                "metrics": {"receivers": ["metrics"], "exporters": ["prometheus"]},
                "logs": {"receivers": ["logs"], "exporters": [id for id in exporters if id.startswith("file/")]},
            },
        },
    }


async def members(kafka: str, group: str) -> list[str]:
    """The ids of a group's members; empty while it is not stable."""
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    try:
        (answer,) = await admin.describe_consumer_groups([group])
        error, _, state, _, _, found = answer.groups[0][:6]
        return [member[0] for member in found] if not error and state == "Stable" else []
    finally:
        await admin.close()


async def is_of_generation(kafka: str, group: str, member: str, generation: int) -> bool:
    """Whether the coordinator takes a heartbeat of this member for this generation."""
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    client = AIOKafkaClient(bootstrap_servers=kafka)
    await admin.start()
    await client.bootstrap()
    try:
        coordinator = await admin.find_coordinator(group)
        answer = await client.send(coordinator, HeartbeatRequest(group, generation, member))
        return bool(answer.error_code == 0)
    finally:
        await client.close()
        await admin.close()


def generation_of(kafka: str, group: str, member: str) -> int:
    return next(n for n in range(1, 20) if anyio.run(is_of_generation, kafka, group, member, n))


@pytest.mark.timeout(240)
def test_the_group_does_not_notice_twenty_reloads_under_load(
    kafka: str, daemons: Callable[..., Daemon], tmp_path: Path
) -> None:
    name, metrics = f"reload-{os.getpid()}-{time.time_ns()}", free_port()
    file = tmp_path / "dagtel.yaml"

    def write(number: int) -> None:
        part = tmp_path / "part"
        part.write_text(yaml.safe_dump(configuration(kafka, name, tmp_path, number, metrics)))
        part.replace(file)

    def reloads() -> int:
        text = urlopen(f"http://127.0.0.1:{metrics}/metrics", timeout=5).read().decode()
        assert 'result="refused"' not in text
        found = [line for line in text.splitlines() if line.startswith("dagtel_config_reloads_total{")]
        return int(float(found[0].rsplit(" ", 1)[1])) if found else 0

    anyio.run(fill, kafka, name, 0, 4)
    write(0)
    daemon = daemons("run", "--config", str(file))
    (member,) = until("a member", lambda: anyio.run(members, kafka, name))
    generation = generation_of(kafka, name, member)
    filling = threading.Thread(target=lambda: anyio.run(produce, kafka, name, name))
    filling.start()
    for number in range(1, RELOADS + 1):
        write(number)
        daemon.process.send_signal(signal.SIGHUP)
        until(f"reload {number}", lambda number=number: reloads() == number)
        assert anyio.run(members, kafka, name) == [member]
    filling.join()
    logs = [tmp_path / "logs.jsonl"]
    until("all events", lambda: sum(originals(logs).values()) >= EVENTS, 60)
    assert anyio.run(members, kafka, name) == [member]
    assert anyio.run(is_of_generation, kafka, name, member, generation), "no rebalance"
    assert daemon.stop() == 0
    found = originals(logs)
    assert (len(found), set(found.values())) == (EVENTS, {1})
    truth = Counter(
        "/".join(event["dagster_event"]["event_specific_data"]["materialization"]["asset_key"]["path"])
        for event in (json.loads(record.value) for record in records(EVENTS, salt=name))
        if event["dagster_event"] and event["dagster_event"]["event_type_value"] == "ASSET_MATERIALIZATION"
    )
    text = (tmp_path / "metrics.prom").read_text()
    assert totals(text, "asset_materializations_total", "asset_name") == truth


def originals(paths: list[Path]) -> Counter[str]:
    """How often the record of each event is in these files."""
    found: Counter[str] = Counter()
    for path in paths:
        for line in path.read_text().splitlines(keepends=True) if path.exists() else ():
            if line.endswith("\n") and not (record := json.loads(line)).get("derived"):
                found[record["event_id"]] += 1
    return found


async def produce(kafka: str, topic: str, salt: str) -> None:
    """All events, as fast as it goes, in slices so that reloads fall between them."""
    producer = AIOKafkaProducer(bootstrap_servers=kafka, linger_ms=20, max_batch_size=2**20)
    await producer.start()
    for number, record in enumerate(records(EVENTS, salt=salt)):
        headers = [("dagtel-instance", b"reload"), ("dagtel-storage-id", str(record.storage_id).encode())]
        await producer.send(topic, record.value, key=record.key, headers=headers)
        if number % 500 == 0:
            await anyio.sleep(0.1)
    await producer.flush()
    await producer.stop()
