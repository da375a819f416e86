"""What becomes of a notification's payload leaves in the transaction that holds its acknowledgement, or not at all."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import yaml

from pipeline.alert_records import Decided, Delivered, decode_records
from pipeline.batch import WHOLE
from pipeline.config.load import load
from pipeline.runtime.driver import Driver
from pipeline.runtime.status import Statuses
from pipeline.runtime.telemetry import Telemetry
from pipeline.signals import Alert
from pipeline.store.state import Ack, Commit
from pipeline.testing.clock import VirtualClock
from pipeline.testing.harness import Harness, harness
from pipeline.topology.plan import Plan
from pipeline.topology.registry import Registry
from pipeline.topology.resolve import resolve

pytestmark = pytest.mark.anyio

NOW = 1_705_284_000 * 10**9
TOLD = Delivered(("p#1/0/1/0",), "webhook", "delivered", NOW, 1)
ALERT = Alert("asset_failure", "firing", "ERROR", "p", NOW, NOW, NOW, key="p#1", number=1)
RECORD = Decided("p#1", NOW, 1, NOW, "first")


def plan(folder: Path, *exporters: str) -> Plan:
    config = {
        "receivers": {"file": {"path": str(folder / "events.jsonl")}},
        "processors": {"run_ledger": None, "dedup": None},
        "connectors": {"alerts": None},
        "exporters": {
            "webhook": {"url": "http://127.0.0.1:9/"},
            "file": {"path": str(folder / "alerts.jsonl")},
            "store": {"path": str(folder / "history.db")},
        },
        "service": {
            "pipelines": {
                "events": {"receivers": ["file"], "processors": ["run_ledger"], "exporters": ["alerts"]},
                "alerts": {"receivers": ["alerts"], "processors": ["dedup"], "exporters": list(exporters)},
            }
        },
    }
    config["exporters"] = {id: options for id, options in config["exporters"].items() if id in exporters}  # type: ignore[attr-defined]
    file = folder / "dagtel.yaml"
    file.write_text(yaml.safe_dump(config))
    return resolve(load([file]), Registry.installed())


@asynccontextmanager
async def life(folder: Path, *exporters: str) -> AsyncIterator[tuple[Harness, Driver, list[Commit]]]:
    """A process, its driver, and what is committed."""
    clock = VirtualClock(wall=NOW)
    async with harness(plan(folder, *exporters), folder / "state.db", clock) as one:
        commits: list[Commit] = []
        write = one.store.commit

        def commit(what: Commit) -> None:
            commits.append(what)
            write(what)

        one.store.commit = commit  # type: ignore[method-assign]
        yield one, Driver(one.engine, one.store, one.outboxes, clock, Statuses(), Telemetry("none"), 1, 2**20), commits


async def test_at_once_in_the_acknowledgements_own_transaction(tmp_path: Path) -> None:
    async with life(tmp_path, "webhook", "store") as (one, driver, commits):
        await one.outboxes["webhook"].push([ALERT], NOW)
        [row] = await one.commit()
        commits.clear()
        await driver.ack(Ack(row.id, "webhook", told=TOLD), now=True)
        [commit] = commits
        assert [ack.id for ack in commit.acks] == [row.id]
        assert [(r.exporter, r.shard) for r in commit.outbox] == [("store", WHOLE)]
        assert decode_records(commit.outbox[0].payload.body) == [TOLD]
        assert [waiting.exporter for waiting in one.store.waiting()] == ["store"]
        assert one.outboxes["store"].ready


async def test_with_the_next_checkpoint_where_the_acknowledgement_waits_for_it(tmp_path: Path) -> None:
    async with life(tmp_path, "webhook", "store") as (one, driver, commits):
        await one.outboxes["webhook"].push([ALERT], NOW)
        [row] = await one.commit()
        commits.clear()
        await driver.ack(Ack(row.id, "webhook", told=TOLD), now=False)
        assert commits == []
        await one.commit()
        [commit] = commits
        assert [ack.id for ack in commit.acks] == [row.id]
        assert [decode_records(r.payload.body) for r in commit.outbox] == [[TOLD]]


async def test_nobody_keeps_records(tmp_path: Path) -> None:
    async with life(tmp_path, "webhook", "file") as (one, driver, commits):
        await one.outboxes["webhook"].push([ALERT], NOW)
        [row] = await one.commit()
        commits.clear()
        await driver.ack(Ack(row.id, "webhook", told=TOLD), now=True)
        assert [len(commit.outbox) for commit in commits] == [0]
        assert one.store.waiting() == []


async def test_records_are_for_those_alone_who_keep_them_and_urge_nobody(tmp_path: Path) -> None:
    urged: list[str] = []
    async with life(tmp_path, "webhook", "file", "store") as (one, _, _commits):
        for id, outbox in one.outboxes.items():
            outbox._urge = lambda id=id: urged.append(id)  # type: ignore[misc]
            await outbox.push([RECORD], NOW)
        assert urged == []
        for outbox in one.outboxes.values():
            await outbox.push([RECORD, ALERT], NOW)
        assert urged == ["webhook"]
        rows = await one.commit()
        assert {row.exporter: row.payload.items for row in rows if row.exporter != "store"} == {"webhook": 1, "file": 1}
        kept = [record for row in rows if row.exporter == "store" for record in decode_records(row.payload.body)]
        assert kept.count(RECORD) == 2
        assert len(kept) == 3
