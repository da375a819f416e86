"""What alerts cost: many open problems, and the time from Kafka to the notifier. `python -m benchmarks.alerts [COUNT]`

COUNT (100,000) problems of as many assets fail, a thousand a minute and checkpoint, each with an error, an impact and
owners; then a thousand of them fail again between two checkpoints, on the real state store. Then `alert_latency` on the
Kafka that DAGTEL_TEST_KAFKA names, else one that tests/backends/kafka starts, for BENCH_SECONDS (60). It writes
benchmarks/ALERTS.md.
"""

import asyncio
import gc
import os
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path

import psutil

from benchmarks.alert_latency import measure
from benchmarks.running import kafka, sink
from pipeline.batch import WHOLE, Batch
from pipeline.channels import NOBODY
from pipeline.clock import MINUTE, SECOND
from pipeline.facts import ErrorInfo
from pipeline.lineage import Impact
from pipeline.options import Duration
from pipeline.runtime.context import ShardTables
from pipeline.signals import Alert
from pipeline.store.state import Commit, StateRow, StateStore
from pipeline.testing.context import FakeContext
from processors.dedup import Dedup
from processors.dedup_options import DedupConfig

START = 1_705_284_000 * SECOND
AGAIN = 1000
ROUNDS = 20


class Tables:
    """The runtime's own tables, as a component's state."""

    def __init__(self) -> None:
        self.shard = ShardTables("processors.dedup", WHOLE, {})

    def table(self, *arguments: object, **options: object) -> object:
        return self.shard.table(*arguments, **options)  # type: ignore[arg-type]


def finding(number: int, at_ns: int) -> Alert:
    asset = f"warehouse/schema_{number % 100}/table_{number}"
    return Alert(
        "asset_failure", "failing", "ERROR", f"v1:{number:016x}", at_ns, at_ns, at_ns,
        "Asset Materialization Failed", asset=asset, job=f"job_{number % 500}", run_id=f"run-{number}-{at_ns}",
        partition="2024-01-15", step_key=f"step_{number}", owners=("team:data",), group="warehouse",
        error=ErrorInfo("TimeoutError", f"Connection timeout after 30s reading {asset}", "readings.py", 45, "fetch"),
        impact=IMPACTS[number % 100],
    )  # fmt: skip


IMPACTS = [Impact({f"mart/{n}_{m}": m + 1 for m in range(5)}, ("Overview",), ("team:bi",)) for n in range(100)]


async def open_problems(count: int) -> list[str]:
    """Lines of a report."""
    lines: list[str] = []
    process, state = psutil.Process(), Tables()
    config = DedupConfig(max_open=2 * count, group_wait=Duration(0))
    dedup = Dedup(config, FakeContext("dedup", state=state))  # type: ignore[arg-type]
    dedup.due()
    with tempfile.TemporaryDirectory() as folder:
        store = StateStore(Path(folder) / "state.db")
        epoch = store.take_shard(WHOLE).epoch
        gc.collect()
        before, taken = process.memory_info().rss, 0.0
        now = START
        for first in range(0, count, AGAIN):
            now += MINUTE + SECOND
            await timers(state, dedup, now)
            items = [finding(n, now) for n in range(first, min(first + AGAIN, count))]
            began = time.perf_counter()
            await call(state, lambda items=items, now=now: dedup.process(Batch(items, WHOLE, now)))  # type: ignore[misc]
            taken += time.perf_counter() - began
            parts(store, state, epoch)
        gc.collect()
        used = (process.memory_info().rss - before) / 1e6
        lines.append(f"{count:,} open problems take {used:.0f} MB, each new one {taken / count * 1e6:.0f} µs.")
        encodes, writes, calls = [], [], []
        for number in range(ROUNDS):
            now += SECOND
            items = [finding((number * AGAIN + n) % count, now) for n in range(AGAIN)]
            began = time.perf_counter()
            await call(state, lambda items=items, now=now: dedup.process(Batch(items, WHOLE, now)))  # type: ignore[misc]
            calls.append(time.perf_counter() - began)
            encode, write = parts(store, state, epoch)
            encodes.append(encode)
            writes.append(write)
        for name, values in (("within the pause", encodes), ("beside it", writes), ("for counting them", calls)):
            median, most = statistics.median(values) * 1e3, max(values) * 1e3
            lines.append(f"A checkpoint with {AGAIN:,} changed ones, {name}: {median:.1f} ms, most {most:.1f} ms.")
        began = time.perf_counter()
        told = await timers(state, dedup, now + 62 * MINUTE)
        took = (time.perf_counter() - began) * 1e3
        lines.append(f"The timers of the next hour: {took:.0f} ms; {told:,} messages leave.")
        store.close()
    return lines


async def timers(state: Tables, dedup: Dedup, until_ns: int) -> int:
    """What is due before then; says how many messages leave."""
    told = 0
    while (due := dedup.due()) is not None and due < until_ns:
        given = await call(state, lambda due=due: dedup.on_time(due))  # type: ignore[misc]
        told += sum(alert.channels != (NOBODY,) for alert in given)
    return told


async def call(state: Tables, act: object) -> list[Alert]:
    for table in state.shard.opened:
        table.begin()
    result = await act()  # type: ignore[operator]
    return list(result.items if isinstance(result, Batch) else result)


def parts(store: StateStore, state: Tables, epoch: int) -> tuple[float, float]:
    """Seconds for encoding what changed (within the pause) and for writing it (beside it)."""
    began = time.perf_counter()
    rows = [
        StateRow(WHOLE, row.owner, row.table, row.key, row.version, row.value)
        for table in state.shard.opened
        for row in table.take_dirty()
    ]
    encoded = time.perf_counter()
    store.commit(Commit(epochs={WHOLE: epoch}, rows=rows))
    return encoded - began, time.perf_counter() - encoded


def main(count: int, seconds: float) -> None:
    """Both measurements, into ALERTS.md."""
    opened = asyncio.run(open_problems(count))
    print("\n".join(opened), flush=True)
    with kafka() as bootstrap, sink() as url:
        told = asyncio.run(measure(bootstrap, url, seconds))
    machine = f"{platform.machine()}, {os.cpu_count()} shared cores, Python {platform.python_version()}"
    parts = ["# Alerts", "", f"Made by `python -m benchmarks.alerts` on {machine}.", "", "## Open problems", ""]
    parts += [*(f"- {line}" for line in opened), "", "## From Kafka's append to the notifier's request", ""]
    parts += [*(f"- {line}" for line in told), f"- Load of the machine: {os.getloadavg()[0]:.1f}.", ""]
    (Path(__file__).parent / "ALERTS.md").write_text("\n".join(parts))
    print("\n".join(told))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000, float(os.environ.get("BENCH_SECONDS", "60")))
