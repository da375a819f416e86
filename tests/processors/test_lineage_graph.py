"""The graph that is kept up edge by edge says what one built anew from the same state says."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from pipeline.lineage import AssetFacts, Exposure, Impact
from pipeline.signals import Edges
from pipeline.testing.context import MemoryState
from processors.lineage_graph import LineageGraph
from processors.lineage_told import Told

SOURCES = ("file", "graphql")
KEYS = ("a", "b", "c", "d", "e")

few = st.lists(st.sampled_from(KEYS), max_size=3).map(tuple)
facts = st.builds(
    AssetFacts,
    key=st.just(""),
    upstream=few,
    group=st.sampled_from(("", "raw", "marts")),
    owners=st.sampled_from(((), ("team:x",), ("team:y", "team:x"), ("team:x", "team:x"))),
    executable=st.booleans(),
    metadata=st.sampled_from(({}, {"exposure": ""}, {"exposure": "report", "url": "https://x.example"})),
)
assets = st.dictionaries(st.sampled_from(KEYS), facts, max_size=4).map(
    lambda found: {key: AssetFacts(key, *(getattr(known, f) for f in AssetFacts.__struct_fields__[1:]))
                   for key, known in found.items()}
)  # fmt: skip
exposures = st.lists(st.builds(Exposure, st.sampled_from(("Sales", "a")), few), max_size=2).map(tuple)
tellings = st.builds(Told, assets, exposures)
learned = st.builds(Edges, st.sampled_from(KEYS), few, st.just(0))

Act = tuple[str, object]
acts: st.SearchStrategy[Act] = st.one_of(
    st.tuples(st.just("learn"), st.lists(learned, min_size=1, max_size=3)),
    st.tuples(st.just("undone"), st.lists(learned, min_size=1, max_size=3)),
    st.tuples(st.just("apply"), st.tuples(st.sampled_from(SOURCES), tellings)),
    st.tuples(st.just("keep only"), st.sets(st.sampled_from(SOURCES))),
    st.tuples(st.just("ask"), st.none()),
)


def call(state: MemoryState, graph: LineageGraph, edges: Sequence[Edges]) -> None:
    """Learn as a call of the component does, and ask in between."""
    for table in state.tables.values():
        table.begin()
    graph.begin()
    for each in edges:
        graph.learn(each)
        graph.impact((each.asset,))


def undo(state: MemoryState) -> None:
    """What the runtime does when a call raises."""
    for table in state.tables.values():
        table.undo()


def answers(graph: LineageGraph) -> object:
    """All that can be asked of it."""
    several = [graph.impact(KEYS[:2]), graph.impact(KEYS[2:])]
    return [(graph.facts(key), graph.impact((key,)), graph.upstream(key)) for key in KEYS], several


@given(tellings, st.lists(acts, max_size=12))
def test_any_order_of_edges_sources_and_wipes_leads_to_the_graph_that_is_built_anew(
    inline: Told, what: list[Act]
) -> None:
    state = MemoryState()
    graph = LineageGraph(state, SOURCES, inline)
    for act in what:
        match act:
            case "learn", list(edges):
                call(state, graph, edges)
                graph.done()
            case "undone", list(edges):
                call(state, graph, edges)
                undo(state)
                graph.begin()
                graph.done()
            case "apply", (str(source), Told() as said):
                graph.apply(source, said)
            case "keep only", set(sources):
                graph.keep_only(sources)
            case _:
                state.checkpoint()
                assert answers(graph) == answers(LineageGraph(state.restart(), SOURCES, inline))
    state.checkpoint()
    assert answers(graph) == answers(LineageGraph(state.restart(), SOURCES, inline))


def test_an_edge_that_is_learned_changes_the_impacts_that_were_asked_for_before() -> None:
    graph = LineageGraph(MemoryState(), SOURCES, Told({"b": AssetFacts("b", upstream=("a",), owners=("team:x",))}))
    assert graph.impact(("root",)) == Impact()
    graph.learn(Edges("a", ("root",), 0))
    assert graph.impact(("root",)) == Impact({"a": 1, "b": 2}, (), ("team:x",))


def test_a_thing_that_people_look_at_may_learn_edges_too() -> None:
    shown = AssetFacts("board", metadata={"exposure": "dashboard"})
    graph = LineageGraph(MemoryState(), SOURCES, Told({"board": shown}))
    assert graph.impact(("a",)).exposures == ()
    graph.learn(Edges("board", ("a",), 0))
    assert graph.impact(("a",)) == Impact({"board": 1}, ("board",), (), ("dashboard",))
