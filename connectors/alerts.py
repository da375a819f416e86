"""Outcomes → findings: what fails, and what is well again. When to tell whom is decided behind, by `dedup`.

Rules (docs/alerts.md has them in full):
- An asset that was not made is an `asset_failure`, a check that did not pass or raised a `check_failure`, a failed
  step with which neither fails a `run_failure` with its step key. A run's own failure counts only if nothing in it
  failed.
- What a step that makes several assets fails to make at once is one finding, of the step (docs/decisions/0014).
- Only the last attempt counts. A failed blocking check is told once, as the check.
- What was stopped from outside waits for the run's end: of a cancelled run nothing is told.
- A success is told only where something was wrong, and ends only what failed before it. A failure that is read after
  a later success is over at once: partitions of the input are not read in the order of time.
"""

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, Literal

import msgspec

from connectors.alert_backfills import Backfills
from connectors.alert_edges import KnownEdges
from connectors.alert_findings import Findings, LinkTemplates, recovered, template_fault
from connectors.alert_subjects import (
    Subjects,
    asset_subject,
    check_subject,
    failed_ns,
    job_subject,
    step_subject,
    subjects,
)
from connectors.alert_successes import LatestSuccesses
from pipeline import events, facts, outcomes
from pipeline.batch import Batch
from pipeline.components import Connector, ConnectorSpec, Context, Table
from pipeline.events import Event
from pipeline.fingerprint import MASKS, Fingerprinter, Mask, Override
from pipeline.native import HAS_NATIVE, native
from pipeline.outcomes import (
    AssetFailed,
    AssetMaterialized,
    AssetPlanned,
    AssetSkipped,
    CheckEvaluated,
    CheckRaised,
    RunEnded,
    StepEnded,
    StepRaised,
)
from pipeline.signals import Alert, Edges, Signal

Item = Alert | Edges

MAX_ENDED: Final = 1000
"""Failed and cancelled runs that are remembered for the last words of their steps."""


class AlertsConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Finds what fails and what is well again: assets, checks, steps and runs.

    Stands at the end of an events pipeline behind `run_ledger` (and `enrichment`, for owners and overrides), and
    begins an alerts pipeline. Severity is ERROR, WARNING for a check of severity WARN; an asset's metadata
    `alert_severity_override` changes ERROR, `alert_channels` names channels.
    """

    deployment: str = ""
    """Name of the deployment (`prod`): part of fingerprints, so that stages with the same assets are kept apart."""
    resolve: Literal["partition", "asset"] = "partition"
    """When a partitioned asset is well: `partition`: when each partition that failed has succeeded; `asset`: when
    any has."""
    run_url: str = ""
    """Where a run can be seen: `https://dagster.example.com/runs/{run_id}`. All URLs know `{run_id}`, `{trace_id}`,
    `{asset}`, `{job}`, `{step_key}`, `{partition}` and `{check}`."""
    trace_url: str = ""
    """Where its trace can be seen: `https://jaeger.example.com/trace/{trace_id}`."""
    dashboard_url: str = ""
    """Where its asset can be seen: `https://dagster.example.com/assets/{asset}`."""
    strip_prefixes: tuple[str, ...] = ()
    """Folders to leave out of file paths in errors (`/opt/app/`): what is left is relative to the code location."""
    masks: tuple[Mask, ...] = ()
    """Further masks for error messages, applied before the built-in ones."""
    masks_without: tuple[str, ...] = ()
    """Names of built-in masks to leave out: url, email, uuid, time, ip, hex, quoted, path, duration, id, number."""
    overrides: tuple[Override, ...] = ()
    """Failures that share a fingerprint by rule; the first that matches holds."""
    learn_edges: bool = True
    """Tell `lineage_impact` the edges that the event log holds. Off: lineage comes from its other sources alone."""
    max_open: int = 200_000
    """Subjects and partitions that fail at the same time; the recovery of those beyond is not noticed."""
    max_waiting: int = 10_000
    """Runs with interrupted steps that wait for their end; those beyond are told at once."""
    max_edges: int = 200_000
    """Assets whose edges are remembered."""

    def problems(self) -> Iterator[tuple[str, str]]:
        """Path and message of each fault."""
        for name, template in (
            ("run_url", self.run_url),
            ("trace_url", self.trace_url),
            ("dashboard_url", self.dashboard_url),
        ):
            if fault := template_fault(template):
                yield name, fault
        known = [mask.name for mask in MASKS]
        yield from (("masks_without", f"there is no mask {name!r}") for name in self.masks_without if name not in known)


class Waiting(msgspec.Struct, frozen=True):
    """Interrupted failures of one run, until its end says whether somebody cancelled it."""

    findings: tuple[Alert, ...]


class Ended(msgspec.Struct, frozen=True, gc=False):
    """How a run ended that did not succeed: what its steps say later (their last words may follow it) goes with it."""

    canceled: bool
    at_ns: int


class AlertsConnector:
    """Whole-scoped: an asset that failed in one partition of the input may succeed in another."""

    def __init__(self, config: AlertsConfig, context: Context) -> None:
        fingerprinter = Fingerprinter(config.masks, config.masks_without, config.overrides, config.deployment)
        links = LinkTemplates(config.run_url, config.trace_url, config.dashboard_url)
        self._findings = Findings(fingerprinter, links, config.strip_prefixes)
        self._subjects = Subjects(context.state, config.max_open, whole_assets=config.resolve == "asset")
        self._successes = LatestSuccesses(context.state, whole_assets=config.resolve == "asset")
        self._waiting: Table[str, Waiting] = context.state.table("waiting", str, Waiting, version=1)
        self._ended: Table[str, Ended] = context.state.table("ended", str, Ended, version=1)
        self._backfills = Backfills(context.state)
        self._edges = KnownEdges(context.state, config.max_edges) if config.learn_edges else None
        self._config, self._log = config, context.log
        self._full_said = False
        self._told_edges = False
        self._twin = native.AlertSelection(events, facts, outcomes) if HAS_NATIVE else None
        # Looked up by type: most outcomes (planned, inner, skipped) are none of ours and cost one lookup.
        self._handlers: dict[type, Callable[[Event, Any], Sequence[Item]]] = {
            AssetPlanned: self._planned,
            AssetMaterialized: self._materialized,
            AssetFailed: self._assets_failed,
            CheckEvaluated: self._check_evaluated,
            CheckRaised: self._check_raised,
            StepEnded: self._step_ended,
            StepRaised: self._step_raised,
            RunEnded: self._run_ended,
        }

    async def process(self, batch: Batch[Event], /) -> Sequence[Item]:
        """Findings in the order of the events that led to them."""
        self._successes.begin()
        if self._twin is not None:
            edges, said = (self._edges.table, self._edges.said) if self._edges else (None, {})
            failing, parts = self._subjects.table, self._subjects.parts
            tables = failing, parts, self._waiting, edges, said, self._successes.fresh
            given = self._twin.process(batch.items, *tables, self._add)
        else:
            given = []
            for event in batch.items:
                if event.outcomes:
                    self._add(event, given)
        self._successes.keep()
        return given

    def _add(self, event: Event, given: list[Item]) -> None:
        """Add what one event gives."""
        handlers = self._handlers
        failed: list[AssetFailed] = []
        for outcome in event.outcomes:
            handler = handlers.get(type(outcome))
            if handler is None:
                continue
            if failed and not (type(outcome) is AssetFailed and _alike(failed[0], outcome)):
                given += self._assets_failed(event, failed)
                failed = []
            if type(outcome) is AssetFailed:
                failed.append(outcome)
            else:
                given += handler(event, outcome)
        if failed:
            given += self._assets_failed(event, failed)

    async def flush(self, now_ns: int) -> Sequence[Item]:
        """Once after a start, all edges known (docs/decisions/0010)."""
        if self._told_edges:
            return ()
        self._told_edges = True
        return self._edges.all(now_ns) if self._edges else ()

    # --- one outcome each ---

    def _planned(self, event: Event, o: AssetPlanned) -> Sequence[Item]:
        self._backfills.plans(event.run, o, event.now_ns)
        edges = self._edges.exists(o, event.now_ns) if self._edges else None
        return (edges,) if edges else ()

    def _materialized(self, event: Event, o: AssetMaterialized) -> Sequence[Item]:
        given: list[Item] = []
        if self._edges is not None and (edges := self._edges.learn(o, event.now_ns)) is not None:
            given.append(edges)
        name = asset_subject(o.asset)
        given += self._well(event, name, o.partition, o.at_ns, asset=o.asset, job=o.job, run=o.run)
        return given

    def _assets_failed(self, event: Event, together: Sequence[AssetFailed]) -> Sequence[Item]:
        if together[0].failed_check:
            return ()
        planned = self._backfills.partitions(event.run, together[0].asset)
        finding = self._findings.assets_failed(event, together, planned if planned > 1 else 0)
        return self._failed(event, finding, together[0].interrupted)

    def _check_evaluated(self, event: Event, o: CheckEvaluated) -> Sequence[Item]:
        if not o.passed:
            return self._failed(event, self._findings.check_failed(event, o), interrupted=False)
        name = check_subject(o.asset, o.check)
        return self._well(event, name, o.partition, o.at_ns, asset=o.asset, check=o.check, job=o.job, run=o.run)

    def _check_raised(self, event: Event, o: CheckRaised) -> Sequence[Item]:
        return self._failed(event, self._findings.check_raised(event, o), o.interrupted)

    def _step_ended(self, event: Event, o: StepEnded) -> Sequence[Item]:
        if o.status == "success":
            name = step_subject(o.job, o.step)
            return self._well(event, name, None, o.at_ns, job=o.job, step=o.step, run=o.run)
        return ()

    def _step_raised(self, event: Event, o: StepRaised) -> Sequence[Item]:
        return self._failed(event, self._findings.step_failed(event, o), o.interrupted)

    def _run_ended(self, event: Event, o: RunEnded) -> Sequence[Item]:
        waiting = self._waiting.get(o.run)
        if waiting is not None:
            self._waiting.delete(o.run)
        if o.status in ("canceled", "failure"):
            self._remember(o.run, Ended(o.status == "canceled", event.now_ns))
        if o.status == "success":
            return self._well(event, job_subject(o.job), None, o.at_ns, job=o.job, run=o.run)
        if o.status == "canceled":
            return ()
        if waiting is not None:
            return self._told(event, [msgspec.structs.replace(f, now_ns=event.now_ns) for f in waiting.findings])
        if o.status == "failure" and not o.raised:
            unmade = [other for other in event.outcomes if isinstance(other, AssetSkipped)]
            return self._told(event, [self._findings.run_failed(event, o, unmade)])
        return ()

    # --- what comes of it ---

    def _failed(self, event: Event, finding: Alert, interrupted: bool) -> Sequence[Item]:
        if not interrupted or not finding.run_id:
            return self._told(event, [finding])
        ended = self._ended.get(finding.run_id)
        if ended is not None:
            return () if ended.canceled else self._told(event, [finding])
        waiting = self._waiting.get(finding.run_id)
        if waiting is None and len(self._waiting) >= self._config.max_waiting:
            return self._told(event, [finding])
        before = waiting.findings if waiting else ()
        self._waiting.put(finding.run_id, Waiting((*before, finding)))
        return ()

    def _told(self, event: Event, findings: Sequence[Alert]) -> Sequence[Item]:
        given: list[Item] = []
        for finding in findings:
            names, at_ns = subjects(finding), failed_ns(finding)
            if not self._subjects.fail(finding, names) and not self._full_said:
                self._full_said = True
                self._log.warning(
                    "Too many open problems, recoveries of further ones will not be noticed.",
                    extra={"max_open": self._config.max_open},
                )
            given.append(finding)
            partition = finding.partition if finding.asset else None
            for place, name in enumerate(names):
                over_ns = self._successes.latest(name, partition)
                if over_ns > at_ns:
                    asset = finding.assets[place] if finding.assets else finding.asset
                    given += [
                        recovered(healed, event, over_ns, asset, finding.check, finding.step_key, finding.job)
                        for healed in self._subjects.heal(name, partition or "", over_ns)
                    ]
        return given

    def _remember(self, run: str, ended: Ended) -> None:
        self._ended.put(run, ended)
        if len(self._ended) > MAX_ENDED:  # half at once, so that the search is not made each time
            oldest = sorted(self._ended.items(), key=lambda item: (item[1].at_ns, item[0]))
            for key, _ in oldest[: MAX_ENDED // 2]:
                self._ended.delete(key)

    def _well(
        self,
        event: Event,
        name: str,
        partition: str | None,
        at_ns: int,
        **about: str,
    ) -> Sequence[Item]:
        """A subject succeeded. `about`: see `recovered`."""
        at_ns = min(at_ns, event.now_ns)
        self._successes.add(name, partition, at_ns)
        if name not in self._subjects:
            return ()
        return [recovered(healed, event, at_ns, **about) for healed in self._subjects.heal(name, partition, at_ns)]


def _alike(one: AssetFailed, other: AssetFailed) -> bool:
    """Whether one failure is the reason of both, so that one finding tells of both."""
    return (
        (one.several and other.several)
        and (one.run, one.step, one.attempt, one.at_ns) == (other.run, other.step, other.attempt, other.at_ns)
        and (one.partition, one.interrupted, one.failed_check)
        == (other.partition, other.interrupted, other.failed_check)
    )


@asynccontextmanager
async def build(config: AlertsConfig, context: Context) -> AsyncIterator[Connector[Event, Item]]:
    yield AlertsConnector(config, context)


SPEC = ConnectorSpec(
    "alerts",
    AlertsConfig,
    build,
    takes=Signal.EVENTS,
    gives=Signal.ALERTS,
    scope="whole",
    needs=("run_ledger",),
)
