"""Traces and logs of three real Dagster versions' event logs, held against what Dagster's own API said of them."""

import json
from collections import Counter, defaultdict
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from connectors.logs import SPEC as LOGS
from connectors.logs import LogsConfig
from connectors.spans import SPEC as SPANS
from connectors.spans import SpansConfig
from exporters.json_lines import encode_lines
from pipeline.batch import Batch
from pipeline.events import Event
from pipeline.names import TASK_RUN_ID
from pipeline.signals import LogRecord, Span
from pipeline.testing.context import FakeContext
from pipeline.trace_ids import trace_id
from processors.run_ledger import SPEC as LEDGER
from processors.run_ledger import RunLedgerConfig
from receivers.dagster_wire import decode

pytestmark = pytest.mark.anyio

DATA = Path(__file__).parent.parent / "data"
VERSIONS = ("1.7", "1.10", "1.13")
BATCH = 100


@cache
def raw_events(version: str) -> list[bytes]:
    return (DATA / f"dagster-{version}.jsonl").read_bytes().splitlines()


@cache
def truth(version: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((DATA / f"truth-{version}.json").read_bytes())
    return found


def events(version: str) -> list[Event]:
    told = [decode(raw, source="file", offset=n) for n, raw in enumerate(raw_events(version), 1)]
    now = 0
    for event in told:
        now = event.now_ns = max(now, event.at_ns)
    return told


async def followed(version: str) -> tuple[list[Span], list[LogRecord]]:
    spans: list[Span] = []
    records: list[LogRecord] = []
    async with (
        LEDGER.build(RunLedgerConfig(), FakeContext()) as ledger,
        SPANS.build(SpansConfig(), FakeContext()) as to_spans,
        LOGS.build(LogsConfig(), FakeContext()) as to_logs,
    ):
        told = events(version)
        batches = [Batch(told[i : i + BATCH], "s", told[i].now_ns) for i in range(0, len(told), BATCH)]
        done = [await ledger.process(batch) for batch in batches]
        done.append(Batch(await ledger.finish(told[-1].now_ns), "s", told[-1].now_ns))  # type: ignore[attr-defined]
        for batch in done:
            spans.extend(await to_spans.process(batch))
            records.extend(await to_logs.process(batch))
    return spans, records


def attempts(version: str) -> int:
    steps: dict[str, set[tuple[str, str]]] = defaultdict(set)
    restarts = 0
    for raw in raw_events(version):
        entry = json.loads(raw)
        told = entry["dagster_event"]
        if told:
            steps[told["event_type_value"]].add((entry["run_id"], told["step_key"]))
            restarts += told["event_type_value"] == "STEP_RESTARTED"
    return len(steps["STEP_START"]) + restarts + len(steps["STEP_FAILURE"] - steps["STEP_START"])


@pytest.mark.parametrize("version", VERSIONS)
async def test_each_run_is_one_trace_with_one_root_and_a_span_for_each_step_attempt(version: str) -> None:
    spans, _ = await followed(version)
    ids = Counter((s.trace_id, s.span_id) for s in spans)
    assert [i for i, times in ids.items() if times > 1] == []
    assert Counter(s.trace_id for s in spans if not s.parent_id) == {trace_id(r): 1 for r in truth(version)["per_run"]}
    assert [s.name for s in spans if s.parent_id and (s.trace_id, s.parent_id) not in ids] == []
    assert sum(1 for s in spans if TASK_RUN_ID in s.attributes) == attempts(version)


@pytest.mark.parametrize("version", VERSIONS)
async def test_root_spans_in_error_are_the_failed_runs(version: str) -> None:
    spans, _ = await followed(version)
    failed = sum(1 for s in spans if not s.parent_id and s.error is not None)
    assert failed == truth(version)["runs"]["by_status"].get("FAILURE", 0)


@pytest.mark.parametrize("version", VERSIONS)
async def test_no_span_is_negative_and_each_link_leads_to_a_span_of_its_run(version: str) -> None:
    spans, _ = await followed(version)
    ids = {(s.trace_id, s.span_id) for s in spans}
    assert all(s.start_ns <= s.end_ns for s in spans)
    assert all((link.trace_id, link.span_id) in ids for s in spans for link in s.links)
    assert any(s.links for s in spans)


@pytest.mark.parametrize("version", VERSIONS)
async def test_each_materialization_in_a_run_is_an_event_of_a_span(version: str) -> None:
    spans, _ = await followed(version)
    told = Counter(
        e.attributes["dagster.asset.key"] for s in spans for e in s.events if e.name == "dagster.asset.materialization"
    )
    in_runs = Counter(
        e.detail.asset
        for e in events(version)
        if e.type == "ASSET_MATERIALIZATION" and e.run_id  # type: ignore[union-attr]
    )
    assert told == in_runs


@pytest.mark.parametrize("version", VERSIONS)
async def test_each_event_is_one_log_record_with_an_id_of_its_own(version: str) -> None:
    _, records = await followed(version)
    own = [r for r in records if not r.derived]
    assert [r.at_ns for r in own] == [e.at_ns for e in events(version)]
    assert len({r.event_id for r in records}) == len(records)


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_query_by_asset_and_status_counts_what_dagster_counts(version: str) -> None:
    _, records = await followed(version)
    for asset, figures in truth(version)["assets"].items():
        answers = Counter(r.status for r in records if r.asset_name == asset)
        assert (asset, answers["success"]) == (asset, figures["materializations"])
        assert (asset, answers["failure"]) == (asset, figures["failures"])


BEFORE_A_STEP = {"STEP_WORKER_STARTING", "STEP_WORKER_STARTED", "RESOURCE_INIT_STARTED", "RESOURCE_INIT_FAILURE"}


@pytest.mark.parametrize("version", VERSIONS)
async def test_log_records_lead_to_a_span_that_exists_unless_their_attempt_died_before_it_began(version: str) -> None:
    spans, records = await followed(version)
    ids = {(s.trace_id, s.span_id) for s in spans}
    nowhere = [r.event for r in records if r.trace_id and (r.trace_id, r.span_id) not in ids]
    assert set(nowhere) <= BEFORE_A_STEP
    assert len(nowhere) < 5


@pytest.mark.parametrize("version", VERSIONS)
async def test_no_error_is_logged_that_is_none(version: str) -> None:
    _, records = await followed(version)
    assert not [r for r in records if r.level == "ERROR" and "Not executing" in r.message]
    assert {r.level for r in records} >= {"DEBUG", "INFO", "WARNING", "ERROR"}


@pytest.mark.parametrize("version", VERSIONS)
async def test_lines_are_valid_json_and_the_same_each_time(version: str) -> None:
    first, again = await followed(version), await followed(version)
    for one, two in zip(first, again, strict=True):
        assert encode_lines(one) == encode_lines(two)
        for line in encode_lines(one).splitlines():
            json.loads(line)
