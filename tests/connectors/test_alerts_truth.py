"""On Dagster's recorded event logs: each failure group is one problem, and nothing that is none is told."""

import json
from collections import Counter
from pathlib import Path

import pytest

from connectors.alerts import AlertsConfig, AlertsConnector
from pipeline.batch import WHOLE, Batch
from pipeline.options import Duration
from pipeline.signals import Alert, Edges
from pipeline.testing.context import FakeContext
from processors.dedup import Dedup, DedupConfig
from processors.run_ledger import RunLedger, RunLedgerConfig
from receivers.dagster_wire import decode

pytestmark = pytest.mark.anyio

DATA = Path(__file__).parents[1] / "data"
VERSIONS = ("1.13", "1.10", "1.7")
NO_ALERT = {"DagsterExecutionInterruptedError"}  # its run was cancelled
FIXED = "marts/daily_revenue:total_matches_ledger"  # the blocking check that passed again in 1.13's log


async def found(version: str) -> list[Alert | Edges]:
    lines = (DATA / f"dagster-{version}.jsonl").read_bytes().splitlines()
    events = [decode(line, source="file", offset=place) for place, line in enumerate(lines, 1)]
    now_ns = 0
    for event in events:
        event.now_ns = now_ns = max(now_ns, event.at_ns)
    await RunLedger(RunLedgerConfig(), FakeContext()).process(Batch(events, "file", now_ns))
    return list(await AlertsConnector(AlertsConfig(), FakeContext()).process(Batch(events, WHOLE, now_ns)))


async def failing(version: str) -> list[Alert]:
    return [a for a in await found(version) if isinstance(a, Alert) and a.state == "failing"]


def truth_of(version: str) -> dict[str, dict[str, dict[str, int]]]:
    truth: dict[str, dict[str, dict[str, int]]] = json.loads((DATA / f"truth-{version}.json").read_text())
    return truth


@pytest.mark.parametrize("version", VERSIONS)
async def test_each_failure_group_is_one_fingerprint_and_each_of_its_failures_is_counted(version: str) -> None:
    groups = {g: n for g, n in truth_of(version)["failure_groups"].items() if g.split(" | ")[1] not in NO_ALERT}
    told = [a for a in await failing(version) if a.error is not None and a.step_key]
    by_group = Counter(f"{a.step_key} | {a.error.type if a.error else ''}" for a in told)
    assert by_group == groups
    assert len({a.fingerprint for a in told}) == len(groups)


@pytest.mark.parametrize("version", ["1.10", "1.7"])
async def test_a_run_without_a_failed_step_is_told_as_the_run(version: str) -> None:
    (run,) = [a for a in await failing(version) if a.kind == "run_failure" and not a.step_key]
    assert (run.job, run.error and run.error.type) == ("warehouse_ping", "DagsterSubprocessError")


@pytest.mark.parametrize("version", VERSIONS)
async def test_every_failed_check_is_told_by_its_severity(version: str) -> None:
    told: dict[str, Counter[str]] = {}
    for alert in await failing(version):
        if alert.kind == "check_failure" and alert.error is None:
            told.setdefault(f"{alert.asset}:{alert.check}", Counter())[alert.severity] += 1
    assert told == {
        key: Counter({name: n for name, n in (("WARNING", t["failed_warn"]), ("ERROR", t["failed_error"])) if n})
        for key, t in truth_of(version)["checks"].items()
        if t["failed_warn"] or t["failed_error"]
    }


async def test_the_same_problem_has_the_same_fingerprint_under_every_version_of_dagster() -> None:
    prints = {v: {a.fingerprint for a in await failing(v) if a.asset and a.error} for v in VERSIONS}
    assert prints["1.7"] < prints["1.10"] < prints["1.13"]


@pytest.mark.parametrize("version", VERSIONS)
async def test_people_get_one_message_a_problem(version: str) -> None:
    items = await found(version)
    dedup = Dedup(DedupConfig(group_wait=Duration("0s")), FakeContext())
    told = (await dedup.process(Batch(items, WHOLE, 0))).items
    states = Counter((a.state, a.fingerprint) for a in told if isinstance(a, Alert))
    assert set(states.values()) == {1}
    assert {f"{a.asset}:{a.check}" for a in told if isinstance(a, Alert) and a.state == "resolved"} == (
        {FIXED} if version == "1.13" else set()
    )


@pytest.mark.parametrize("version", VERSIONS)
async def test_the_stream_alone_tells_the_edges_of_what_was_materialized(version: str) -> None:
    upstream = {e.asset: e.upstream for e in await found(version) if isinstance(e, Edges)}
    lineage = json.loads((DATA / "truth-lineage.json").read_text())["assets"]
    assert sum(map(len, upstream.values())) == 35
    assert all(set(parents) <= set(lineage[asset]["parents"]) for asset, parents in upstream.items())
