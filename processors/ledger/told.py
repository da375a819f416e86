"""Outcomes and the events of our own, made from an event's detail and the state that it led to. Pure.

Nothing here decides whether something is told; see `ledger` for that.
"""

from collections.abc import Iterator
from typing import Final

import msgspec

from pipeline import events as ev
from pipeline.events import Event
from pipeline.facts import ErrorInfo
from pipeline.outcomes import (
    AssetFailed,
    AssetGone,
    AssetMaterialized,
    AssetObserved,
    CheckEvaluated,
    FreshnessState,
    Outcome,
    RunEnded,
    RunStatus,
    StepEnded,
    StepStatus,
)
from processors.ledger.states import Failure, RunState, StepState
from processors.ledger.steps import Closed

UNFINISHED: Final = "RUN_UNFINISHED"
"""`Event.type` of an event of our own (`raw` is b""): it carries the outcomes of a run closed as unfinished."""
NOT_ITS_FAULT: Final = frozenset({"UPSTREAM_FAILED_TO_MATERIALIZE", "SKIPPED_OPTIONAL", "RUN_TERMINATED"})
"""Reasons of an ASSET_FAILED_TO_MATERIALIZE that are no failure of the asset."""

_BLOCKED: Final = "DagsterAssetCheckFailedError"
_INTERRUPTED: Final = "DagsterExecutionInterruptedError"
_KEPT_TEXT: Final = 4096
_KEPT_FRAMES: Final = 16


def runless(event: Event) -> Iterator[Outcome]:
    detail = event.detail
    if isinstance(detail, ev.Materialized):
        yield made(event, detail, execution=False, began_ns=None)
    elif isinstance(detail, ev.MaterializationFailed):
        if detail.reason not in NOT_ITS_FAULT:
            yield said_to_fail(event, detail)
    else:
        yield from told_anyway(event)


def told_anyway(event: Event) -> Iterator[Outcome]:
    """What stands for itself, whatever the run."""
    detail = event.detail
    if isinstance(detail, ev.Observed):
        yield seen(event, detail)
    elif isinstance(detail, ev.CheckResult):
        yield evaluated(event, detail, None)
    elif isinstance(detail, ev.FreshnessChanged):
        yield FreshnessState(detail.asset, detail.state, detail.previous, detail.at_ns or event.at_ns)
    elif isinstance(detail, ev.AssetWiped):
        yield AssetGone(detail.asset, detail.partitions, event.at_ns)


def made(event: Event, detail: ev.Materialized, execution: bool, began_ns: int | None) -> AssetMaterialized:
    return AssetMaterialized(
        run=event.run_id,
        job=event.job,
        step=event.step_key,
        attempt=event.attempt,
        asset=detail.asset,
        partition=detail.partition,
        at_ns=event.at_ns,
        duration_ns=None if began_ns is None else max(0, event.at_ns - began_ns),
        execution=execution,
        metadata=detail.metadata,
        tags=detail.tags,
    )


def said_to_fail(event: Event, detail: ev.MaterializationFailed) -> AssetFailed:
    return AssetFailed(
        event.run_id, event.job, event.step_key, event.attempt, detail.asset, detail.partition, event.at_ns, None,
        detail.error,
    )  # fmt: skip


def seen(event: Event, detail: ev.Observed) -> AssetObserved:
    return AssetObserved(
        event.run_id, event.job, detail.asset, detail.partition, event.at_ns, detail.metadata, detail.tags
    )


def evaluated(event: Event, detail: ev.CheckResult, rows: int | None) -> CheckEvaluated:
    return CheckEvaluated(
        event.run_id, event.job, event.step_key, detail.asset, detail.check, detail.passed, detail.severity,
        detail.blocking, detail.partition, event.at_ns, detail.description, detail.metadata, rows,
    )  # fmt: skip


def verdict(event: Event) -> tuple[RunStatus, ErrorInfo | None, str]:
    detail = event.detail
    if event.type == "PIPELINE_SUCCESS":
        return "success", None, ""
    if event.type == "PIPELINE_CANCELED":
        return "canceled", detail.error if isinstance(detail, ev.RunCanceled) else None, ""
    return ("failure", detail.error, detail.reason) if isinstance(detail, ev.RunFailed) else ("failure", None, "")


def run_ended(
    run_id: str, run: RunState, at_ns: int, error: ErrorInfo | None, reason: str, late: bool = False
) -> RunEnded:
    return RunEnded(
        run=run_id,
        job=run.job,
        status=run.status or "unfinished",
        at_ns=at_ns,
        started_ns=run.first_ns if run.started_ns is None else run.started_ns,
        enqueued_ns=run.enqueued_ns,
        starting_ns=run.starting_ns,
        error=error,
        reason=reason,
        raised=run.raised,
        late=late,
        phase=run.phase if run.status == "unfinished" else "ended",
    )


def attempt_ended(
    event: Event, run: RunState, step: StepState, closed: Closed, status: StepStatus, error: ErrorInfo | None = None
) -> StepEnded:
    """An attempt that this event ended."""
    return step_ended(event.run_id, run, event.step_key, step, closed, status, event.at_ns, error)


def attempt_failed(event: Event, run: RunState, step: StepState, closed: Closed, failure: Failure) -> StepEnded:
    """An attempt that a STEP_FAILURE ended."""
    return step_ended(
        event.run_id, run, event.step_key, step, closed, "failure", event.at_ns, failure.error,
        failure.interrupted, failure.failed_check,
    )  # fmt: skip


def step_ended(
    run_id: str,
    run: RunState,
    key: str,
    step: StepState,
    closed: Closed,
    status: StepStatus,
    at_ns: int,
    error: ErrorInfo | None = None,
    interrupted: bool = False,
    failed_check: bool = False,
) -> StepEnded:
    """An attempt that is over, whatever ended it."""
    began_ns = closed.started_ns
    return StepEnded(
        run_id,
        run.job,
        key,
        closed.attempt,
        status,
        at_ns,
        began_ns if began_ns < at_ns else at_ns,
        step.kind,
        step.assets,
        _partition(run, step.assets),
        error,
        interrupted,
        failed_check,
        closed.begun,
    )


def _partition(run: RunState, assets: tuple[str, ...]) -> str | None:
    """The one that the step's assets have in common; the run's for a step without planned assets."""
    planned = [state for asset in assets if (state := run.assets.get(asset)) is not None and state.planned]
    if not planned:
        return run.partition
    first = planned[0]
    return first.one_partition if all(s.one_partition == first.one_partition for s in planned) else None


def failure_of(event: Event, run: RunState, step: StepState) -> Failure:
    """What a STEP_FAILURE says."""
    detail = event.detail if isinstance(event.detail, ev.StepFailed) else ev.StepFailed(None)
    error = detail.error
    return Failure(
        step=event.step_key,
        attempt=step.attempt,
        at_ns=event.at_ns,
        started_ns=step.started_ns if step.attempt else None,
        error=error,
        interrupted=detail.source == "INTERRUPT" or (error is not None and error.type == _INTERRUPTED),
        failed_check=error is not None and _BLOCKED in error.chain,
        partition=_partition(run, step.assets),
    )


def lighter(failure: Failure) -> Failure:
    """The same with an error that state can bear."""
    error = failure.error
    if error is None or _is_light(error):
        return failure
    short = msgspec.structs.replace(
        error, stack=error.stack[:_KEPT_TEXT], message=error.message[:_KEPT_TEXT], frames=error.frames[-_KEPT_FRAMES:]
    )
    return msgspec.structs.replace(failure, error=short)


def _is_light(error: ErrorInfo) -> bool:
    return len(error.stack) <= _KEPT_TEXT and len(error.message) <= _KEPT_TEXT and len(error.frames) <= _KEPT_FRAMES


def row_count(detail: ev.Materialized) -> int | None:
    rows = detail.metadata.get("dagster/row_count")
    return rows if type(rows) is int and -(2**63) <= rows < 2**63 else None


def since(at_ns: int, duration_ms: float) -> int | None:
    """When something that took so long began; None for a duration that cannot be."""
    return at_ns - int(duration_ms * 1_000_000) if 0 <= duration_ms * 1_000_000 <= at_ns else None


def carrier(run_id: str, run: RunState, now_ns: int, why: str, source: str) -> Event:
    return Event(
        raw=b"",
        type=UNFINISHED,
        run_id=run_id,
        at_ns=run.last_ns,
        level=30,
        job=run.job,
        step_key="",
        message=why,
        source=source,
        record_ns=run.last_ns,
        now_ns=now_ns,
    )
