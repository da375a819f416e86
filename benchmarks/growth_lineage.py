"""What an asset graph of a hundred, a thousand, ten thousand assets costs `lineage_impact`: an impact, and memory.

The graph has ten layers; each asset reads two of the layer before, those of the first none. Times and
memory are taken in two processes of their own, with the untyped decode of recorded events beside it as the yardstick.
"""

import gc
import random
import statistics
import time
import tracemalloc
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import msgspec

from benchmarks.load import records
from benchmarks.page import Cell, table
from pipeline.lineage import AssetFacts, Exposure
from pipeline.signals import Edges
from pipeline.testing.context import FakeContext
from processors.lineage_graph import LineageGraph
from processors.lineage_told import Told

SIZES = (100, 1_000, 10_000)
LAYERS = 10
ASKED = 50
YARD = 20_000


class Lineage(msgspec.Struct):
    """CPU µs; how many assets are stale below a root, and the bytes of that impact in an alert."""

    bare: float
    root: float
    middle: float
    again: float
    edge: float
    anew: float
    stale: int
    bytes: int


def graph_of(count: int) -> dict[str, AssetFacts]:
    """Such a graph, the same each time."""
    chance = random.Random(1)
    width = count // LAYERS
    keys = [[f"warehouse/layer_{layer}/table_{n}" for n in range(width)] for layer in range(LAYERS)]
    return {
        key: AssetFacts(
            key,
            upstream=(keys[layer - 1][n], keys[layer - 1][chance.randrange(width)]) if layer else (),
            group=f"layer_{layer}",
            owners=(f"team:{n % 20}",),
            kinds=("table",),
        )
        for layer in range(LAYERS)
        for n, key in enumerate(keys[layer])
    }


def told(count: int) -> LineageGraph:
    """The component's graph, as a webserver told it, with twenty dashboards; its catalog is built."""
    graph = LineageGraph(FakeContext("lineage").state, ("graphql",), Told())
    assets = graph_of(count)
    shown = tuple(Exposure(f"Dashboard {n}", (key,)) for n, key in enumerate(list(assets)[-20:]))
    graph.apply("graphql", Told(assets, shown))
    graph.facts("")  # it is built when somebody asks
    return graph


def memory(count: int) -> float:
    """MiB that Python has given out for it."""
    gc.collect()
    tracemalloc.start()
    graph = told(count)
    gc.collect()
    used = tracemalloc.get_traced_memory()[0] / 2**20
    tracemalloc.stop()
    del graph
    return used


def took(act: Callable[[], object]) -> float:
    """CPU µs."""
    began = time.process_time()
    act()
    return (time.process_time() - began) * 1e6


def measured(count: int) -> Lineage:
    """One size, here."""
    values = [record.value for record in records(YARD)]
    decode = msgspec.json.Decoder().decode

    def decoded() -> None:
        for value in values:
            decode(value)

    bare = min(took(decoded) for _ in range(3)) / YARD
    graph, keys, width = told(count), list(graph_of(count)), count // LAYERS
    roots, middle = keys[:width], keys[count // 2 : count // 2 + width]
    some = roots[:: max(1, width // ASKED)][:ASKED]
    root = statistics.median(took(lambda key=key: graph.impact((key,))) for key in some)  # type: ignore[misc]
    some = middle[:: max(1, width // ASKED)][:ASKED]
    mid = statistics.median(took(lambda key=key: graph.impact((key,))) for key in some)  # type: ignore[misc]
    again = took(lambda: [graph.impact((key,)) for key in some * 100]) / (100 * len(some))

    def learned(number: int) -> None:
        graph.learn(Edges(middle[0], (f"source_{number}",), 0))
        graph.facts(middle[0])

    edge = statistics.median(took(lambda n=n: learned(n)) for n in range(5))  # type: ignore[misc]
    assets = graph_of(count)

    def answered(number: int) -> None:
        described = AssetFacts(middle[0], assets[middle[0]].upstream, description=f"of answer {number}")
        graph.apply("graphql", Told({**assets, middle[0]: described}))
        graph.facts(middle[0])

    impact = graph.impact((roots[0],))
    anew = statistics.median(took(lambda n=n: answered(n)) for n in range(5))  # type: ignore[misc]
    return Lineage(bare, root, mid, again, edge, anew, len(impact.assets), len(msgspec.json.encode(impact)))


def lineage() -> list[str]:
    """All sizes."""
    rows: list[Sequence[Cell]] = []
    for count in SIZES:
        with ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as alone:
            found, mib = alone.submit(measured, count).result(), alone.submit(memory, count).result()
        print(f"  {count}: {found}, {mib:.2f} MiB", flush=True)
        rows.append(
            (
                count,
                found.stale,
                found.root,
                round(found.root / found.bare),
                found.middle,
                f"{found.again:.2f}",
                found.edge,
                round(found.edge / found.bare),
                found.anew / 1e3,
                mib,
                found.bytes / 1024,
            )
        )
    head = (
        "assets",
        "stale below a root",
        "impact of a root, CPU µs",
        "bare decodes",
        "of one halfway, CPU µs",
        "asked again, CPU µs",
        "after a new edge, CPU µs",
        "bare decodes",
        "after an answer that says something new, CPU ms",
        "memory MiB",
        "impact of a root in an alert, KiB",
    )
    return [
        "Ten layers, each asset reads two of the layer before; medians. An impact is walked once and kept until the",
        "graph changes. An edge that the event log told is put into the graph (`after a new edge`); the first question",
        "after a webserver said something new builds it anew. The yardstick is the untyped decode of one recorded",
        "event in the same process.",
        "",
        *table(head, rows),
    ]
