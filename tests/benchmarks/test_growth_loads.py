"""What the benchmarks of growth feed: events that decode, in the shapes that they promise."""

from itertools import islice

import pytest

from benchmarks.growth_lineage import LAYERS, graph_of
from benchmarks.growth_memory import ended, never_ending
from benchmarks.growth_road import materializations
from benchmarks.load import Record
from pipeline.events import Event, Materialized
from pipeline.lineage import Catalog
from receivers.dagster_wire import decode


def decoded(records: list[Record]) -> list[Event]:
    return [decode(record.value, source="test", offset=at) for at, record in enumerate(records)]


def test_each_run_makes_one_asset_and_they_take_turns() -> None:
    records = materializations(assets=3, count=24)
    made = [event.detail.asset for event in decoded(records) if isinstance(event.detail, Materialized)]
    assert made == [f"warehouse/schema_{n}/table_{n}" for n in (0, 1, 2, 0)]
    assert [record.storage_id for record in records] == list(range(1, 25))


def test_a_step_that_never_ends_is_three_events_of_a_run_of_its_own() -> None:
    records = list(never_ending(2))
    types = ["ASSET_MATERIALIZATION_PLANNED", "PIPELINE_START", "STEP_START"]
    assert [event.type for event in decoded(records)] == types * 2
    assert [record.key for record in records] == [b"open-0"] * 3 + [b"open-1"] * 3
    assert [record.storage_id for record in records] == [1, 2, 3, 4, 5, 6]


def test_a_run_that_ends_is_three_events() -> None:
    types = ["PIPELINE_ENQUEUED", "PIPELINE_START", "PIPELINE_SUCCESS"]
    records = list(ended(2))
    assert [event.type for event in decoded(records)] == types * 2
    assert [record.key for record in records] == [b"ended-0"] * 3 + [b"ended-1"] * 3


@pytest.mark.parametrize("count", [100, 1000])
def test_the_graph_has_so_many_assets_in_ten_layers(count: int) -> None:
    assets = graph_of(count)
    roots = [key for key, facts in assets.items() if not facts.upstream]
    assert (len(assets), len(roots)) == (count, count // LAYERS)
    catalog = Catalog(assets)
    assert max(hops for root in islice(roots, 5) for hops in catalog.downstream(root).values()) == LAYERS - 1
    assert graph_of(count) == assets
