"""What each stage of the default road takes, alone: CPU µs an event, min and median of some rounds.

Every round builds fresh components and drives the same recorded events through them in batches, as the runtime does
(tables opened for undo before each call, garbage collection as the daemon sets it); the clock runs around one stage at
a time. Not in it: fetching, the runtime, the checkpoint. `bare decode`, the untyped decode of the same bytes, is the
yardstick beside them: machines differ, ratios less.
"""

import gc
import os
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any, TypeVar

import anyio
import msgspec
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from benchmarks.load import records
from benchmarks.running import WITHOUT_TWINS
from connectors.alerts import SPEC as ALERTS
from connectors.logs import SPEC as LOGS
from connectors.metrics import SPEC as METRICS
from connectors.spans import SPEC as SPANS
from exporters.loki import SPEC as LOKI
from exporters.otlp import JAEGER
from pipeline.batch import Batch
from pipeline.components import Payload
from pipeline.native import HAS_NATIVE, native
from pipeline.runtime.launch import GC_THRESHOLDS
from pipeline.testing.context import FakeContext
from processors.redaction import SPEC as REDACTION
from processors.redelivery import SPEC as REDELIVERY
from processors.run_ledger import SPEC as RUN_LEDGER
from receivers.dagster_wire import TWIN, decode
from receivers.kafka_partition import Partition
from receivers.kafka_positions import begin_at
from receivers.kafka_records import KafkaRecord

T = TypeVar("T")

BATCH = 5000
SHARD = "dagster.events/0"
_MILLISECOND = 1_000_000
_FIRST_MS = 1_767_000_000_000  # the broker's time of the first record


class Stopwatch:
    """CPU seconds by stage."""

    def __init__(self) -> None:
        self.took: dict[str, float] = defaultdict(float)

    def time(self, name: str, work: Callable[[], T]) -> T:
        began = time.process_time()
        result = work()
        self.took[name] += time.process_time() - began
        return result

    async def timed(self, name: str, work: Callable[[], Awaitable[T]]) -> T:
        began = time.process_time()
        result = await work()
        self.took[name] += time.process_time() - began
        return result


class Stage:
    """A component on its own, called as the runtime calls it."""

    def __init__(self, name: str, component: Any, context: FakeContext) -> None:
        self.name, self.component, self._tables = name, component, tuple(context.memory.tables.values())

    async def process(self, watch: Stopwatch, batch: Batch[Any]) -> Sequence[Any]:
        result = await watch.timed(self.name, lambda: self._call(batch))
        return result.items if isinstance(result, Batch) else result

    async def _call(self, batch: Batch[Any]) -> Any:
        for table in self._tables:
            table.begin()
        return await self.component.process(batch)


class Fetched:
    """A fetch: records, and with the twins the answer in which they lie."""

    def __init__(self, records: list[KafkaRecord]) -> None:
        self.records = records
        builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, 2**30)
        for place, record in enumerate(records):
            builder.append(place, record.timestamp, record.key, record.value, list(record.headers))
        base = records[0].offset.to_bytes(8, "big")
        self._answer = base + bytes(builder.build())[len(base) :]

    def lying(self) -> Sequence[Any]:
        """What the receiver gives to be decoded."""
        if not HAS_NATIVE:
            return self.records
        found = native.RecordReader(KafkaRecord).records(self._answer, 0)
        assert found is not None
        return found


class Road:
    """One of each, with empty state."""

    def __init__(self, processors: list[Stage], connectors: dict[str, Stage], redaction: Stage, loki: Any, jaeger: Any):
        self.processors, self.connectors, self.redaction = processors, connectors, redaction
        self.loki, self.jaeger = loki, jaeger
        self.partition = Partition(
            SHARD, begin_at(0), 0, 0, "fail", decode, TWIN.decode_all if TWIN is not None else None
        )

    async def take(self, watch: Stopwatch, fetched: Fetched) -> None:
        """One fetch, to its sealed payloads."""
        last = fetched.records[-1].offset
        read = watch.time("decode", lambda: self.partition.take(fetched.lying(), last + 1, None))
        assert read is not None and not read.rejected, read
        items: Sequence[Any] = read.items
        for item in items:
            item.now_ns = item.record_ns
        now_ns = items[-1].now_ns
        for stage in self.processors:
            items = await stage.process(watch, Batch(items, SHARD, now_ns))
        given = {
            name: await stage.process(watch, Batch(items, SHARD, now_ns)) for name, stage in self.connectors.items()
        }
        logs = await self.redaction.process(watch, Batch(given["logs"], SHARD, now_ns))
        payloads: list[tuple[Any, Payload]] = []
        for exporter, name, told in ((self.loki, "loki build", logs), (self.jaeger, "otlp build", given["spans"])):
            for start in range(0, len(told), BATCH):
                batch = Batch(told[start : start + BATCH], SHARD, now_ns)
                built = watch.time(name, partial(exporter.build, batch))
                payloads += [(exporter, payload) for payload in built]
        watch.time("gzip", lambda: [exporter.seal(payload) for exporter, payload in payloads])


@asynccontextmanager
async def _road() -> Any:
    async with AsyncExitStack() as stack:

        async def built(spec: Any, shard: str = SHARD) -> Stage:
            context = FakeContext(spec.name, shard)
            component = await stack.enter_async_context(spec.build(spec.config(), context))
            return Stage(spec.name, component, context)

        processors = [await built(spec) for spec in (REDELIVERY, RUN_LEDGER, *_enrichment())]
        connectors = {spec.name: await built(spec) for spec in (SPANS, METRICS, LOGS, ALERTS)}
        loki, jaeger = (await built(LOKI)).component, (await built(JAEGER)).component
        yield Road(processors, connectors, await built(REDACTION), loki, jaeger)


def _enrichment() -> tuple[Any, ...]:
    return (import_module("processors.enrichment").SPEC,) if find_spec("processors.enrichment") else ()


def load(count: int) -> list[Fetched]:
    """`count` records in batches, with the bridge's headers."""
    loaded = [
        KafkaRecord(
            record.storage_id - 1,
            _FIRST_MS + record.storage_id // 10,
            record.key,
            record.value,
            (("dagtel-instance", b"bench"), ("dagtel-storage-id", b"%d" % record.storage_id)),
        )
        for record in records(count)
    ]
    return [Fetched(loaded[start : start + BATCH]) for start in range(0, count, BATCH)]


def _bare(batch: Sequence[KafkaRecord]) -> None:
    untyped = msgspec.json.Decoder().decode
    for record in batch:
        untyped(record.value)


async def _round(watch: Stopwatch, batches: Sequence[Fetched]) -> None:
    async with _road() as road:
        for batch in batches:
            watch.time("bare decode", partial(_bare, batch.records))
            await road.take(watch, batch)


def measure(count: int = 50_000, rounds: int = 5) -> dict[str, tuple[float, float]]:
    """Stage → (least, median) CPU µs an event."""
    batches = load(count)
    thresholds = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    took: dict[str, list[float]] = defaultdict(list)
    try:
        for _ in range(rounds):
            watch = Stopwatch()
            anyio.run(_round, watch, batches)
            for name, seconds in watch.took.items():
                took[name].append(seconds / count * 1e6)
            gc.collect()
    finally:
        gc.set_threshold(*thresholds)
        gc.unfreeze()
    took["sum without bare decode"] = [
        sum(each) for each in zip(*(v for n, v in took.items() if n != "bare decode"), strict=True)
    ]
    return {name: (min(each), statistics.median(each)) for name, each in took.items()}


def measure_without_twins() -> dict[str, tuple[float, float]]:
    """The same in a process of its own that uses nothing compiled of ours."""
    command = [sys.executable, "-m", "benchmarks.stages"]
    told = subprocess.run(command, env={**os.environ, **WITHOUT_TWINS}, capture_output=True, text=True, check=True)
    rows = (line.rsplit(maxsplit=2) for line in told.stdout.splitlines())
    return {name.strip(): (float(least), float(median)) for name, least, median in rows}


if __name__ == "__main__":
    for stage, (least, median) in measure().items():
        print(f"{stage:24} {least:7.2f} {median:7.2f}")
