"""`make bench`: fetch alone, the bare loop, each stage, the whole road, in one run; writes benchmarks/RESULTS.md.

Kafka is the broker that DAGTEL_TEST_KAFKA names, else one that tests/backends/kafka starts. The road is a real
`dagtel run --once` on `road.yaml`, checkpoints on, to a local HTTP sink; what the same command takes on an empty topic
is its start and is taken off. BENCH_EVENTS (200000) and BENCH_ROUNDS (5) say how much.
"""

import json
import os
import platform
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import anyio
import msgspec

from benchmarks.stages import measure
from benchmarks.topic import fill

HERE = Path(__file__).parent
BACKENDS = HERE.parent / "tests" / "backends"
EVENTS = int(os.environ.get("BENCH_EVENTS", "200000"))
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "5"))


class Run(msgspec.Struct):
    """What one process took. Seconds, and peak resident MiB."""

    wall: float
    cpu: float
    peak: float = 0.0


@contextmanager
def kafka() -> Iterator[str]:
    if given := os.environ.get("DAGTEL_TEST_KAFKA"):
        yield given
        return
    folder = tempfile.mkdtemp()
    env = {**os.environ, "BACKENDS_RUN": folder, "KAFKA_PORT": str(free_port())}
    started = subprocess.run([BACKENDS / "kafka", "up"], env=env, stdout=subprocess.PIPE, text=True, check=True)
    try:
        yield started.stdout.strip().splitlines()[-1]
    finally:
        subprocess.run([BACKENDS / "kafka", "wipe"], env=env, check=False)
        shutil.rmtree(folder, ignore_errors=True)


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@contextmanager
def sink() -> Iterator[str]:
    port = free_port()
    process = subprocess.Popen([sys.executable, "-m", "benchmarks.sink", str(port)])
    time.sleep(0.5)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def loop(bootstrap: str, topic: str, how: str) -> Run:
    """Fetch alone (`fetch`) or the bare loop (`decode`), in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.kafka_loops", bootstrap, topic, how]
    took = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return Run(took["wall"], took["cpu"])


def road(bootstrap: str, topic: str, sink_url: str) -> Run:
    """The whole daemon over one topic, from an empty state."""
    with tempfile.TemporaryDirectory() as out:
        env = {
            **os.environ,
            "BENCH_KAFKA": bootstrap,
            "BENCH_TOPIC": topic,
            "BENCH_SINK": sink_url,
            "BENCH_OUT": out,
        }
        command = [Path(sys.executable).with_name("dagtel"), "run", "--config", HERE / "road.yaml", "--once"]
        began = time.perf_counter()
        process = subprocess.Popen(command, env=env)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"dagtel ended with {process.returncode}")
        return Run(time.perf_counter() - began, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)


def less(run: Run, start: Run) -> Run:
    return Run(run.wall - start.wall, run.cpu - start.cpu, run.peak)


def row(name: str, runs: list[Run], bare: list[Run]) -> str:
    walls, cpus = [r.wall for r in runs], [r.cpu for r in runs]
    ratios = [b.wall / r.wall for r, b in zip(runs, bare, strict=True)]
    cells = [
        name,
        f"{EVENTS / min(walls):,.0f}",
        f"{EVENTS / statistics.median(walls):,.0f}",
        f"{min(cpus) / EVENTS * 1e6:.1f}",
        f"{statistics.median(cpus) / EVENTS * 1e6:.1f}",
        f"{max(ratios):.2f}",
        f"{statistics.median(ratios):.2f}",
    ]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    name = f"bench-{time.time_ns()}"
    fetch: list[Run] = []
    bare: list[Run] = []
    whole: list[Run] = []
    with kafka() as bootstrap, sink() as url:
        anyio.run(fill, bootstrap, name, EVENTS)
        anyio.run(fill, bootstrap, f"{name}-empty", 0)
        road(bootstrap, f"{name}-empty", url)  # warms the disk's cache
        for number in range(ROUNDS):
            fetch.append(loop(bootstrap, name, "fetch"))
            bare.append(loop(bootstrap, name, "decode"))
            start = road(bootstrap, f"{name}-empty", url)
            whole.append(less(road(bootstrap, name, url), start))
            print(f"round {number + 1}: bare {bare[-1]}, road {whole[-1]}", flush=True)
    stages = measure()
    (HERE / "RESULTS.md").write_text(report(fetch, bare, whole, stages))
    print((HERE / "RESULTS.md").read_text())


def report(fetch: list[Run], bare: list[Run], whole: list[Run], stages: dict[str, tuple[float, float]]) -> str:
    packages = ", ".join(f"{name} {version(name)}" for name in ("aiokafka", "msgspec", "anyio", "sqlalchemy"))
    lines = [
        "# Results",
        "",
        f"Made by `make bench`: {EVENTS:,} events of the 1.13 corpus (mean 1.25 KB), one partition, {ROUNDS} rounds,",
        "each fetch, bare loop and road one after another. Machines are shared and noisy: read the ratios. The road is",
        "the whole default pipeline (`road.yaml`), a checkpoint a second, all threads counted, its start taken off.",
        "",
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, {packages}.",
        "",
        "| | events/s, best | median | CPU µs/event, best | median | of the bare loop, best | median |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        row("fetch alone", fetch, bare),
        row("bare loop: fetch and untyped decode", bare, bare),
        row("the whole road", whole, bare),
        "",
        f"Peak memory of the road: {max(r.peak for r in whole):.0f} MiB.",
        "",
        "## Stages",
        "",
        "In one process on fresh objects, batches of 5,000; CPU µs an event.",
        "",
        "| stage | best | median |",
        "| --- | --- | --- |",
        *(f"| {name} | {best:.2f} | {median:.2f} |" for name, (best, median) in stages.items()),
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
