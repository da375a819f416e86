"""From Kafka to the notifier: how long a failure takes from its append to the request that tells of it.

The whole road (`road.yaml`, `group_wait: 0`) reads a topic to which a thousand records a second are appended: the 1.13
corpus, and ten times a second a run whose asset fails, each of another asset, so that each is told. A server beside it
takes the notifications and notes when they come.
"""

import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from benchmarks.load import Record, records
from pipeline.scenario.story import Log

HERE = Path(__file__).parent
RATE = 1000
"""Records a second."""
PROBE_EVERY = 100
"""Of so many records the last few are a run that fails."""
TICK_S = 0.01
START_S = 180.0
PATIENCE_S = 30.0


class Times(msgspec.Struct):
    """When the failure of each run was appended, and when it was told (seconds of the monotonic clock)."""

    appended: dict[str, float] = {}
    told: dict[str, float] = {}

    @property
    def latencies(self) -> list[float]:
        return sorted(self.told[run] - at for run, at in self.appended.items() if run in self.told)


class Sink:
    """Takes notifications of the `webhook` exporter."""

    def __init__(self, times: Times) -> None:
        self._times = times

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                now = time.perf_counter()
                length = next(
                    int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")
                )
                run = str(msgspec.json.decode(await reader.readexactly(length)).get("run_id", ""))
                self._times.told.setdefault(run, now)
                writer.write(b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n")
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()


def probe(number: int) -> Log:
    """A run that fails now."""
    log = Log(f"probe-{number}", start_ns=time.time_ns(), tick_ns=1000)
    asset = f"probe/asset_{number}"
    return log.plan(asset, "s").run_start().step_start("s").step_failure("s").run_failure()


def mixed() -> Iterator[tuple[Record, str]]:
    """The load, and with the record that fails a probe's step the name of its run."""
    corpus, number = records(10**9), 0
    while True:
        lines = probe(number).lines()
        for _ in range(PROBE_EVERY - len(lines)):
            yield next(corpus), ""
        for at, line in enumerate(lines):
            yield (
                Record(line, f"probe-{number}".encode(), 10**9 + number * 10 + at),
                f"probe-{number}" if at == 3 else "",
            )
        number += 1


async def append(
    producer: AIOKafkaProducer, topic: str, load: Iterator[tuple[Record, str]], times: Times, s: float
) -> float:
    """Append for `s` seconds; gives the rate that came about."""
    began, sent = time.perf_counter(), 0
    while (passed := time.perf_counter() - began) < s:
        while sent < passed * RATE:
            record, run = next(load)
            if run:
                times.appended[run] = time.perf_counter()
            headers = [("dagtel-instance", b"bench"), ("dagtel-storage-id", str(record.storage_id).encode())]
            await producer.send(topic, record.value, key=record.key, headers=headers)
            sent += 1
        await asyncio.sleep(TICK_S)
    await producer.flush()
    return sent / (time.perf_counter() - began)


async def measure(bootstrap: str, backends: str, seconds: float) -> list[str]:
    """Lines of a report. `backends`: an HTTP server that takes traces and log lines."""
    topic, times = f"latency-{time.time_ns()}", Times()
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    await admin.create_topics([NewTopic(topic, 1, 1)])
    await admin.close()
    server = await asyncio.start_server(Sink(times).answer, "127.0.0.1", 0, limit=2**22)
    hook = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/alerts"
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, linger_ms=2)
    await producer.start()
    load = mixed()
    with tempfile.TemporaryDirectory() as out:
        env = {**os.environ, "BENCH_KAFKA": bootstrap, "BENCH_TOPIC": topic, "BENCH_SINK": backends, "BENCH_OUT": out}
        dedup = ("processors.dedup.rate_limit.messages=0", "processors.dedup.group_wait=0s")
        sets = [f"exporters.webhook.url={hook}", *dedup]
        options = [option for each in sets for option in ("--set", each)]
        command = [Path(sys.executable).with_name("dagtel"), "run", "--config", HERE / "road.yaml", *options]
        daemon = subprocess.Popen(command, env=env)
        try:
            await _warm(producer, topic, load, times)
            times.appended.clear()
            rate = await append(producer, topic, load, times, seconds)
            deadline = time.perf_counter() + PATIENCE_S
            while times.appended.keys() - times.told.keys() and time.perf_counter() < deadline:
                await asyncio.sleep(0.1)
        finally:
            daemon.terminate()
            await asyncio.to_thread(daemon.wait)
    await producer.stop()
    server.close()
    lost = len(times.appended.keys() - times.told.keys())
    found = times.latencies
    if lost or not found:
        raise SystemExit(f"{lost} of {len(times.appended)} failures were not told within {PATIENCE_S:.0f} s")
    p99 = found[min(len(found) - 1, int(len(found) * 0.99))]
    return [
        f"{len(found):,} failures among {rate:,.0f} records a second for {seconds:.0f} s, all told: median "
        f"{statistics.median(found) * 1e3:.0f} ms, p99 {p99 * 1e3:.0f} ms, most {found[-1] * 1e3:.0f} ms."
    ]


async def _warm(producer: AIOKafkaProducer, topic: str, load: Iterator[tuple[Record, str]], times: Times) -> None:
    """Until the daemon tells what was appended in the last five seconds."""
    deadline = time.perf_counter() + START_S
    while time.perf_counter() < deadline:
        await append(producer, topic, load, times, 2.0)
        if times.told.keys() & list(times.appended)[-50:]:
            return
    raise SystemExit("the daemon tells nothing")
