"""The webserver's answer becomes asset facts, whatever the version of Dagster."""

import json
import re
from pathlib import Path

import msgspec
import pytest

from pipeline.asset_graph import TYPES, asset_query, fetch_asset_graph, merged, parse_asset_nodes
from pipeline.errors import DecodeError, RetryableError
from pipeline.http import Response
from pipeline.lineage import AssetFacts, Catalog, Freshness
from pipeline.testing.context import FakeHttp

DATA = Path(__file__).parent / "data"
ANSWER = (DATA / "asset-graph.json").read_bytes()
TRUTH = json.loads((DATA / "truth-lineage.json").read_text())["assets"]


def test_every_asset_has_the_parents_group_and_owners_that_dagster_knows() -> None:
    graph = parse_asset_nodes(ANSWER)
    assert {
        key: (sorted(f.upstream), f.group, sorted(f.owners), sorted(f.kinds), f.executable) for key, f in graph.items()
    } == {
        key: (sorted(t["parents"]), t["group"], sorted(t["owners"]), sorted(t["kinds"]), t["executable"])
        for key, t in TRUTH.items()
    }


def test_the_impact_of_every_asset_is_dagsters_own() -> None:
    catalog = Catalog(parse_asset_nodes(ANSWER))
    assert {key: catalog.impact(key).assets for key in TRUTH} == {key: t["downstream"] for key, t in TRUTH.items()}


def test_metadata_freshness_checks_and_location_are_read() -> None:
    facts = parse_asset_nodes(ANSWER)["marts/daily_revenue"]
    assert facts.metadata == {"alert_severity_override": "CRITICAL", "alert_channels": '["slack", "pagerduty"]'}
    assert facts.freshness == Freshness(fail_s=86400, warn_s=43200)
    assert facts.checks == ("total_matches_ledger",)
    assert facts.code_location == "shop"
    assert facts.jobs == ("__ASSET_JOB", "daily_refresh")
    assert facts.tags["tier"] == "1"
    assert facts.partitioned


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        ({"text": "x"}, "x"),
        ({"intRepr": "24"}, "24"),
        ({"floatValue": 0.5}, "0.5"),
        ({"floatRepr": "0.5", "floatValue": 0.5}, "0.5"),
        ({"boolValue": False}, "false"),
        ({"mdStr": "# x"}, "# x"),
    ],
)
def test_plain_metadata_is_text(entry: dict[str, object], text: str) -> None:
    node = {"assetKey": {"path": ["a"]}, "metadataEntries": [{"label": "l", **entry}, {"label": "table"}]}
    assert parse_asset_nodes(json.dumps({"assetNodes": [node]}).encode())["a"].metadata == {"l": text}


def test_the_answer_may_stand_without_graphqls_data() -> None:
    assert parse_asset_nodes(json.dumps(json.loads(ANSWER)["data"]).encode()) == parse_asset_nodes(ANSWER)


def test_an_old_answer_without_the_new_fields_is_read() -> None:
    node = {"assetKey": {"path": ["raw", "orders"]}, "computeKind": "dlt", "dependencyKeys": None, "opNames": ["x"]}
    assert parse_asset_nodes(json.dumps({"assetNodes": [node]}).encode()) == {
        "raw/orders": AssetFacts("raw/orders", kinds=("dlt",))
    }


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"<html>", "no answer"),
        (b"[]", "no answer"),
        (b"{}", "no assetNodes"),
        (b'{"data":null,"errors":[{"message":"Cannot query field \\"kinds\\""}]}', "Cannot query field"),
        (b'{"data":{"assetNodes":[{"assetKey":7}]}}', "no answer"),
        (b"[" * 100_000, "no answer"),
    ],
)
def test_what_is_no_answer_says_why(answer: bytes, said: str) -> None:
    with pytest.raises(DecodeError, match=said):
        parse_asset_nodes(answer)


def test_an_asset_of_two_code_locations_is_the_one_that_makes_it_with_the_edges_of_both() -> None:
    reader = AssetFacts("a", upstream=("x",), code_location="reads", executable=False, tags={"t": "reader"})
    maker = AssetFacts("a", upstream=("y",), code_location="makes", owners=("team:m",), tags={"t": "maker"})
    (joined,) = merged({"a": reader}, {"a": maker}).values()
    assert (set(joined.upstream), joined.code_location, joined.executable) == ({"x", "y"}, "makes", True)
    assert joined.tags == {"t": "maker"}
    assert joined == merged({"a": maker}, {"a": reader})["a"]


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ('{"maximumLagMinutes": 120.0, "cronSchedule": null}', Freshness(fail_s=7200)),
        (
            '{"maximumLagMinutes": 60, "cronSchedule": "0 9 * * *", "cronScheduleTimezone": "Europe/Berlin"}',
            Freshness(deadline_cron="0 9 * * *", lower_bound_s=3600, timezone="Europe/Berlin"),
        ),
        (
            '{"maximumLagMinutes": 60, "cronSchedule": "0 9 * * *", "cronScheduleTimezone": null}',
            Freshness(deadline_cron="0 9 * * *", lower_bound_s=3600, timezone="UTC"),
        ),
        ("null", None),
    ],
)
def test_a_policy_of_before_1_10_is_read(policy: str, expected: Freshness | None) -> None:
    node = f'{{"assetKey": {{"path": ["a"]}}, "freshnessPolicy": null, "legacyFreshnessPolicy": {policy}}}'
    assert parse_asset_nodes(b'{"assetNodes": [%s]}' % node.encode())["a"].freshness == expected


def test_a_new_policy_goes_before_an_old_one() -> None:
    answer = b"""{"assetNodes": [{"assetKey": {"path": ["a"]}, "freshnessPolicy": {"failWindowSeconds": 60},
        "legacyFreshnessPolicy": {"maximumLagMinutes": 120.0}}]}"""
    assert parse_asset_nodes(answer)["a"].freshness == Freshness(fail_s=60)


def test_the_query_asks_for_nothing_that_the_webserver_does_not_know() -> None:
    query = asset_query({"assetKey", "dependencyKeys", "metadataEntries", "owners"}, {"UserAssetOwner"})
    assert query == (
        "{ assetNodes { assetKey { path } dependencyKeys { path } "
        "owners { __typename ... on UserAssetOwner { email } } metadataEntries { __typename label } } }"
    )


def test_the_docs_ask_for_all_that_is_read() -> None:
    docs = (DATA.parents[1] / "docs" / "lineage.md").read_text()
    fields = {
        "assetKey", "dependencyKeys", "groupName", "description", "kinds", "computeKind", "jobNames", "isExecutable",
        "isPartitioned", "tags", "repository", "owners", "internalFreshnessPolicy", "freshnessPolicy",
        "metadataEntries", "assetChecksOrError",
    }  # fmt: skip
    words = set(re.findall(r"\w+", asset_query(fields)))
    assert words - set(re.findall(r"\w+", docs)) == set()


def webserver(fields: list[str], types: list[str], answer: bytes) -> FakeHttp:
    """Answers as GraphQL does: the schema, then the query if it names nothing unknown."""

    def reply(method: str, url: str, body: bytes) -> Response:
        assert (method, url) == ("POST", "http://dagster:3000/graphql")
        query = json.loads(body)["query"]
        if "__schema" in query:
            schema = {
                "assetNode": {"fields": [{"name": f} for f in fields]},
                "__schema": {"types": [{"name": t} for t in types]},
            }
            return Response(200, {}, json.dumps({"data": schema}).encode())
        if "internalFreshnessPolicy" in query and "internalFreshnessPolicy" not in fields:
            return Response(400, {}, b'{"errors":[{"message":"Cannot query field internalFreshnessPolicy"}]}')
        return Response(200, {}, answer)

    return FakeHttp(reply)


@pytest.mark.anyio
async def test_the_schema_is_asked_first_and_an_old_webserver_answers() -> None:
    http = webserver(["assetKey", "dependencyKeys", "groupName"], sorted(TYPES), ANSWER)
    graph = await fetch_asset_graph(http, "http://dagster:3000", {"Dagster-Cloud-Api-Token": "t"})
    assert len(graph) == len(TRUTH)
    assert [r[3]["Dagster-Cloud-Api-Token"] for r in http.requests] == ["t", "t"]


@pytest.mark.anyio
@pytest.mark.parametrize(
    "response", [Response(401, {}, b"no"), Response(200, {}, b"<html>"), Response(200, {}, b'{"data":{}}')]
)
async def test_whatever_goes_wrong_is_tried_again_later(response: Response) -> None:
    with pytest.raises(RetryableError, match="dagster"):
        await fetch_asset_graph(FakeHttp(lambda *_: response), "http://dagster:3000/graphql")


def test_facts_survive_the_state_table() -> None:
    graph = parse_asset_nodes(ANSWER)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(graph), type=dict[str, AssetFacts]) == graph
