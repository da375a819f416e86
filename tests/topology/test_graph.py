"""The order of pipelines and their cycles, as laws over any wiring."""

from hypothesis import given
from hypothesis import strategies as st

from pipeline.config.model import PipelineConfig
from pipeline.topology.graph import Graph

IDS = [f"p{n}" for n in range(6)]
CONNECTORS = [f"c{n}" for n in range(6)]
SOME = st.lists(st.sampled_from(CONNECTORS), max_size=3, unique=True).map(tuple)
PIPELINES = st.dictionaries(
    st.sampled_from(IDS), st.builds(PipelineConfig, receivers=SOME, processors=st.just(()), exporters=SOME), max_size=6
)


def graph(**feeds: str) -> Graph:
    """`graph(a="b c")`: a feeds b and c."""
    ids = [*feeds, *(id for fed in feeds.values() for id in fed.split() if id not in feeds)]
    pipelines = {
        id: PipelineConfig(
            receivers=tuple(f"{above}-{id}" for above in feeds if id in feeds[above].split()),
            exporters=tuple(f"{id}-{fed}" for fed in feeds.get(id, "").split()),
        )
        for id in ids
    }
    return Graph(pipelines, {c for p in pipelines.values() for c in p.exporters})


def test_pipelines_are_ordered_upstream_first_and_else_as_they_are_written() -> None:
    assert graph(c="", b="c", a="b c", d="").ordered() == ("a", "b", "c", "d")


def test_upstream_is_everything_above() -> None:
    assert graph(a="b", b="c d", x="d").upstream("d") == {"a", "b", "x"}


def test_a_cycle_is_told_once_by_its_shortest_way() -> None:
    assert list(graph(a="b", b="c", c="a", d="a").cycles()) == [("a", "b", "c")]
    assert list(graph(a="b c", b="c", c="a").cycles()) == [("a", "c"), ("b", "c", "a")]
    assert list(graph(a="a", b="c", c="b").cycles()) == [("a",), ("b", "c")]


@given(PIPELINES)
def test_what_feeds_a_pipeline_stands_before_it(pipelines: dict[str, PipelineConfig]) -> None:
    wired = Graph(pipelines, CONNECTORS)
    order = wired.ordered()
    assert len(set(order)) == len(order)
    for id in order:
        assert all(order.index(above) < order.index(id) for above in wired.upstream(id))


@given(PIPELINES)
def test_pipelines_are_left_out_of_the_order_if_and_only_if_there_is_a_cycle(
    pipelines: dict[str, PipelineConfig],
) -> None:
    wired = Graph(pipelines, CONNECTORS)
    cycles = list(wired.cycles())
    assert bool(cycles) == (len(wired.ordered()) < len(pipelines))
    for way in cycles:
        assert all(fed in wired.feeds[above] for above, fed in zip(way, (*way[1:], way[0]), strict=True))
