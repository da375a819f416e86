"""What goes stale when an asset fails, from every source of lineage, and after a restart from none."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from pipeline.batch import WHOLE, Batch
from pipeline.errors import ConfigError, RetryableError
from pipeline.http import Response
from pipeline.lineage import Impact
from pipeline.options import Secret
from pipeline.signals import Alert, AlertState, Edges
from pipeline.testing.context import FakeContext, FakeHttp, MemoryState
from processors.lineage_impact import SPEC, GraphqlOption, LineageImpactConfig
from processors.lineage_told import ExposureOption, ExternalOption

pytestmark = pytest.mark.anyio

DATA = Path(__file__).parents[1] / "data"
TRUTH = json.loads((DATA / "truth-lineage.json").read_text())["assets"]


def alert(asset: str = "a", state: AlertState = "failing") -> Alert:
    return Alert("asset_failure", state, "ERROR", "p", 0, 0, 0, asset=asset)


async def frozen(
    config: LineageImpactConfig,
    items: Sequence[Alert | Edges],
    state: MemoryState | None = None,
    http: FakeHttp | None = None,
) -> list[Alert]:
    """The alerts that come out, after all side inputs have answered once."""
    context = FakeContext("lineage_impact", state=state, http=http)
    async with SPEC.build(config, context) as processor:
        await context.poll()
        given = await processor.process(Batch(items, WHOLE, 0))
        context.memory.checkpoint()
        return list(given.items)


async def impact_of(config: LineageImpactConfig, asset: str, *edges: Edges) -> Impact:
    (told,) = await frozen(config, [*edges, alert(asset)])
    assert told.impact is not None
    return told.impact


async def test_with_the_asset_graph_the_impact_of_every_asset_is_dagsters_own() -> None:
    config = LineageImpactConfig(asset_graph=str(DATA / "asset-graph.json"))
    told = await frozen(config, [alert(asset) for asset in TRUTH])
    assert {a.asset: a.impact and a.impact.assets for a in told} == {k: t["downstream"] for k, t in TRUTH.items()}


async def test_dashboards_among_the_assets_are_named_with_their_owners() -> None:
    config = LineageImpactConfig(asset_graph=str(DATA / "asset-graph.json"))
    impact = await impact_of(config, "marts/payment_reconciliation")
    assert impact == Impact(
        {"publish/finance_report": 1, "dashboards/finance_close": 2},
        ("dashboards/finance_close",),
        ("team:data-platform", "team:finance"),
        ("dashboard",),
    )


async def test_definitions_decide_severity_channels_and_owners_where_nobody_did_before() -> None:
    config = LineageImpactConfig(asset_graph=str(DATA / "asset-graph.json"))
    (told,) = await frozen(config, [alert("marts/daily_revenue")])
    assert (told.severity, told.channels, told.group) == ("CRITICAL", ("slack", "pagerduty"), "marts")
    assert told.owners == ("team:analytics-engineering", "bo@example.com")


async def test_edges_of_the_event_log_are_walked_and_taken_out() -> None:
    edges = [Edges("b", ("a",), 0), Edges("c", ("b",), 0), Edges("b", ("x",), 0), Edges("d", (), 0)]
    assert (await impact_of(LineageImpactConfig(), "a", *edges)).assets == {"b": 1, "c": 2}


async def test_edges_of_several_sources_make_one_way() -> None:
    config = LineageImpactConfig(
        exposures=(ExposureOption(name="Overview", upstream=("c",), owners=("bi",), kind="report"),),
        externals=(ExternalOption(name="API", feeds=("a",), kind="api"),),
    )
    edges = [Edges("b", ("a",), 0), Edges("c", ("b",), 0)]
    assert await impact_of(config, "API", *edges) == Impact(
        {"a": 1, "b": 2, "c": 3}, ("Overview",), ("bi",), ("report",)
    )


async def test_only_failures_of_assets_have_an_impact() -> None:
    items = [alert(state="recovered"), alert(asset=""), alert(state="firing")]
    assert await frozen(LineageImpactConfig(), items) == items


async def test_an_unknown_asset_has_an_empty_impact() -> None:
    assert await impact_of(LineageImpactConfig(), "nobody knows") == Impact()


async def test_what_was_known_answers_after_a_restart_without_a_source() -> None:
    config = LineageImpactConfig(graphql=GraphqlOption(url="http://dagster:3000"))
    state = MemoryState()
    (before,) = await frozen(config, [Edges("z", ("raw/orders",), 0), alert("raw/orders")], state, webserver())
    context = FakeContext(state=state.restart(), http=FakeHttp())
    async with SPEC.build(config, context) as processor:
        with pytest.raises(RetryableError):
            await context.poll()
        (after,) = (await processor.process(Batch([alert("raw/orders")], WHOLE, 0))).items
    assert after == before
    assert after.impact.assets.keys() == {*TRUTH["raw/orders"]["downstream"], "z"}


def webserver(answer: bytes | None = None) -> FakeHttp:
    schema = {
        "assetNode": {"fields": [{"name": "assetKey"}, {"name": "dependencyKeys"}]},
        "__schema": {"types": []},
    }

    def reply(method: str, url: str, body: bytes) -> Response:
        if b"__schema" in body:
            return Response(200, {}, json.dumps({"data": schema}).encode())
        return Response(200, {}, answer or (DATA / "asset-graph.json").read_bytes())

    return FakeHttp(reply)


async def test_the_webserver_is_asked_with_its_headers() -> None:
    http = webserver()
    config = LineageImpactConfig(graphql=GraphqlOption(url="http://dagster:3000", headers={"Token": Secret("t")}))
    await frozen(config, [], http=http)
    assert [(url, headers["Token"]) for _, url, _, headers in http.requests] == [
        ("http://dagster:3000/graphql", "t")
    ] * 2


async def test_a_webserver_that_lost_its_code_locations_changes_nothing() -> None:
    config = LineageImpactConfig(graphql=GraphqlOption(url="http://dagster:3000"))
    state = MemoryState()
    await frozen(config, [], state, webserver())
    (told,) = await frozen(config, [alert("raw/orders")], state.restart(), webserver(b'{"data":{"assetNodes":[]}}'))
    assert told.impact is not None
    assert told.impact.assets == TRUTH["raw/orders"]["downstream"]


async def test_only_what_changed_is_written() -> None:
    config = LineageImpactConfig(asset_graph=str(DATA / "asset-graph.json"))
    state = MemoryState()
    await frozen(config, [], state)
    again = state.restart()
    await frozen(config, [], again)
    assert len(state.stored) == len(TRUTH)
    assert again.checkpoint() == []


async def test_a_source_that_is_configured_no_more_is_forgotten() -> None:
    state = MemoryState()
    await frozen(LineageImpactConfig(asset_graph=str(DATA / "asset-graph.json")), [], state)
    again = state.restart()
    (told,) = await frozen(LineageImpactConfig(), [alert("raw/orders")], again)
    assert told.impact == Impact()
    assert again.stored == {}


YAML = """
exposures:
  - {name: Glucose Overview, upstream: [mrt], owners: [bi-team], url: "https://bi/1"}
externals:
  - {name: Nightscout API, feeds: [raw], description: Fetched via DLT rest_api}
assets:
  mrt: {upstream: [raw], owners: ["team:data"], metadata: {alert_severity_override: CRITICAL}}
"""


async def test_a_yaml_file_tells_of_exposures_externals_and_assets_and_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "lineage.yaml"
    file.write_text(YAML)
    context = FakeContext()
    async with SPEC.build(LineageImpactConfig(file=str(file)), context) as processor:
        await context.poll()
        told = (await processor.process(Batch([alert("Nightscout API"), alert("mrt")], WHOLE, 0))).items
        assert told[0].impact == Impact(
            {"raw": 1, "mrt": 2}, ("Glucose Overview",), ("team:data", "bi-team"), ("dashboard",)
        )
        assert told[1].severity == "CRITICAL"
        file.write_text("assets: {b: {upstream: [raw]}}")
        await context.poll()
        (again,) = (await processor.process(Batch([alert("raw")], WHOLE, 0))).items
        assert again.impact == Impact({"b": 1})
        file.write_text("exposures: 7")
        with pytest.raises(RetryableError, match=r"lineage\.yaml.*exposures"):
            await context.poll()
        (still,) = (await processor.process(Batch([alert("raw")], WHOLE, 0))).items
        assert still.impact == again.impact


@pytest.mark.parametrize("content", ["exposures: 7", "assets: {a: {upsteam: [b]}}", "a: [", None])
async def test_a_file_that_is_broken_or_missing_stops_the_start(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "lineage.yaml"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ConfigError, match="lineage"):
        await frozen(LineageImpactConfig(file=str(file)), [])


async def test_an_asset_graph_that_is_missing_is_waited_for(tmp_path: Path) -> None:
    file = tmp_path / "graph.json"
    context = FakeContext()
    async with SPEC.build(LineageImpactConfig(asset_graph=str(file)), context) as processor:
        with pytest.raises(RetryableError, match="cannot be read"):
            await context.poll()
        file.write_bytes((DATA / "asset-graph.json").read_bytes())
        await context.poll()
        (told,) = (await processor.process(Batch([alert("raw/orders")], WHOLE, 0))).items
        assert told.impact is not None
        assert told.impact.assets == TRUTH["raw/orders"]["downstream"]


MANIFEST = {
    "metadata": {"dbt_schema_version": "https://schemas.getdbt.com/dbt/manifest/v12.json"},
    "nodes": {
        "model.shop.stg": {
            "name": "stg", "resource_type": "model", "config": {"schema": "staging", "materialized": "view"},
            "depends_on": {"nodes": ["source.shop.raw.orders"]}, "description": "Orders",
        },
        "model.shop.mid": {
            "name": "mid", "resource_type": "model", "config": {"materialized": "ephemeral"},
            "depends_on": {"nodes": ["model.shop.stg", "seed.shop.fx"]},
        },
        "model.shop.mart": {
            "name": "mart", "resource_type": "model", "config": {"meta": {"dagster": {"asset_key": ["gold", "mart"]}}},
            "depends_on": {"nodes": ["model.shop.mid", "macro.x"]},
        },
        "model.shop.mart.v2": {
            "name": "dim", "resource_type": "model", "version": 2, "alias": "dim_v2", "config": {},
            "depends_on": {"nodes": ["model.shop.mart"]},
        },
        "seed.shop.fx": {"name": "fx", "resource_type": "seed", "config": {}, "depends_on": {"macros": []}},
        "test.shop.unique": {
            "name": "unique", "resource_type": "test", "depends_on": {"nodes": ["model.shop.stg"]}, "config": {},
        },
    },
    "sources": {"source.shop.raw.orders": {"name": "orders", "resource_type": "source", "source_name": "raw"}},
    "exposures": {
        "exposure.shop.overview": {
            "name": "overview", "label": "Order Overview", "type": "dashboard", "url": "https://bi/2",
            "owner": {"name": "Bo", "email": "bo@example.com"},
            "depends_on": {"nodes": ["model.shop.mart", "model.shop.mid"]},
        }
    },
}  # fmt: skip


async def test_a_dbt_manifest_gives_edges_through_ephemeral_models_and_exposures(tmp_path: Path) -> None:
    file = tmp_path / "manifest.json"
    file.write_text(json.dumps(MANIFEST))
    config = LineageImpactConfig(dbt_manifest=str(file))
    assert await impact_of(config, "raw/orders") == Impact(
        {"staging/stg": 1, "gold/mart": 2, "dim_v2": 3}, ("Order Overview",), ("bo@example.com",), ("dashboard",)
    )
    assert (await impact_of(config, "fx")).assets == {"gold/mart": 1, "dim_v2": 2}
    prefixed = LineageImpactConfig(dbt_manifest=str(file), dbt_key_prefix=("wh",))
    assert (await impact_of(prefixed, "wh/gold/mart")).assets == {"wh/dim_v2": 1}


async def test_what_is_no_manifest_says_so(tmp_path: Path) -> None:
    file = tmp_path / "manifest.json"
    file.write_text("{}")
    with pytest.raises(RetryableError, match="no dbt manifest"):
        await frozen(LineageImpactConfig(dbt_manifest=str(file)), [])


async def test_senseless_options_are_named() -> None:
    config = LineageImpactConfig(graphql=GraphqlOption(url="dagster:3000"), interval=type(GraphqlOption().interval)(0))
    assert [path for path, _ in config.problems()] == ["graphql.url", "interval"]


async def test_what_may_follow_from_others_says_what_it_is_made_from_nearest_first() -> None:
    edges = [Edges("mart", ("b", "a"), 0), Edges("b", ("raw",), 0), Edges("raw", ("mart",), 0)]
    stale = Alert("sla_breach", "failing", "WARNING", "p", 0, 0, 0, asset="mart")
    told = await frozen(LineageImpactConfig(), [*edges, stale, alert("mart")])
    assert [a.upstream for a in told] == [("a", "b", "raw"), ()]
