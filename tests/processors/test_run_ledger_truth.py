"""The ledger's outcomes alone give every figure that Dagster's own API gave."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from pipeline.batch import Batch
from pipeline.events import Event
from pipeline.outcomes import (
    AssetFailed,
    AssetMaterialized,
    AssetObserved,
    AssetSkipped,
    CheckEvaluated,
    Outcome,
    RunEnded,
    StepEnded,
)
from pipeline.testing.context import FakeContext
from processors.run_ledger import RunLedger, RunLedgerConfig
from receivers.dagster_wire import decode

DATA = Path(__file__).parents[1] / "data"
VERSIONS = ("1.13", "1.10", "1.7")


def recorded(version: str) -> list[Event]:
    lines = (DATA / f"dagster-{version}.jsonl").read_bytes().splitlines()
    events = [decode(line, source="file", offset=place) for place, line in enumerate(lines, 1)]
    now_ns = 0
    for event in events:
        event.now_ns = now_ns = max(now_ns, event.at_ns)
    return events


def truth_of(version: str) -> dict[str, Any]:
    truth: dict[str, Any] = json.loads((DATA / f"truth-{version}.json").read_text())
    return truth


async def followed(version: str) -> list[Event]:
    events = recorded(version)
    ledger = RunLedger(RunLedgerConfig(), FakeContext())
    await ledger.process(Batch(events, "file", events[-1].now_ns))
    assert await ledger.finish(events[-1].now_ns) == []
    return events


def outcomes_of(events: list[Event]) -> list[Outcome]:
    return [outcome for event in events for outcome in event.outcomes]


@pytest.mark.anyio
@pytest.mark.parametrize("version", VERSIONS)
async def test_executions_failures_and_rows_of_every_asset_are_the_truth(version: str) -> None:
    figures: dict[str, Counter[str]] = {asset: Counter() for asset in truth_of(version)["assets"]}
    rows: dict[str, tuple[int, object]] = {}
    for outcome in outcomes_of(await followed(version)):
        if isinstance(outcome, AssetMaterialized):
            figures[outcome.asset]["materializations"] += 1
            figures[outcome.asset]["executions"] += outcome.execution
            figures[outcome.asset]["runless"] += outcome.run == ""
            count = outcome.metadata.get("dagster/row_count")
            if count is not None and outcome.at_ns >= rows.get(outcome.asset, (0, None))[0]:
                rows[outcome.asset] = (outcome.at_ns, count)
        elif isinstance(outcome, AssetFailed):
            figures[outcome.asset]["executions"] += 1
            figures[outcome.asset]["failures"] += 1
        elif isinstance(outcome, AssetSkipped):
            figures[outcome.asset]["not_executed"] += 1
        elif isinstance(outcome, AssetObserved):
            figures[outcome.asset]["observations"] += 1
    for asset, told in truth_of(version)["assets"].items():
        names = ("materializations", "runless", "executions", "failures", "not_executed", "observations")
        assert {name: figures[asset][name] for name in names} == {name: told[name] for name in names}, asset
        assert rows.get(asset, (0, None))[1] == told["last_row_count"], asset


@pytest.mark.anyio
@pytest.mark.parametrize("version", VERSIONS)
async def test_checks_passed_and_failed_are_the_truth(version: str) -> None:
    figures: Counter[tuple[str, str]] = Counter()
    for outcome in outcomes_of(await followed(version)):
        if isinstance(outcome, CheckEvaluated):
            result = "passed" if outcome.passed else f"failed_{outcome.severity.lower()}"
            figures[f"{outcome.asset}:{outcome.check}", result] += 1
    for name, told in truth_of(version)["checks"].items():
        for result in ("passed", "failed_warn", "failed_error"):
            assert figures[name, result] == told[result], name


@pytest.mark.anyio
@pytest.mark.parametrize("version", VERSIONS)
async def test_every_run_ends_once_with_its_true_status_and_job(version: str) -> None:
    runs = [outcome for outcome in outcomes_of(await followed(version)) if isinstance(outcome, RunEnded)]
    told = {run: (facts["job"], facts["status"].lower()) for run, facts in truth_of(version)["per_run"].items()}
    assert {run.run: (run.job, run.status) for run in runs} == told
    assert len(runs) == truth_of(version)["runs"]["total"]
    assert not any(run.late for run in runs)


@pytest.mark.anyio
@pytest.mark.parametrize("version", VERSIONS)
async def test_every_step_attempt_ends_once(version: str) -> None:
    events = await followed(version)
    attempts = [outcome for outcome in outcomes_of(events) if isinstance(outcome, StepEnded)]
    started = {(e.run_id, e.step_key) for e in events if e.type == "STEP_START"}
    failed = {(e.run_id, e.step_key) for e in events if e.type == "STEP_FAILURE"}
    restarts = sum(e.type == "STEP_RESTARTED" for e in events)
    assert len(attempts) == len(started) + restarts + len(failed - started)
    assert len({(a.run, a.step, a.attempt) for a in attempts}) == len(attempts)
    retries = Counter(a.step for a in attempts if a.status == "retry")
    assert retries == {step: n["STEP_UP_FOR_RETRY"] for step, n in truth_of(version)["retries"].items()}
    assert Counter(a.step for a in attempts if a.status == "failure") == truth_of(version)["step_failures"]


@pytest.mark.anyio
@pytest.mark.parametrize("version", VERSIONS)
async def test_errors_are_those_that_people_would_name(version: str) -> None:
    groups: Counter[str] = Counter()
    for outcome in outcomes_of(await followed(version)):
        if isinstance(outcome, StepEnded) and outcome.status == "failure":
            groups[f"{outcome.step} | {outcome.error.type if outcome.error else None}"] += 1
    assert groups == truth_of(version)["failure_groups"]
