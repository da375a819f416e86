"""Run rows as Dagster stores them, and the header that carries them."""

import json

import pytest

from pipeline.errors import DecodeError
from pipeline.facts import RunFacts
from pipeline.run_rows import RunRow, decode_header, encode_header, run_row

BODY = {
    "__class__": "PipelineRun",
    "external_pipeline_origin": {
        "__class__": "ExternalPipelineOrigin",
        "external_repository_origin": {
            "__class__": "ExternalRepositoryOrigin",
            "repository_location_origin": {"__class__": "GrpcServerRepositoryLocationOrigin", "location_name": "shop"},
            "repository_name": "__repository__",
        },
    },
    "parent_run_id": "parent",
    "root_run_id": "root",
    "run_config": {},
    "tags": {".dagster/grpc_info": "{}", "dagster/partition": "2026-03-01", "team": "old"},
}


def test_a_row_is_the_body_and_its_tags_without_the_hidden_ones() -> None:
    row = run_row(json.dumps(BODY), [("team", "new"), ("dagster/backfill", "b1"), (".dagster/x", "y"), ("none", None)])
    assert row == RunRow(
        tags={"dagster/partition": "2026-03-01", "team": "new", "dagster/backfill": "b1"},
        parent_run_id="parent",
        root_run_id="root",
        code_location="shop",
    )


def test_facts_take_partition_and_backfill_out_of_the_tags() -> None:
    row = run_row(json.dumps(BODY), [("dagster/backfill", "b1")])
    assert row.facts() == RunFacts(
        tags=row.tags,
        code_location="shop",
        partition="2026-03-01",
        backfill="b1",
        parent_run_id="parent",
        root_run_id="root",
    )


@pytest.mark.parametrize(
    ("tags", "location"),
    [
        ({".dagster/repository": "__repository__@shop"}, "shop"),
        ({"dagster/code_location": "shop", ".dagster/repository": "r@other"}, "shop"),
        ({}, ""),
    ],
)
def test_without_an_origin_the_tags_tell_the_code_location(tags: dict[str, str], location: str) -> None:
    assert run_row(json.dumps({"tags": tags, "external_pipeline_origin": None})).code_location == location


def test_a_body_with_nan_in_the_run_configuration_is_read() -> None:
    assert run_row('{"run_config": {"x": NaN}, "tags": {"a": "b", "n": 1}}').tags == {"a": "b"}


@pytest.mark.parametrize(
    "body", ["", "{", "[]", "null", '{"tags": 3}', "[" * 100_000, '{"tags": {"a": "b"}, "root_run_id": 1}']
)
def test_a_body_that_is_no_run_leaves_the_stored_tags(body: str) -> None:
    assert run_row(body, [("team", "x")]) == RunRow(tags={"team": "x"})


def test_a_header_comes_back_as_it_went() -> None:
    row = run_row(json.dumps(BODY))
    assert decode_header(encode_header(row)) == row


@pytest.mark.parametrize("value", [b"", b"[]", b"\xff", b'{"tags": [1]}', b'{"tags":' * 5000])
def test_a_header_of_another_shape_is_an_error(value: bytes) -> None:
    with pytest.raises(DecodeError, match="header dagster-run"):
        decode_header(value)
