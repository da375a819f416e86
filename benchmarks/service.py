"""The daemon as it runs in service, not to an end of its own: it reads a topic, is asked for its figures, is stopped.

So its peak is that of the work, without what `--once` does at the end; and what it says of itself is read from its own
`/metrics`, as Prometheus would.
"""

import re
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from urllib.request import urlopen

import anyio
import msgspec

from benchmarks.running import DAGTEL, HERE, Run, Timed, free_port, options, road_env
from benchmarks.topic import read_by

_LINE = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)", re.MULTILINE)
_LE = re.compile(r'le="([^"]+)"')
PATIENCE_S = 900.0


class Histogram(msgspec.Struct, frozen=True):
    """A histogram of a `/metrics` page. `counts`: how many are at most each bound (seconds; the last is inf)."""

    counts: dict[float, int]
    total: float

    @property
    def count(self) -> int:
        return max(self.counts.values(), default=0)

    @property
    def mean(self) -> float:
        return self.total / self.count if self.count else 0.0

    def at_most(self, share: float) -> float:
        """The least bound that so large a share of them keeps. It is all that buckets can say for sure."""
        return min((bound for bound, count in self.counts.items() if count >= share * self.count), default=0.0)

    def within(self, bound: float) -> float:
        """The share that is at most `bound`, which must be one of the bounds."""
        return self.counts[bound] / self.count if self.count else 1.0


class Service(msgspec.Struct, frozen=True):
    """What a run came to: time of all its threads, peak MiB while it worked, pauses and commits of its checkpoints.

    `series`: lines of the page of figures that was scraped at the end, and `scrape_s` how long that took.
    """

    run: Run
    pause: Histogram
    commit: Histogram
    series: int = 0
    scrape_s: float = 0.0


def histogram(page: str, name: str) -> Histogram:
    """That histogram of a page, without labels."""
    counts: dict[float, int] = {}
    total = 0.0
    for found in _LINE.finditer(page):
        if found[1] == f"{name}_bucket" and (bound := _LE.search(found[2] or "")):
            counts[float(bound[1])] = int(float(found[3]))
        elif found[1] == f"{name}_sum":
            total = float(found[3])
    return Histogram(counts, total)


def peak_mib(status: str) -> float:
    """Peak resident memory by `/proc/PID/status`."""
    found = re.search(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE)
    assert found, status
    return int(found[1]) / 1024


def serve(
    bootstrap: str, topic: str, sink_url: str, count: int, sets: Sequence[str] = (), scraped: str = ""
) -> Service:
    """The road of `road.yaml` from an empty state until `count` records of the topic are read and committed.

    `scraped`: the address where `sets` have the `prometheus` exporter listen, if it is to be asked at the end.
    """
    port = free_port()
    group = f"{topic}-{time.time_ns()}"
    own = [
        f"service.telemetry.metrics.address=127.0.0.1:{port}",
        f"receivers.kafka.group_id={group}",
        "receivers.kafka.commit_interval=1s",
    ]
    with tempfile.TemporaryDirectory() as out:
        command = [DAGTEL, "run", "--config", HERE / "road.yaml", *options([*own, *sets])]
        daemon = Timed(command, road_env(bootstrap, topic, sink_url, out))
        try:
            anyio.run(read_by, bootstrap, group, topic, count, PATIENCE_S)
            page = urlopen(f"http://127.0.0.1:{port}/metrics").read().decode()
            peak = peak_mib(Path(f"/proc/{daemon.process.pid}/status").read_text())
            began = time.perf_counter()
            figures = urlopen(f"http://{scraped}/metrics").read().decode() if scraped else ""
            scrape_s = time.perf_counter() - began
        except BaseException:
            daemon.process.kill()
            raise
        run = daemon.stopped()
    pause, commit = (histogram(page, f"dagtel_checkpoint_{part}_seconds") for part in ("pause", "commit"))
    series = sum(not line.startswith("#") for line in figures.splitlines())
    return Service(Run(run.wall, run.cpu, peak), pause, commit, series, scrape_s)
