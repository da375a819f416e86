"""`make bench`: fetch alone, the bare loop, each stage, the whole road, in one run; writes benchmarks/RESULTS.md.

Kafka is the broker that DAGTEL_TEST_KAFKA names, else one that tests/backends/kafka starts. The road is a real
`dagtel run --once` on `road.yaml`, checkpoints on, to a local HTTP sink; what the same command takes on an empty topic
is its start and is taken off. The last checkpoint, and what is sent after it, stay in: a quarter of a second, however
many events there are. BENCH_EVENTS (600000) and BENCH_ROUNDS (5) say how much. With OTELCOL_BIN a Collector runs beside
them: see `collector.py`.
"""

import os
import platform
import statistics
import time
from importlib.metadata import version
from pathlib import Path

import anyio

from benchmarks.collector import WAYS, WITHOUT, Way, binary, collect, release
from benchmarks.running import WITHOUT_TWINS, Run, kafka, less, loop, road, sink
from benchmarks.stages import measure, measure_without_twins
from benchmarks.topic import delete, fill
from pipeline.native import HAS_NATIVE

HERE = Path(__file__).parent
EVENTS = int(os.environ.get("BENCH_EVENTS", "600000"))
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "5"))


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


def collector_row(way: Way, runs: list[Run]) -> str:
    """It has no ratio to the bare loop: when it was done is known to a second, by its commits."""
    cpus = [run.cpu / (EVENTS // way.part) * 1e6 for run in runs]
    return f"| a Collector, events {way.words} | – | – | {min(cpus):.1f} | {statistics.median(cpus):.1f} | – | – |"


def beside(whole: list[Run], collected: dict[Way, list[Run]]) -> list[str]:
    """What is said below the table of the Collector, or how to have it there."""
    if not collected:
        return ["", *WITHOUT]
    ratios = {
        way: statistics.median(road.cpu / (it.cpu * way.part) for road, it in zip(whole, runs, strict=True))
        for way, runs in collected.items()
    }
    said = ",\n".join(f"{ratio:.2f} times as much ({way.words})" for way, ratio in ratios.items())
    peak = max(run.peak for runs in collected.values() for run in runs)
    return [
        "",
        f"The Collector is {release()} (`collector.py`). CPU time of the road an event, medians of the rounds:",
        f"{said}. The Collector makes a log record of each event",
        "and sends it, and no more: no runs, no traces, metrics or alerts, nothing on disk. Its peak memory:",
        f"{peak:.0f} MiB. `none lost` is its recipe for what the road promises, a call a record, over a twentieth",
        "of the events; otherwise what it holds in batches is lost with it.",
    ]


def main() -> None:
    name = f"bench-{time.time_ns()}"
    collected: dict[Way, list[Run]] = {way: [] for way in WAYS} if binary() else {}
    parts = {way.part for way in collected} - {1}
    fetch: list[Run] = []
    bare: list[Run] = []
    whole: list[Run] = []
    plain: list[Run] = []
    with kafka() as bootstrap, sink() as url:
        anyio.run(fill, bootstrap, name, EVENTS)
        anyio.run(fill, bootstrap, f"{name}-empty", 0)
        anyio.run(fill, bootstrap, f"{name}-one", 1)
        for part in parts:
            anyio.run(fill, bootstrap, f"{name}-{part}", EVENTS // part)
        road(bootstrap, f"{name}-empty", url)  # warms the disk's cache
        for number in range(ROUNDS):
            fetch.append(loop(bootstrap, name, "fetch"))
            bare.append(loop(bootstrap, name, "decode"))
            start = road(bootstrap, f"{name}-empty", url)
            whole.append(less(road(bootstrap, name, url), start))
            if HAS_NATIVE:
                plain.append(less(road(bootstrap, name, url, env=WITHOUT_TWINS), start))
            for way, runs in collected.items():
                begun = collect(bootstrap, f"{name}-one", url, 1, way)
                topic = name if way.part == 1 else f"{name}-{way.part}"
                runs.append(less(collect(bootstrap, topic, url, EVENTS // way.part, way), begun))
            print(f"round {number + 1}: bare {bare[-1]}, road {whole[-1]}", flush=True)
        anyio.run(delete, bootstrap, name, f"{name}-empty", f"{name}-one", *(f"{name}-{part}" for part in parts))
    stages = {"": measure(), "without twins": measure_without_twins()} if HAS_NATIVE else {"": measure()}
    (HERE / "RESULTS.md").write_text(report(fetch, bare, whole, plain, collected, stages))
    print((HERE / "RESULTS.md").read_text())


def report(
    fetch: list[Run],
    bare: list[Run],
    whole: list[Run],
    plain: list[Run],
    collected: dict[Way, list[Run]],
    stages: dict[str, dict[str, tuple[float, float]]],
) -> str:
    named = ("aiokafka", "msgspec", "anyio", "sqlalchemy", *(("dagtel-native",) if HAS_NATIVE else ()))
    packages = ", ".join(f"{name} {version(name)}" for name in named)
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
        *([row("the same without the compiled twins", plain, bare)] if plain else ()),
        *(collector_row(way, runs) for way, runs in collected.items()),
        "",
        f"Peak memory of the road: {max(r.peak for r in whole):.0f} MiB.",
        *beside(whole, collected),
        "",
        "## Stages",
        "",
        "In one process on fresh objects, batches of 5,000; CPU µs an event.",
        "",
        *stage_table(stages),
        "",
    ]
    return "\n".join(lines)


def stage_table(stages: dict[str, dict[str, tuple[float, float]]]) -> list[str]:
    heads = [f"{what}{', ' if how else ''}{how}" for how in stages for what in ("best", "median")]
    lines = [f"| stage | {' | '.join(heads)} |", f"| --- |{' --- |' * len(heads)}"]
    for name in next(iter(stages.values())):
        figures = " | ".join(f"{least:.2f} | {median:.2f}" for least, median in (way[name] for way in stages.values()))
        lines.append(f"| {name} | {figures} |")
    return lines


if __name__ == "__main__":
    main()
