"""How cost grows: `python -m benchmarks.growth [PART …]` measures all parts, or these, and writes GROWTH.md.

Parts: batch, partitions, workers, series, pause, lineage, memory. Kafka is the broker that DAGTEL_TEST_KAFKA names,
else one that tests/backends/kafka starts; workers also need DAGTEL_TEST_POSTGRES. A part that is measured anew replaces
its own section, with its day and machine; the others stay as they are.
"""

import os
import platform
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.growth_lineage import lineage
from benchmarks.growth_memory import TITLES, memory
from benchmarks.growth_pause import pause
from benchmarks.growth_road import batch, partitions, series
from benchmarks.growth_workers import workers
from benchmarks.page import write

PAGE = Path(__file__).parent / "GROWTH.md"
Sections = dict[str, Sequence[str]]


def _one(title: str, measure: Callable[[], Sequence[str]]) -> Callable[[], Sections]:
    return lambda: {title: measure()}


PARTS: dict[str, tuple[Sequence[str], Callable[[], Sections]]] = {
    "batch": (("Records taken at once",), _one("Records taken at once", batch)),
    "partitions": (("Partitions",), _one("Partitions", partitions)),
    "workers": (("Workers",), _one("Workers", workers)),
    "series": (("Series",), _one("Series", series)),
    "pause": (("What a pause costs",), _one("What a pause costs", pause)),
    "lineage": (("Assets in the graph",), _one("Assets in the graph", lineage)),
    "memory": (TITLES, memory),
}
ORDER = [title for titles, _ in PARTS.values() for title in titles]
HEAD = [
    "# How cost grows",
    "",
    "Made by `python -m benchmarks.growth [PART …]`; parts:",
    ", ".join(f"`{part}`" for part in PARTS) + ".",
    "The road is the whole default pipeline (`road.yaml`) over the 1.13 corpus (mean 1.25 KB) unless a section says",
    "otherwise, all threads counted, the daemon's start taken off. Machines are shared and noisy: read the ratios,",
    "each of which is to the bare loop (fetch and untyped decode of the same topic) of the same run.",
]


def main(parts: Sequence[str]) -> None:
    """Measure, and write after each part."""
    if unknown := set(parts) - set(PARTS):
        raise SystemExit(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    for part in parts or PARTS:
        print(part, flush=True)
        _, measure = PARTS[part]
        sections = measure()
        machine = f"{platform.machine()}, {os.cpu_count()} shared cores, Python {platform.python_version()}"
        said = f"({machine}; load {os.getloadavg()[0]:.1f} at the end.)"
        write(PAGE, HEAD, ORDER, {title: [*lines, "", said] for title, lines in sections.items()})
    print(PAGE.read_text())


if __name__ == "__main__":
    main(sys.argv[1:])
