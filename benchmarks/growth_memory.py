"""Whether memory stays where it is: ten times the events, runs that never end; and how long a checkpoint pauses.

The peak is that of the daemon in service, at the end of the topic. What is remembered on purpose grows until its bound
is reached, and the bounds are large; so each length runs twice: as it comes, and with bounds that the short run fills.
Peaks of equal runs differ by a tenth; so the short one, which costs little, runs `SHORT_RUNS` times.
"""

import os
from collections.abc import Iterator, Sequence

from benchmarks.growth_road import backends, filled
from benchmarks.load import Record
from benchmarks.page import Cell, table
from benchmarks.running import Run, less, loop
from benchmarks.service import Histogram, Service, serve
from pipeline.scenario.story import Log

SHORT = int(os.environ.get("BENCH_MEMORY_SHORT", "200000"))
LONG = int(os.environ.get("BENCH_MEMORY_LONG", "2000000"))
SHORT_RUNS = 3
OPEN = int(os.environ.get("BENCH_MEMORY_OPEN", "100000"))
BOUNDS = (
    "processors.redelivery.remember=100000",
    "processors.run_ledger.tombstones=1000",
    "processors.run_ledger.max_open_runs=200",
)
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


def memory() -> dict[str, Sequence[str]]:
    """Both sections."""
    rows: list[Sequence[Cell]] = []
    found: dict[tuple[str, int], Service] = {}
    peaks: dict[tuple[str, int], list[float]] = {}
    with backends() as (bootstrap, url):
        with filled(bootstrap, 1) as one:
            start = serve(bootstrap, one, url, 1)
        for count in (SHORT, LONG):
            with filled(bootstrap, count) as topic:
                bare = loop(bootstrap, topic, "decode")
                for name, sets in (("as it comes", ()), ("bounds that 200,000 fill", BOUNDS)):
                    times = SHORT_RUNS if count == SHORT else 1
                    served = [serve(bootstrap, topic, url, count, sets) for _ in range(times)]
                    peaks[name, count] = [each.run.peak for each in served]
                    print(peaks, flush=True)
                    found[name, count] = max(served, key=lambda each: each.run.peak)
                    rows.append(_row(f"{count:,} events, {name}", found[name, count], start.run, bare, count))
                    print(rows[-1], flush=True)
        with filled(bootstrap, OPEN * 3, load=list(never_ending(OPEN))) as topic:
            bare = loop(bootstrap, topic, "decode")
            opened = serve(bootstrap, topic, url, OPEN * 3)
            rows.append(_row(f"{OPEN:,} steps that never end", opened, start.run, bare, OPEN * 3))
            print(rows[-1], flush=True)
    ratios = [f"{name}: {found[name, LONG].run.peak / found[name, SHORT].run.peak:.2f}" for name in _names(found)]
    lines = [
        f"The road, one partition, from an empty state. Peak of {LONG:,} events as a multiple of that of {SHORT:,}:",
        f"{'; '.join(ratios)}. Of {SHORT:,} events it is the highest of {SHORT_RUNS} runs, whose peaks were",
        f"{', '.join(f'{peak:.0f}' for name in _names(found) for peak in sorted(peaks[name, SHORT]))} MiB (the first"
        f" {SHORT_RUNS} as it comes). After one event it is {start.run.peak:.0f} MiB. The bounds are",
        f"{', '.join(f'`{bound}`' for bound in BOUNDS)};",
        "by default they are 1,000,000 events, 100,000 ended runs and 100,000 open ones. The corpus has runs whose end",
        "is not in it, so what is open grows with the events, too. A step that never ends is three events.",
        "",
        *table(("", "peak MiB", "CPU µs/event", "times the bare loop"), rows),
    ]
    pauses = {
        **{f"{count:,} events, {name}": service.pause for (name, count), service in found.items() if count == LONG},
        f"{OPEN:,} open steps": opened.pause,
    }
    return dict(zip(TITLES, (lines, paused(pauses)), strict=True))


def _names(found: dict[tuple[str, int], Service]) -> list[str]:
    return list(dict.fromkeys(name for name, _ in found))


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
        "the p99 is under 50 ms they say exactly.",
        "",
        *table(("", "checkpoints", "mean ms", "p50", "p99", "most", "within 50 ms"), rows),
    ]


def _bound(seconds: float) -> str:
    return f"≤ {seconds * 1e3:g} ms" if seconds < float("inf") else "> 1 s"
