"""Whether memory stays where it is: ten times the events, runs that never end; and how long a checkpoint pauses.

The peak is that of the daemon in service, at the end of the topic. What is remembered on purpose (events, runs that
have ended) grows until its bound is reached, and the bounds are large. So each length runs twice: as it comes, and
behind `FIRST` runs that fill all of these, with two of the bounds lowered so that they do. Peaks of equal runs differ;
so the short one, which costs little, runs `SHORT_RUNS` times.
"""

import os
from collections.abc import Iterator, Sequence
from itertools import chain

from benchmarks.growth_road import backends, filled
from benchmarks.load import Record, records
from benchmarks.page import Cell, table
from benchmarks.running import Run, less, loop
from benchmarks.service import Histogram, Service, serve
from pipeline.scenario.story import Log

SHORT = int(os.environ.get("BENCH_MEMORY_SHORT", "200000"))
LONG = int(os.environ.get("BENCH_MEMORY_LONG", "2000000"))
SHORT_RUNS = 3
OPEN = int(os.environ.get("BENCH_MEMORY_OPEN", "100000"))
FIRST = 25_000
"""Ended runs; the spans remember 20,000 of them, whatever the configuration."""
LOWERED = ("processors.redelivery.remember=100000", "processors.run_ledger.tombstones=20000")
COMES, FULL = "as it comes", "all full from the start"
LIMIT_S = 0.05
TITLES = ("Memory", "The pause of a checkpoint")


def never_ending(count: int) -> Iterator[Record]:
    """So many runs, each of one step that has begun and is not heard of again."""
    for number in range(count):
        run = f"open-{number}"
        log = Log(run, start_ns=1_767_000_000_000_000_000 + number * 1_000_000, tick_ns=1000)
        log.plan(f"warehouse/table_{number % 1000}", "s").run_start().step_start("s")
        for at, line in enumerate(log.lines()):
            yield Record(line, run.encode(), number * 3 + at + 1)


def ended(count: int) -> Iterator[Record]:
    """So many runs that begin and end, three events each."""
    for number in range(count):
        run = f"ended-{number}"
        log = Log(run, start_ns=1_766_000_000_000_000_000 + number * 1_000_000, tick_ns=1000)
        for at, line in enumerate(log.run_queued().run_start().run_success().lines()):
            yield Record(line, run.encode(), number * 3 + at + 1)


def kinds(count: int) -> dict[str, tuple[Iterator[Record], int, Sequence[str]]]:
    """By name: the load, its length, options."""
    return {
        COMES: (records(count), count, ()),
        FULL: (chain(ended(FIRST), records(count)), count + 3 * FIRST, LOWERED),
    }


def memory() -> dict[str, Sequence[str]]:
    """Both sections."""
    rows: list[Sequence[Cell]] = []
    found: dict[tuple[str, int], Service] = {}
    peaks: dict[tuple[str, int], list[float]] = {}
    with backends() as (bootstrap, url):
        with filled(bootstrap, 1) as one:
            start = serve(bootstrap, one, url, 1)
        for count in (SHORT, LONG):
            for name, (load, length, sets) in kinds(count).items():
                with filled(bootstrap, length, load=load) as topic:
                    bare = loop(bootstrap, topic, "decode")
                    times = SHORT_RUNS if count == SHORT else 1
                    served = [serve(bootstrap, topic, url, length, sets) for _ in range(times)]
                peaks[name, count] = sorted(each.run.peak for each in served)
                found[name, count] = max(served, key=lambda each: each.run.peak)
                rows.append(_row(f"{count:,} events, {name}", found[name, count], start.run, bare, length))
                print(rows[-1], peaks[name, count], flush=True)
        with filled(bootstrap, SHORT) as topic:
            short = serve(bootstrap, topic, url, SHORT)
        with filled(bootstrap, OPEN * 3, load=never_ending(OPEN)) as topic:
            bare = loop(bootstrap, topic, "decode")
            opened = serve(bootstrap, topic, url, OPEN * 3)
            rows.append(_row(f"{OPEN:,} steps that never end", opened, start.run, bare, OPEN * 3))
            print(rows[-1], flush=True)
    lines = [
        "The road, one partition, from an empty state. What grows as it comes is remembered on purpose, up to a bound:",
        "the ids of 1,000,000 events (`redelivery.remember`), 100,000 ended runs (`run_ledger.tombstones`), 20,000",
        f"of them in `spans`, 1,000 in `enrichment`. `{FULL}`: {FIRST:,} runs come before,",
        f"which fill all of these, with `{LOWERED[0]}` and",
        f"`{LOWERED[1]}`. Against {SHORT:,} events, {LONG:,} have a peak",
        *(f"{found[n, LONG].run.peak / found[n, SHORT].run.peak:.2f} times as high {n}," for n in (COMES, FULL)),
        f"where the short ones are the highest of {SHORT_RUNS} runs ({_several(peaks[COMES, SHORT])} MiB as it comes,",
        f"{_several(peaks[FULL, SHORT])} {FULL}). After one event it is {start.run.peak:.0f} MiB.",
        "The goal is 1.10 at most.",
        "",
        *table(("", "peak MiB", "CPU µs/event", "times the bare loop"), rows),
    ]
    pauses = {
        **{f"{count:,} events, {name}": service.pause for (name, count), service in found.items() if count == LONG},
        f"{OPEN:,} open steps": opened.pause,
        f"{SHORT:,} events": short.pause,
    }
    return dict(zip(TITLES, (lines, paused(pauses)), strict=True))


def _several(peaks: Sequence[float]) -> str:
    return ", ".join(f"{peak:.0f}" for peak in peaks)


def _row(name: str, served: Service, start: Run, bare: Run, count: int) -> Sequence[Cell]:
    took = less(served.run, start)
    return (name, round(served.run.peak), took.cpu / count * 1e6, took.cpu / bare.cpu)


def paused(pauses: dict[str, Histogram]) -> list[str]:
    """The section on pauses."""
    rows: list[Sequence[Cell]] = [
        (
            name,
            each.count,
            f"{each.mean * 1e3:.1f}",
            *(_bound(each.at_most(share)) for share in (0.5, 0.99, 1.0)),
            f"{each.within(LIMIT_S):.2%}",
        )
        for name, each in pauses.items()
    ]
    return [
        "`dagtel_checkpoint_pause_seconds` of the same runs, whose topic was full before they began: the intake was",
        "never without work. Buckets give bounds (1, 2.5, 5, 10, 25, 50, 100, 250 ms …) and no exact figures; whether",
        "the p99 is under 50 ms, which is the goal, they say exactly.",
        "",
        *table(("", "checkpoints", "mean ms", "p50", "p99", "most", "within 50 ms"), rows),
    ]


def _bound(seconds: float) -> str:
    return f"≤ {seconds * 1e3:g} ms" if seconds < float("inf") else "> 1 s"
