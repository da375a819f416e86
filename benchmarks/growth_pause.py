"""What a checkpoint's pause costs by itself: CPU time of the barrier, in a process that does nothing else.

The road of `road.yaml` with its state in a file, 20,000 events between two checkpoints, which is a second of full load.
No broker, no sender and no other thread is there, so that the figures say what the barrier takes and not what the
machine was busy with; the intake of a daemon waits so long, and as much longer as others take the CPU away.
"""

import gc
import statistics
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import anyio
import msgspec

from benchmarks.growth_road import materializations
from benchmarks.load import Record, records
from benchmarks.page import Cell, table
from benchmarks.running import HERE, road_env
from pipeline.clock import SystemClock
from pipeline.components import Position, Read
from pipeline.config.load import load
from pipeline.runtime.launch import GC_THRESHOLDS
from pipeline.store.state import Ack
from pipeline.testing.harness import Harness, harness
from pipeline.topology.plan import Plan
from pipeline.topology.registry import Registry
from pipeline.topology.resolve import resolve
from receivers.dagster_wire import decode

CORPUS = 0
SIZES = (CORPUS, 100, 1_000, 10_000)
EVENTS = 20_000
AT_ONCE = 5_000
ROUNDS = 8
SOURCE = "dagster.events/0"
_FIRST_NS = 1_767_000_000_000_000_000


class Pause(msgspec.Struct):
    """One checkpoint: CPU ms of the barrier and of its commit beside it, changed rows, payloads and their items."""

    barrier: float
    commit: float
    rows: int
    payloads: int
    items: int


def plan(out: str) -> Plan:
    """The road; nothing of it is sent, so it needs no backends."""
    sets = ("connectors.metrics.max_series=100000",)
    env = road_env("127.0.0.1:1", "bench", "http://127.0.0.1:1", out)
    return resolve(load([HERE / "road.yaml"], sets, env), Registry.installed())


async def take(life: Harness, load: Sequence[Record], first: int) -> None:
    """Read these records, the first of which has this offset."""
    for start in range(0, len(load), AT_ONCE):
        texts: dict[str, str] = {}
        items = [
            decode(record.value, source=SOURCE, offset=at, record_ns=_FIRST_NS + at * 50_000, texts=texts)
            for at, record in enumerate(load[start : start + AT_ONCE], start=first + start)
        ]
        position = Position(first + start + len(items))
        await life.engine.take("kafka", Read(SOURCE, items, position, behind=True))


async def checkpoint(life: Harness) -> Pause:
    """One checkpoint, written; its payloads count as sent."""
    began = time.thread_time()
    commit = await life.engine.barrier()
    paused = time.thread_time()
    payloads = life.write(await life.sealed(commit))
    written = time.thread_time()
    for id, outbox in life.outboxes.items():
        while outbox.ready:
            life.engine.acknowledge(Ack((await outbox.next()).id, id))
    for row in payloads:
        life.outboxes[row.exporter].acked(row.id)
    items = sum(row.payload.items for row in payloads)
    return Pause((paused - began) * 1e3, (written - paused) * 1e3, len(commit.rows), len(payloads), items)


async def paused(assets: int, events: int = EVENTS, rounds: int = ROUNDS) -> list[Pause]:
    """So many checkpoints, with runs that make one asset each, of so many in turn; or with the corpus."""
    count = events * rounds
    feed = list(records(count)) if assets == CORPUS else materializations(assets, count)
    with tempfile.TemporaryDirectory() as out:
        async with harness(plan(out), Path(out) / "bench.db", SystemClock()) as life:
            await life.engine.assign([SOURCE], "kafka")
            found: list[Pause] = []
            for first in range(0, count, events):
                await take(life, feed[first : first + events], first)
                found.append(await checkpoint(life))
    return found


def measured(assets: int) -> list[Pause]:
    """The same, collecting garbage as the daemon does. For a process of its own."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    return anyio.run(paused, assets)


def pause() -> list[str]:
    """All sizes, each in a process of its own."""
    rows: list[Sequence[Cell]] = []
    for assets in SIZES:
        with ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as alone:
            found = alone.submit(measured, assets).result()
        barriers, last = [each.barrier for each in found], found[-1]
        least, middle, most = min(barriers), statistics.median(barriers), max(barriers)
        beside = statistics.median(each.commit for each in found)
        name = "the corpus" if assets == CORPUS else f"{assets:,}"
        rows.append((name, last.rows, last.items, least, middle, most, round(beside)))
        print(f"  {name}: {rows[-1]}", flush=True)
    head = ("assets", "rows", "items", "least, CPU ms", "median", "most", "commit beside it, CPU ms")
    return [
        f"CPU time of the barrier in a process that does nothing else, {EVENTS:,} events between two checkpoints of",
        f"{ROUNDS}: the 1.13 corpus, and runs that make one asset each, of so many in turn. `rows`: of state; `items`:",
        "of all payloads. A daemon's intake waits so long, and as much longer as others take the CPU away.",
        "",
        *table(head, rows),
    ]
