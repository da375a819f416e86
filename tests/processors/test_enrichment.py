"""Enrichment knows runs and assets from what it is told, keeps it over restarts, and holds nothing up."""

import json
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.batch import Batch
from pipeline.clock import SystemClock
from pipeline.encoded_rows import encoded
from pipeline.errors import RetryableError
from pipeline.events import Event, RunQueued
from pipeline.facts import RunFacts
from pipeline.http import Response
from pipeline.lineage import AssetFacts, Freshness
from pipeline.options import Duration
from pipeline.run_rows import HEADER, RunRow, encode_header
from pipeline.runtime.tables import Row
from pipeline.testing.context import FakeContext, FakeHttp, MemoryState
from pipeline.testing.contracts import ProcessorContract
from processors import enrichment_runs
from processors.enrichment import SPEC, EnrichmentConfig, StorageOption
from processors.enrichment_assets import AssetOption, FreshnessOption, KnownAssets, Said, facts_of
from processors.enrichment_runs import KnownRun, KnownRuns
from processors.enrichment_sources import GraphqlOption
from tests.receivers.sqlite_home import SqliteHome

GRAPH = Path(__file__).parent.parent / "data" / "asset-graph.json"


def event(run_id: str = "r", row: RunRow | None = None, type: str = "LOG", detail: RunQueued | None = None) -> Event:
    headers = ((HEADER, encode_header(row)),) if row else ()
    return Event(b"", type, run_id, 0, 20, "job", "", "", detail=detail, headers=headers)


async def enrich(context: FakeContext, config: EnrichmentConfig, *events: Event, poll: bool = True) -> list[Event]:
    async with SPEC.build(config, context) as processor:
        if poll:
            await context.poll()
        return list((await processor.process(Batch(events, "s", 0))).items)


# --- runs ------------------------------------------------------------------------------------------------------------

ROW = RunRow({"team": "x", "dagster/partition": "p1", "dagster/backfill": "b"}, "parent", "root", "shop")
FACTS = RunFacts(ROW.tags, "shop", "p1", "b", "parent", "root")


@pytest.mark.anyio
async def test_the_header_gives_a_runs_facts_one_object_for_all_its_events() -> None:
    got = await enrich(FakeContext(), EnrichmentConfig(), *(event(row=ROW) for _ in range(3)))
    assert got[0].run == FACTS
    assert got[0].run is got[1].run is got[2].run


@pytest.mark.anyio
async def test_a_header_that_changes_changes_the_facts_from_there_on() -> None:
    later = RunRow({**ROW.tags, "dagster/failure_reason": "STEP_FAILURE"}, code_location="shop")
    got = await enrich(FakeContext(), EnrichmentConfig(), event(row=ROW), event(row=later), event("other"))
    assert [e.run and len(e.run.tags) for e in got] == [3, 4, None]


@pytest.mark.anyio
async def test_an_event_without_a_run_has_no_facts() -> None:
    assert (await enrich(FakeContext(), EnrichmentConfig(), event("", ROW)))[0].run is None


@pytest.mark.anyio
async def test_the_header_can_stand_anywhere_and_can_be_left_unread() -> None:
    one = event(row=ROW)
    one.headers = (*one.headers, ("mine", b"x"))
    two = msgspec.structs.replace(one)
    assert (await enrich(FakeContext(), EnrichmentConfig(), one))[0].run == FACTS
    assert (await enrich(FakeContext(), EnrichmentConfig(headers=False), two))[0].run is None


@pytest.mark.anyio
@given(value=st.binary(max_size=50))
async def test_any_bytes_in_the_header_do_no_harm(value: bytes) -> None:
    bad = event()
    bad.headers = ((HEADER, value),)
    got = await enrich(FakeContext(), EnrichmentConfig(), event(row=ROW), bad)
    assert got[1].run is not None
    assert got[1].run.code_location == "shop"


@pytest.mark.anyio
async def test_the_first_event_of_a_run_tells_location_and_partition_where_no_header_does() -> None:
    queued = event(type="PIPELINE_ENQUEUED", detail=RunQueued("shop", "repo", "p2"))
    got = await enrich(FakeContext(), EnrichmentConfig(), queued, event(), event(row=RunRow({"team": "x"})))
    assert [e.run for e in got] == [
        RunFacts(code_location="shop", partition="p2"),
        RunFacts(code_location="shop", partition="p2"),
        RunFacts({"team": "x"}, "shop", "p2"),
    ]


@pytest.mark.anyio
async def test_an_old_first_event_tells_nothing() -> None:
    got = await enrich(FakeContext(), EnrichmentConfig(), event(type="PIPELINE_ENQUEUED", detail=RunQueued()))
    assert got[0].run is None


@pytest.mark.anyio
async def test_facts_outlive_a_restart() -> None:
    state = MemoryState()
    await enrich(FakeContext(state=state), EnrichmentConfig(), event(row=ROW))
    state.checkpoint()
    got = await enrich(FakeContext(state=state.restart()), EnrichmentConfig(), event())
    assert got[0].run == FACTS


@pytest.mark.anyio
async def test_the_oldest_runs_are_forgotten_over_the_limit() -> None:
    state = MemoryState()
    every = [event(f"r{number}", ROW) for number in range(50)]
    await enrich(FakeContext(state=state), EnrichmentConfig(max_runs=20), *every)
    assert set(state.tables["runs"]._rows) == {f"r{number}" for number in range(30, 50)}


def ends(run: str) -> Event:
    return event(run, type="PIPELINE_SUCCESS")


@pytest.mark.anyio
async def test_a_run_that_goes_on_is_remembered_however_many_have_ended_since() -> None:
    state = MemoryState()
    others = [each for number in range(50) for each in (event(f"r{number}", ROW), ends(f"r{number}"))]
    got = await enrich(
        FakeContext(state=state), EnrichmentConfig(max_runs=3), event("long", ROW), *others, event("long")
    )
    assert got[-1].run == FACTS
    assert set(state.tables["runs"]._rows) == {"long", "r47", "r48", "r49"}
    assert len(state.tables["ages"]) == 1


@pytest.mark.anyio
async def test_of_runs_that_have_ended_the_last_ones_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(enrichment_runs, "ENDED", 2)
    state = MemoryState()
    first = [each for run in "abc" for each in (event(run, ROW), ends(run))]
    got = await enrich(FakeContext(state=state), EnrichmentConfig(), *first, ends("c"), event("a"), event("b"))
    assert [each.run for each in got[-2:]] == [None, FACTS]
    state.checkpoint()
    late = await enrich(
        FakeContext(state=state.restart()), EnrichmentConfig(), event("b"), event("d", ROW), ends("d"), event("b")
    )
    assert [each.run for each in late] == [FACTS, FACTS, FACTS, None]


@pytest.mark.anyio
async def test_the_first_of_those_that_go_on_is_found_behind_many_that_have_ended() -> None:
    state = MemoryState()
    runs = KnownRuns(state, 2, asks=False)
    for name in ("a", "b", "c", "d", "e"):  # a makes room for c
        runs.facts(event(name, ROW), encode_header(ROW))
        if name in "cd":
            runs.facts(ends(name), b"")
    assert set(state.tables["ages"]._rows.values()) == {"b", "e"}
    runs.facts(event("f", ROW), encode_header(ROW))
    assert set(state.tables["ages"]._rows.values()) == {"e", "f"}
    runs.facts(event("g", ROW), encode_header(ROW))
    assert set(state.tables["ages"]._rows.values()) == {"f", "g"}


def test_a_limit_that_was_lowered_holds_from_the_next_run_on() -> None:
    state = MemoryState()
    runs = KnownRuns(state, 100, asks=False)
    for n in range(20):
        runs.facts(event(f"r{n}", ROW), encode_header(ROW))
        if n < 10:
            runs.facts(ends(f"r{n}"), b"")
    state.checkpoint()
    state = state.restart()
    runs = KnownRuns(state, 3, asks=False)
    runs.facts(event("new", ROW), encode_header(ROW))
    runs.facts(ends("new"), b"")
    assert (len(state.tables["ages"]), len(state.tables["ended"])) == (2, 3)
    assert set(state.tables["runs"]._rows) == {"r8", "r9", "r18", "r19", "new"}


def test_ages_of_an_older_version_are_gone_on_with() -> None:
    state = MemoryState()
    for table, key, value in (("ages", 7, "a"), ("ages", 8, "b"), ("counts", "newest", 8)):
        packed = msgspec.msgpack.encode(key)
        state.stored[table, packed] = Row("enrichment", table, packed, 1, msgspec.msgpack.encode(value))
    for run in "ab":
        packed = msgspec.msgpack.encode(run)
        value = msgspec.msgpack.encode(encoded(KnownRun(FACTS, b"header", wanted=False)))
        state.stored["runs", packed] = Row("enrichment", "runs", packed, 2, value)
    runs = KnownRuns(state, 2, asks=False)
    runs.facts(event("c", ROW), encode_header(ROW))
    assert set(state.tables["runs"]._rows) == {"b", "c"}
    runs.facts(ends("b"), b"")
    assert set(state.tables["ages"]._rows.values()) == {"c"}


def test_an_end_that_was_undone_is_one_when_it_comes_again() -> None:
    state = MemoryState()
    runs = KnownRuns(state, 100, asks=False)
    runs.begin()
    runs.facts(event("a", ROW), encode_header(ROW))
    tables = list(state.tables.values())
    for table in tables:
        table.begin()
    runs.begin()
    runs.facts(ends("a"), b"")
    for table in tables:
        table.undo()
    assert len(state.tables["ages"]) == 1
    runs.begin()
    runs.facts(ends("a"), b"")
    assert (len(state.tables["ages"]), len(state.tables["ended"])) == (0, 1)


@pytest.mark.anyio
async def test_runs_without_a_header_are_looked_up_in_dagsters_storage_and_nothing_waits(tmp_path: Path) -> None:
    home = SqliteHome(tmp_path, SystemClock())
    for run in ("a", "b"):
        home.add_run(run, {"team": run})
    home.rest()
    config = EnrichmentConfig(dagster=StorageOption(home=str(tmp_path)))
    context = FakeContext()
    async with SPEC.build(config, context) as processor:

        async def take(*events: Event) -> list[RunFacts | None]:
            return [e.run for e in (await processor.process(Batch(events, "s", 0))).items]

        assert await take(event("a"), event("b"), event("none")) == [None, None, None]
        await context.poll()
        assert await take(event("a"), event("b"), event("none")) == [
            RunFacts({"team": "a"}),
            RunFacts({"team": "b"}),
            None,
        ]
        home.tag_run("a", "dagster/failure_reason", "STEP_FAILURE")
        home.rest()
        await take(event("a", type="PIPELINE_FAILURE"))
        await context.poll()
        assert await take(event("a")) == [RunFacts({"team": "a", "dagster/failure_reason": "STEP_FAILURE"})]


def test_what_was_not_answered_before_a_restart_is_asked_again() -> None:
    state = MemoryState()
    KnownRuns(state, 100, asks=True).facts(event("a"), b"")
    state.checkpoint()
    again = KnownRuns(state.restart(), 100, asks=True)
    assert again.wanted(10) == ["a"]
    again.answered(["a"], {"a": ROW})
    assert again.wanted(10) == []
    assert again.facts(event("a"), b"") == FACTS


def test_runs_of_version_1_are_gone_on_with() -> None:
    state, key = MemoryState(), msgspec.msgpack.encode("a")
    known = KnownRun(FACTS, b"header", wanted=True)
    state.stored["runs", key] = Row("enrichment", "runs", key, 1, msgspec.msgpack.encode(known))
    runs = KnownRuns(state, 100, asks=True)
    assert runs.facts(event("a"), b"header") == FACTS
    assert runs.wanted(10) == ["a"]


def test_a_call_that_is_undone_leaves_nothing_behind() -> None:
    state = MemoryState()
    runs = KnownRuns(state, 100, asks=True)
    table = state.tables["runs"]
    table.begin()
    runs.facts(event("a"), b"")
    table.undo()
    runs.answered(runs.wanted(10), {"a": ROW})
    assert len(table) == 0
    table.begin()
    runs.facts(event("a"), b"")
    assert runs.wanted(10) == ["a"]


# --- assets ----------------------------------------------------------------------------------------------------------


async def facts_from(config: EnrichmentConfig, asset: str, context: FakeContext | None = None) -> AssetFacts | None:
    (got,) = await enrich(context or FakeContext(), config, event(""))
    return got.catalog.assets.get(asset) if got.catalog else None


@pytest.mark.anyio
async def test_a_webservers_answer_in_a_file_gives_every_event_the_graph() -> None:
    got = await enrich(FakeContext(), EnrichmentConfig(asset_graph=str(GRAPH)), event(""), event())
    catalog = got[0].catalog
    assert catalog is not None
    assert catalog is got[1].catalog
    assert catalog.assets["raw/orders"].owners == ("team:data-platform",)
    assert catalog.assets["raw/orders"].freshness == Freshness(fail_s=93600)


@pytest.mark.anyio
async def test_without_any_source_there_is_no_graph() -> None:
    assert (await enrich(FakeContext(), EnrichmentConfig(), event()))[0].catalog is None


@pytest.mark.anyio
async def test_what_is_written_goes_before_what_the_webserver_says() -> None:
    config = EnrichmentConfig(
        asset_graph=str(GRAPH),
        assets={
            "raw/orders": AssetOption(group="ours", owners=("me@example.com",)),
            "raw/*": AssetOption(group="pattern", description="from a pattern", metadata={"layer": "Bronze"}),
        },
    )
    orders, payments = await facts_from(config, "raw/orders"), await facts_from(config, "raw/payments")
    assert orders and payments
    assert (orders.group, payments.group) == ("ours", "pattern")
    assert orders.owners == ("me@example.com", "team:data-platform")
    assert orders.description == payments.description == "from a pattern"
    assert orders.metadata["layer"] == "Bronze"


@pytest.mark.anyio
async def test_patterns_know_assets_that_nobody_else_knows() -> None:
    config = EnrichmentConfig(
        assets={"raw/*": AssetOption(owners=("team:raw",)), "*": AssetOption(group="all"), "core/x": AssetOption()}
    )
    assert await facts_from(config, "raw/new") == AssetFacts("raw/new", group="all", owners=("team:raw",))
    assert await facts_from(config, "core/x") == AssetFacts("core/x", group="all")
    (got,) = await enrich(FakeContext(), config, event(""))
    assert got.catalog and set(got.catalog.assets) == {"core/x"}


@pytest.mark.anyio
async def test_a_table_file_may_be_the_lineage_file_and_writes_durations_as_people_do(tmp_path: Path) -> None:
    file = tmp_path / "lineage.yaml"
    file.write_text(
        "exposures: [{name: Board, upstream: [a]}]\n"
        "assets:\n"
        "  a: {owners: ['team:x'], kinds: [dbt], freshness: {fail: 4 hours, warn: 2h}}\n"
        "  b: {freshness: {deadline_cron: '0 9 * * *', lower_bound: 3600, timezone: Europe/Berlin}}\n"
    )
    config = EnrichmentConfig(table=str(file))
    assert await facts_from(config, "a") == AssetFacts(
        "a", owners=("team:x",), kinds=("dbt",), freshness=Freshness(fail_s=14400, warn_s=7200)
    )
    assert await facts_from(config, "b") == AssetFacts(
        "b", freshness=Freshness(deadline_cron="0 9 * * *", lower_bound_s=3600, timezone="Europe/Berlin")
    )


@pytest.mark.anyio
@pytest.mark.parametrize("content", ["assets: [", "assets: {a: {owner: x}}", "assets: {a: {freshness: {fail: soon}}}"])
async def test_a_broken_table_is_said_and_what_it_said_before_stands(tmp_path: Path, content: str) -> None:
    file, state = tmp_path / "table.yaml", MemoryState()
    file.write_text("assets: {a: {group: g}}")
    config = EnrichmentConfig(table=str(file))
    await facts_from(config, "a", FakeContext(state=state))
    state.checkpoint()
    file.write_text(content)
    context = FakeContext(state=state.restart())
    async with SPEC.build(config, context) as processor:
        with pytest.raises(RetryableError, match=r"table\.yaml"):
            await context.poll()
        (got,) = (await processor.process(Batch([event("")], "s", 0))).items
    assert got.catalog and got.catalog.assets["a"].group == "g"


def webserver(answer: Callable[[], dict[str, object]]) -> FakeHttp:
    schema = {
        "assetNode": {"fields": [{"name": name} for name in ("assetKey", "groupName", "owners")]},
        "__schema": {"types": []},
    }

    def respond(method: str, url: str, body: bytes) -> Response:
        data = schema if b"__schema" in body else answer()
        return Response(200, {}, json.dumps({"data": data}).encode())

    return FakeHttp(respond)


def nodes(**groups: str) -> dict[str, object]:
    return {"assetNodes": [{"assetKey": {"path": [key]}, "groupName": group} for key, group in groups.items()]}


GRAPHQL = EnrichmentConfig(graphql=GraphqlOption(url="http://dagster:3000"))


@pytest.mark.anyio
async def test_a_restart_without_the_webserver_knows_the_same() -> None:
    state = MemoryState()
    await facts_from(GRAPHQL, "a", FakeContext(state=state, http=webserver(lambda: nodes(a="g"))))
    state.checkpoint()
    (got,) = await enrich(FakeContext(state=state.restart()), GRAPHQL, event(""), poll=False)
    assert got.catalog and got.catalog.assets == {"a": AssetFacts("a", group="g")}
    assert got.catalog.version > 0


@pytest.mark.anyio
async def test_the_graph_is_the_same_object_until_it_changes_and_its_version_grows() -> None:
    answers = iter([nodes(a="g"), nodes(a="g"), nodes(a="h"), nodes()])
    context = FakeContext(http=webserver(lambda: next(answers)))
    seen = []
    async with SPEC.build(GRAPHQL, context) as processor:
        for _ in range(4):
            await context.poll()
            seen.append((await processor.process(Batch([event("")], "s", 0))).items[0].catalog)
    first, again, changed, empty = seen
    assert first is again
    assert changed is empty  # code locations that do not load are no reason to forget
    assert first and changed and changed.version > first.version


@pytest.mark.anyio
async def test_a_source_that_is_configured_no_more_is_forgotten() -> None:
    state = MemoryState()
    await facts_from(GRAPHQL, "a", FakeContext(state=state, http=webserver(lambda: nodes(a="g"))))
    state.checkpoint()
    assert await facts_from(EnrichmentConfig(), "a", FakeContext(state=state.restart())) is None


def test_shards_that_are_told_the_same_have_graphs_of_one_version() -> None:
    said = Said({"a": AssetFacts("a")}, version=7)
    catalogs = []
    for shard in ("s1", "s2"):
        assets = KnownAssets(MemoryState(shard), facts_of({}), ["graphql"])
        assets.apply("graphql", said)
        catalogs.append(assets.catalog)
    assert [catalog and catalog.version for catalog in catalogs] == [7, 7]


class TestWithRoomForTwoRuns(ProcessorContract):
    """What is forgotten must not depend on batches, restarts or calls that are undone."""

    spec = SPEC

    def options(self) -> EnrichmentConfig:
        return EnrichmentConfig(max_runs=2)


# --- configuration ---------------------------------------------------------------------------------------------------


def test_options_that_make_no_sense_are_named() -> None:
    config = EnrichmentConfig(
        graphql=GraphqlOption(url="dagster:3000", interval=Duration(0)),
        dagster=StorageOption(interval=Duration(0)),
        interval=Duration(0),
        max_runs=0,
        assets={"a": AssetOption(freshness=FreshnessOption())},
    )
    assert [path for path, _ in config.problems()] == [
        "graphql.url",
        "graphql.interval",
        "dagster.interval",
        "interval",
        "max_runs",
    ]
    assert list(EnrichmentConfig().problems()) == []
