"""`dagtel bridge` as a process: from Dagster's files to a real Kafka, killed on the way."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import anyio
import pytest
from aiokafka import AIOKafkaConsumer, ConsumerRecord

from pipeline.clock import SystemClock
from tests.receivers.sqlite_home import SqliteHome

pytestmark = [pytest.mark.anyio, pytest.mark.integration, pytest.mark.slow]

DAGTEL = str(Path(sys.executable).with_name("dagtel"))
RUNS = [f"run-{number}" for number in range(12)]


@pytest.fixture
def broker() -> str:
    if not (brokers := os.environ.get("DAGTEL_TEST_KAFKA")):
        pytest.skip("DAGTEL_TEST_KAFKA names no broker")
    return brokers


@pytest.fixture
def bridge(tmp_path: Path, broker: str) -> Iterator[dict[str, str]]:
    """The environment of a bridge with a home, a topic and a state of its own."""
    (tmp_path / "home").mkdir()
    yield {
        **{name: value for name, value in os.environ.items() if not name.startswith("DAGSTER")},
        "DAGSTER_HOME": str(tmp_path / "home"),
        "DAGTEL_KAFKA": broker,
        "DAGTEL_TOPIC": f"dagster.events.{uuid4().hex}",
        "DAGTEL_BRIDGE_STATE": str(tmp_path / "bridge.db"),
    }


def once(environment: dict[str, str]) -> None:
    done = subprocess.run([DAGTEL, "bridge", "--once"], env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


async def records(environment: dict[str, str], enough: int) -> list[ConsumerRecord]:
    """What stands in the topic: at least so many records, then all that are there."""
    consumer = AIOKafkaConsumer(
        environment["DAGTEL_TOPIC"],
        bootstrap_servers=environment["DAGTEL_KAFKA"],
        auto_offset_reset="earliest",
        enable_auto_commit=False,
    )
    await consumer.start()
    found: list[ConsumerRecord] = []
    try:
        with anyio.fail_after(40):
            while True:
                fetched = [r for part in (await consumer.getmany(timeout_ms=500)).values() for r in part]
                found += fetched
                if not fetched and len(found) >= enough:
                    return found
    finally:
        await consumer.stop()


def stored_in(home: SqliteHome[SystemClock]) -> dict[str, list[str]]:
    """Run id to the events that are stored, in order."""
    found = {}
    for run in ("", *RUNS):
        with home._open(home.file(run)) as database:
            found[run] = [event for (event,) in database.execute("SELECT event FROM event_logs ORDER BY id")]
    return found


def write(home: SqliteHome[SystemClock], count: int) -> None:
    for number in range(count):
        for run in ("", *RUNS):
            home.store(run, f"{number}")


async def test_every_event_arrives_as_it_was_stored_with_its_run_in_the_headers(
    bridge: dict[str, str], tmp_path: Path
) -> None:
    home = SqliteHome(tmp_path / "home", SystemClock())
    home.add_run(RUNS[0], {"team": "x"})
    home.store(RUNS[0], "began", "PIPELINE_START")
    home.store("", event=json.dumps(OBSERVED))
    home.rest()
    once(bridge)
    once(bridge)
    found = {record.value: record for record in await records(bridge, 2)}
    assert len(found) == 2
    run, runless = sorted(found.values(), key=lambda record: record.key, reverse=True)
    assert (run.key, dict(run.headers)) == (
        RUNS[0].encode(),
        {
            "dagtel-storage-id": b"1",
            "dagtel-instance": b"dagster",
            "dagster-event-type": b"PIPELINE_START",
            "dagster-run": b'{"tags":{"team":"x"}}',
        },
    )
    assert (runless.key, runless.value) == (b"raw/orders", json.dumps(OBSERVED).encode())


OBSERVED = {
    "__class__": "EventLogEntry",
    "dagster_event": {
        "__class__": "DagsterEvent",
        "event_specific_data": {
            "__class__": "AssetObservationData",
            "asset_observation": {
                "__class__": "AssetObservation",
                "asset_key": {"__class__": "AssetKey", "path": ["raw", "orders"]},
                "metadata_entries": [],
                "partition": None,
            },
        },
        "event_type_value": "ASSET_OBSERVATION",
        "pipeline_name": "",
    },
    "error_info": None,
    "level": 20,
    "pipeline_name": "",
    "run_id": "",
    "timestamp": 1.5,
    "user_message": "",
}


async def test_a_bridge_that_is_killed_again_and_again_loses_nothing_and_keeps_the_order_of_each_run(
    bridge: dict[str, str], tmp_path: Path
) -> None:
    home = SqliteHome(tmp_path / "home", SystemClock())
    for run in RUNS:
        home.add_run(run)
    write(home, 1)
    for _ in range(4):
        process = subprocess.Popen([DAGTEL, "bridge"], env=bridge, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        with anyio.move_on_after(2.5):
            while True:
                await anyio.to_thread.run_sync(write, home, 1)
        process.send_signal(signal.SIGKILL)
        process.wait()
    home.rest()
    once(bridge)
    stored = stored_in(home)
    found = await records(bridge, sum(map(len, stored.values())))
    arrived: dict[str, dict[str, None]] = {run: {} for run in stored}
    for record in sorted(found, key=lambda record: (record.partition, record.offset)):
        arrived[json.loads(record.value)["run_id"]].setdefault(record.value.decode())
    assert set(arrived.pop("")) == set(stored.pop(""))  # without a key they are spread over the partitions
    assert {run: list(events) for run, events in arrived.items()} == stored
    repeats = len(found) - len({record.value for record in found})
    print(f"{len(found)} records, {repeats} repeats after four kills")
