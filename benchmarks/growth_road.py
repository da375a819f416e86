"""How the cost of an event on the whole road grows: records taken at once, partitions, workers, series.

Each figure stands beside the bare loop over the same topic, run right before it; the start of the daemon is taken off.
The least CPU time of `ROUNDS` rounds counts, of either: what others do on the machine only ever adds.
"""

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import anyio

from benchmarks.load import Record
from benchmarks.page import Cell, table
from benchmarks.running import Run, free_port, kafka, less, loop, road, sink
from benchmarks.service import Service, serve
from benchmarks.topic import delete, fill, fill_with
from pipeline.scenario.story import Log

EVENTS = int(os.environ.get("BENCH_GROWTH_EVENTS", "100000"))
ROUNDS = int(os.environ.get("BENCH_GROWTH_ROUNDS", "2"))
AT_ONCE = (50, 500, 5_000, 20_000)
PARTITIONS = (1, 4, 16)
ASSETS = (100, 1_000, 10_000)
COST = ("CPU µs/event", "times the bare loop")
Ratio = tuple[Run, Run]
"""What the daemon took, its start taken off, and the bare loop beside it."""


@contextmanager
def backends() -> Iterator[tuple[str, str]]:
    """The broker and the sink."""
    with kafka() as bootstrap, sink() as url:
        yield bootstrap, url


@contextmanager
def filled(bootstrap: str, count: int, partitions: int = 1, load: Iterable[Record] | None = None) -> Iterator[str]:
    """A topic with so many records of the corpus, or with these; it is deleted afterwards."""
    topic = f"growth-{time.time_ns()}"
    if load is None:
        anyio.run(fill, bootstrap, topic, count, partitions)
    else:
        anyio.run(fill_with, bootstrap, topic, load, partitions)
    try:
        yield topic
    finally:
        anyio.run(delete, bootstrap, topic)


def cost(pair: Ratio, count: int = EVENTS) -> tuple[Cell, Cell]:
    """The cells of COST."""
    took, bare = pair
    return took.cpu / count * 1e6, took.cpu / bare.cpu


def least(rounds: Sequence[Ratio]) -> Ratio:
    """The least that each of both took, and the highest peak."""
    took, bare = (min((pair[side] for pair in rounds), key=lambda run: run.cpu) for side in (0, 1))
    return Run(took.wall, took.cpu, max(pair[0].peak for pair in rounds)), bare


def beside(bootstrap: str, topic: str, partitions: int, run: Callable[[], Run], start: Run) -> Ratio:
    """One round."""
    bare = loop(bootstrap, topic, "decode", partitions)
    pair = less(run(), start), bare
    print(f"  {cost(pair)[0]:.1f} µs, {cost(pair)[1]:.2f} of the bare loop, {pair[0].peak:.0f} MiB", flush=True)
    return pair


def batch() -> list[str]:
    """`max_poll_records`."""
    rows: list[Sequence[Cell]] = []
    with backends() as (bootstrap, url), filled(bootstrap, EVENTS) as topic, filled(bootstrap, 0) as empty:
        road(bootstrap, empty, url)  # warms the disk's cache
        start = road(bootstrap, empty, url)
        found: dict[int, list[Ratio]] = {most: [] for most in AT_ONCE}
        for _ in range(ROUNDS):
            for most in AT_ONCE:
                sets = [f"receivers.kafka.max_poll_records={most}"]
                run = lambda sets=sets: road(bootstrap, topic, url, sets)  # type: ignore[misc]  # noqa: E731
                found[most].append(beside(bootstrap, topic, 1, run, start))
    for most, rounds in found.items():
        rows.append((most, *cost(least(rounds)), round(least(rounds)[0].peak)))
    return [
        f"`receivers.kafka.max_poll_records`, {EVENTS:,} events in one partition. The bare loop takes 5,000 at once.",
        "",
        *table(("records at once, at most", *COST, "peak MiB"), rows),
    ]


def partitions() -> list[str]:
    """Partitions, all read by one process."""
    rows: list[Sequence[Cell]] = []
    with backends() as (bootstrap, url):
        for count in PARTITIONS:
            with filled(bootstrap, EVENTS, count) as topic, filled(bootstrap, 0, count) as empty:
                start = road(bootstrap, empty, url)
                run = lambda topic=topic: road(bootstrap, topic, url)  # type: ignore[misc]  # noqa: E731
                rounds = [beside(bootstrap, topic, count, run, start) for _ in range(ROUNDS)]
            rows.append((count, *cost(least(rounds)), round(least(rounds)[0].peak)))
    return [
        f"One process, {EVENTS:,} events in all. Each partition is a shard: state, positions and payloads of its own.",
        "",
        *table(("partitions", *COST, "peak MiB"), rows),
    ]


def materializations(assets: int, count: int) -> list[Record]:
    """`count` records of runs that make one asset each, of so many in turn."""
    made: list[Record] = []
    number = 0
    while len(made) < count:
        asset, run = f"warehouse/schema_{number % assets % 100}/table_{number % assets}", f"run-{assets}-{number}"
        log = Log(run, start_ns=1_767_000_000_000_000_000 + number * 10_000_000, tick_ns=1_000_000)
        log.plan(asset, "s").run_start().step_start("s")
        log.materialize(asset, "s", metadata={"dagster/row_count": number, "size_bytes": 4096})
        for line in log.step_success("s").run_success().lines():
            made.append(Record(line, run.encode(), len(made) + 1))
        number += 1
    return made[:count]


def series() -> list[str]:
    """Distinct assets, each with its own series; of the largest number also with the page in a file."""
    rows: list[Sequence[Cell]] = []
    most = "connectors.metrics.max_series=100000"
    with backends() as (bootstrap, url), filled(bootstrap, 1) as one:
        for assets in ASSETS:
            with filled(bootstrap, EVENTS, load=materializations(assets, EVENTS)) as topic:
                address = f"127.0.0.1:{free_port()}"
                served = [most, f"exporters.prometheus.address={address}", "exporters.prometheus.textfile="]
                start = serve(bootstrap, one, url, 1, served).run
                read = partial(serve, bootstrap, topic, url, EVENTS)
                found = [_with_bare(bootstrap, topic, partial(read, served, address)) for _ in range(ROUNDS)]
                rows.append(_series_row(f"{assets:,}", found, start))
                if assets == ASSETS[-1]:
                    again = [_with_bare(bootstrap, topic, partial(read, [most]))]
                    rows.append(_series_row(f"{assets:,}, page in a file", again, start))
    head = ("assets", "series", *COST, "pause, mean ms", "commit beside it, mean ms", "scrape ms", "peak MiB")
    return [
        f"{EVENTS:,} events of runs that make one asset each (six events a run, mean 0.6 KB), the assets in turn;",
        "`max_series: 100000`. The pause is that of a checkpoint, in which the intake waits; the commit is beside it.",
        "The page of figures is asked for once, at the end; with `textfile` it is written at each checkpoint.",
        "",
        *table(head, rows),
    ]


def _with_bare(bootstrap: str, topic: str, read: Callable[[], Service]) -> tuple[Service, Run]:
    bare = loop(bootstrap, topic, "decode")
    served = read()
    print(f"  {served}", flush=True)
    return served, bare


def _series_row(name: str, found: Sequence[tuple[Service, Run]], start: Run) -> Sequence[Cell]:
    best = least([(less(served.run, start), bare) for served, bare in found])
    services = [served for served, _ in found]
    return (
        name,
        services[0].series or "",
        *cost(best),
        min(served.pause.mean for served in services) * 1e3,
        min(served.commit.mean for served in services) * 1e3,
        f"{min(served.scrape_s for served in services) * 1e3:.0f}" if services[0].series else "",
        round(best[0].peak),
    )
