"""What a benchmark runs: a broker, a sink, the yardsticks, and the daemon over one topic; each says what it took."""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

HERE = Path(__file__).parent
BACKENDS = HERE.parent / "tests" / "backends"
DAGTEL = Path(sys.executable).with_name("dagtel")


class Run(msgspec.Struct):
    """What one process took. Seconds, and peak resident MiB."""

    wall: float
    cpu: float
    peak: float = 0.0


@contextmanager
def kafka() -> Iterator[str]:
    """The broker that DAGTEL_TEST_KAFKA names, else one of our own for as long."""
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


def loop(bootstrap: str, topic: str, how: str, partitions: int = 1) -> Run:
    """Fetch alone (`fetch`) or the bare loop (`decode`), in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.kafka_loops", bootstrap, topic, how, str(partitions)]
    took = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return Run(took["wall"], took["cpu"])


WITHOUT_TWINS = {"DAGTEL_NATIVE": "0"}
"""The environment in which nothing compiled of ours is used."""


def road(
    bootstrap: str, topic: str, sink_url: str, sets: Sequence[str] = (), env: Mapping[str, str] | None = None
) -> Run:
    """The whole daemon over one topic, from an empty state to its end. `sets`: options, `name=value`."""
    with tempfile.TemporaryDirectory() as out:
        command = [DAGTEL, "run", "--config", HERE / "road.yaml", "--once", *options(sets)]
        process = Timed(command, road_env(bootstrap, topic, sink_url, out) | dict(env or {}))
        return process.ended()


def road_env(bootstrap: str, topic: str, sink_url: str, out: str) -> dict[str, str]:
    """What `road.yaml` asks of the environment."""
    return {"BENCH_KAFKA": bootstrap, "BENCH_TOPIC": topic, "BENCH_SINK": sink_url, "BENCH_OUT": out}


def options(sets: Sequence[str]) -> list[str]:
    return [part for each in sets for part in ("--set", each)]


class Timed:
    """A process whose time is taken, with that of all that it started and waited for."""

    def __init__(self, command: Sequence[str | Path], env: dict[str, str]) -> None:
        self._began = time.perf_counter()
        self._name = Path(command[0]).name
        self.process = subprocess.Popen(command, env={**os.environ, **env})

    def ended(self) -> Run:
        """Wait for its end; it must be a good one."""
        _, status, used = os.wait4(self.process.pid, 0)
        self.process.returncode = os.waitstatus_to_exitcode(status)
        if self.process.returncode:
            raise SystemExit(f"{self._name} ended with {self.process.returncode}")
        return Run(time.perf_counter() - self._began, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)

    def stopped(self) -> Run:
        """Ask it to stop, and wait."""
        self.process.terminate()
        return self.ended()


def less(run: Run, start: Run) -> Run:
    return Run(run.wall - start.wall, run.cpu - start.cpu, run.peak)
