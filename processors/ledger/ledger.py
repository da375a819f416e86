"""One event in, what it means out: the events of Dagster's log as steps of a run's life.

Theory of operation. An event belongs to a run, mostly to a step of it. Its handler changes the run's and the step's
state and gives the outcomes that follow from it now; nothing is given twice, whatever is repeated, late or out of
order, because each fate (a run's, an attempt's, an asset's) is decided once and remembered. At a run's end whatever is
still undecided is decided. PIPELINE_FAILURE repeats the first step failure and STEP_OUTPUT a materialization's
metadata: neither counts.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Final, TypeAlias

import msgspec

from pipeline import events as ev
from pipeline.events import LOG, Event
from pipeline.facts import ErrorInfo
from pipeline.outcomes import (
    AssetFailed,
    AssetGone,
    AssetMaterialized,
    AssetObserved,
    AssetPlanned,
    CheckEvaluated,
    FreshnessState,
    Outcome,
    RunEnded,
    RunStatus,
    StepEnded,
    StepStatus,
)
from processors.ledger import assets, inner, steps
from processors.ledger.book import Book, digest, was_counted
from processors.ledger.states import AssetState, Failure, RunState, StepState, Tombstone
from processors.ledger.steps import Closed

UNFINISHED: Final = "RUN_UNFINISHED"
"""`Event.type` of an event of our own (`raw` is b""): it carries the outcomes of a run closed as unfinished."""

Outcomes: TypeAlias = Sequence[Outcome]

_IDLE: Final = frozenset({LOG, "ENGINE_EVENT", "LOGS_CAPTURED", "HOOK_COMPLETED", "HOOK_SKIPPED", "HOOK_ERRORED"})
"""Also said of runs that were over before we came: a run of which only these speak is not closed as unfinished."""
_HERALDS: Final = frozenset(
    {"STEP_WORKER_STARTING", "STEP_WORKER_STARTED"}
    | {"RESOURCE_INIT_STARTED", "RESOURCE_INIT_SUCCESS", "RESOURCE_INIT_FAILURE"}
)
"""What comes before an attempt begins: its process, its resources."""
_PLANS: Final = frozenset({"ASSET_MATERIALIZATION_PLANNED", "ASSET_CHECK_EVALUATION_PLANNED"})
_BLOCKED: Final = "DagsterAssetCheckFailedError"
_INTERRUPTED: Final = "DagsterExecutionInterruptedError"
_NOT_ITS_FAULT: Final = frozenset({"UPSTREAM_FAILED_TO_MATERIALIZE", "SKIPPED_OPTIONAL", "RUN_TERMINATED"})
_ATTEMPT: Final = re.compile(r"\(attempt # (\d{1,6})\)")
_KEPT_TEXT: Final = 4096


class Ledger:
    """Annotates events in order. Pure: no clock, no I/O; all it knows is in the book."""

    def __init__(self, book: Book) -> None:
        self._book = book
        self._in_run: dict[str, Callable[[Event, RunState], Outcomes]] = {
            "PIPELINE_ENQUEUED": self._enqueued,
            "PIPELINE_STARTING": self._starting,
            "PIPELINE_START": self._started,
            "PIPELINE_SUCCESS": self._ended,
            "PIPELINE_FAILURE": self._ended,
            "PIPELINE_CANCELED": self._ended,
            "ASSET_MATERIALIZATION_PLANNED": self._asset_planned,
            "ASSET_CHECK_EVALUATION_PLANNED": self._check_planned,
            "ASSET_MATERIALIZATION": self._materialized,
            "ASSET_OBSERVATION": self._observed,
            "ASSET_CHECK_EVALUATION": self._checked,
            "ASSET_FAILED_TO_MATERIALIZE": self._said_to_fail,
        }
        self._in_step: dict[str, Callable[[Event, RunState, StepState], Outcomes]] = {
            "STEP_START": self._step_started,
            "STEP_RESTARTED": self._step_restarted,
            "STEP_UP_FOR_RETRY": self._step_up_for_retry,
            "STEP_SUCCESS": self._step_succeeded,
            "STEP_FAILURE": self._step_failed,
            "STEP_OUTPUT": self._output_yielded,
            "STEP_INPUT": self._input_taken,
            "HANDLED_OUTPUT": self._io_handled,
            "LOADED_INPUT": self._io_handled,
            "STEP_WORKER_STARTING": self._attempt_heralded,
            LOG: self._logged,
        }

    def take(self, event: Event) -> None:
        """Set the event's `attempt`, `assets` and `outcomes`."""
        run_id = event.run_id
        if not run_id:
            event.outcomes = tuple(_runless(event))
            return
        run = self._book.run(run_id)
        if run is None:
            tombstone = self._book.ended.get(run_id)
            if tombstone is not None:
                event.attempt = 1 if event.step_key else 0
                event.outcomes = tuple(self._after_the_end(event, tombstone))
                return
            run = self._book.open(event)
        if not run.status:
            _heard(run, event)
        outcomes = self._within(event, run)
        if outcomes:
            event.outcomes = tuple(outcomes)

    def close(self, run_id: str, now_ns: int, why: str, source: str) -> Event | None:
        """Close a run that nothing more is heard of: an event of our own that carries what follows.

        None for a run that was over before we first heard of it. Attempts and run end when they were last heard of.
        """
        run = self._book.run(run_id)
        if run is None or run.status:
            return None
        if not run.begun:
            self._book.forget(run_id)
            return None
        event = _carrier(run_id, run, now_ns, why, source)
        event.outcomes = tuple(self._end(run_id, run, "unfinished", run.last_ns, now_ns, None, ""))
        return event

    def close_left_open(self, run_id: str, now_ns: int, why: str, source: str) -> Event | None:
        """Close the attempts that began after their run's end was told."""
        run = self._book.run(run_id)
        if run is None or not run.status:
            return None
        outcomes = tuple(self._cut_off(run_id, run, run.last_ns))
        event = _carrier(run_id, run, now_ns, why, source)
        event.outcomes = outcomes
        return event if outcomes else None

    # --- a run that is known ---

    def _within(self, event: Event, run: RunState) -> Outcomes:
        key, name = event.step_key, event.type
        step: StepState | None = None
        outcomes: Outcomes = ()
        if key and name not in _PLANS:
            step = self._book.step(event.run_id, run, key)
            if event.step_kind and not step.kind:
                step.kind = event.step_kind
            in_step = self._in_step.get(name)
            if in_step is not None:
                event.attempt = step.attempt or 1
                outcomes = in_step(event, run, step)
            event.attempt = _attempt(step, name)
        in_run = self._in_run.get(name)
        if in_run is not None:
            outcomes = in_run(event, run)
        elif event.detail.__class__ is ev.Marker:
            outcomes = _marked(event, run, step)
        if step is not None:
            event.assets = step.assets
        return outcomes

    def _enqueued(self, event: Event, run: RunState) -> Outcomes:
        if run.enqueued_ns is None:
            run.enqueued_ns = event.at_ns
        if isinstance(event.detail, ev.RunQueued):
            run.partition = event.detail.partition
        return ()

    def _starting(self, event: Event, run: RunState) -> Outcomes:
        if run.starting_ns is None:
            run.starting_ns = event.at_ns
        return ()

    def _started(self, event: Event, run: RunState) -> Outcomes:
        if run.started_ns is None:
            run.started_ns = event.at_ns
        return ()

    def _ended(self, event: Event, run: RunState) -> Outcomes:
        status, error, reason = _verdict(event)
        if not run.status:
            return list(self._end(event.run_id, run, status, event.at_ns, event.now_ns, error, reason))
        outcomes: list[Outcome] = list(self._cut_off(event.run_id, run, event.at_ns))
        if run.status == "unfinished":
            run.status = status
            outcomes.append(_run_ended(event.run_id, run, event.at_ns, error, reason, late=True))
        return outcomes

    def _end(
        self,
        run_id: str,
        run: RunState,
        status: RunStatus,
        at_ns: int,
        now_ns: int,
        error: ErrorInfo | None,
        reason: str,
    ) -> Iterator[Outcome]:
        run.status = status
        yield from self._cut_off(run_id, run, at_ns)
        yield from assets.settle(run, run_id, at_ns)
        yield _run_ended(run_id, run, at_ns, error, reason)
        self._book.end(run_id, run, status, now_ns)

    def _cut_off(self, run_id: str, run: RunState, at_ns: int) -> Iterator[StepEnded]:
        """Attempts that are open when the run ends: cancelled with it, else nobody knows what became of them."""
        status: StepStatus = "canceled" if run.status == "canceled" else "unfinished"
        for key, step in self._book.steps(run_id, run):
            closed = steps.cut_off(step)
            if closed is not None:
                yield _step_ended(run_id, run, key, step, closed, status, max(at_ns, closed.started_ns))

    # --- steps ---

    def _step_started(self, event: Event, run: RunState, step: StepState) -> Outcomes:
        steps.started(step, event.at_ns)
        return ()

    def _attempt_heralded(self, event: Event, run: RunState, step: StepState) -> Outcomes:
        if not step.open and not step.first_ns:
            step.first_ns = event.at_ns
        return ()

    def _step_restarted(self, event: Event, run: RunState, step: StepState) -> Outcomes:
        number = _ATTEMPT.search(event.message)
        closed = steps.restarted(step, event.at_ns, int(number[1]) if number else 0)
        return () if closed is None else [_told(event, run, step, closed, "retry")]

    def _step_up_for_retry(self, event: Event, run: RunState, step: StepState) -> Outcomes:
        closed = steps.up_for_retry(step, event.at_ns)
        error = event.detail.error if isinstance(event.detail, ev.RetryScheduled) else None
        return () if closed is None else [_told(event, run, step, closed, "retry", error)]

    def _step_succeeded(self, event: Event, run: RunState, step: StepState) -> Outcomes:
        since_ns = None
        if not step.open and isinstance(event.detail, ev.StepSucceeded):
            since_ns = _since(event.at_ns, event.detail.duration_ms)
        closed = steps.ended(step, event.at_ns, since_ns)
        return () if closed is None else [_told(event, run, step, closed, "success")]

    def _step_failed(self, event: Event, run: RunState, step: StepState) -> Outcomes:
        closed = steps.ended(step, event.at_ns)
        detail = event.detail if isinstance(event.detail, ev.StepFailed) else ev.StepFailed(None)
        failure = _failure(event, step, detail)
        run.failures.setdefault(event.step_key, _lighter(failure))
        failed = assets.decided_by(run, event.run_id, failure, lambda key: self._book.begun(event.run_id, key))
        outcomes: list[Outcome] = list(failed)
        if not failed and not failure.failed_check:
            outcomes += assets.broken_checks(run, event.run_id, failure)
        if closed is not None:
            ended = _told(event, run, step, closed, "failure", detail.error, failure.interrupted, failure.failed_check)
            outcomes.insert(0, ended)
        # A step whose assets were all made before it failed has no other voice than the run's own failure.
        if len(outcomes) > (closed is not None) or failure.failed_check or not step.assets:
            run.raised = True
        return outcomes

    def _output_yielded(self, event: Event, run: RunState, step: StepState) -> Outcomes:
        step.output_ns = event.at_ns
        return ()

    def _input_taken(self, event: Event, run: RunState, step: StepState) -> Outcomes:
        step.input_ns = event.at_ns
        return ()

    def _io_handled(self, event: Event, run: RunState, step: StepState) -> Outcomes:
        io = event.detail if isinstance(event.detail, ev.IoHandled) else ev.IoHandled("", "", {})
        done = inner.handled(event, run, step, io)
        return () if done is None else [done]

    def _logged(self, event: Event, run: RunState, step: StepState) -> Outcomes:
        if step.attempt or not run.failures:
            return ()
        return assets.not_executed(run, event.run_id, event.step_key, event.message)

    # --- assets and checks ---

    def _asset_planned(self, event: Event, run: RunState) -> Outcomes:
        detail, key = event.detail, event.step_key
        if not isinstance(detail, ev.MaterializationPlanned):
            return ()
        assets.plan_asset(run, key, detail.asset, detail.partition)
        if run.steps:
            self._book.replan(event.run_id, run)
        event.attempt, event.assets = 1 if key else 0, (detail.asset,)
        return [AssetPlanned(event.run_id, run.job, key, detail.asset, detail.partition, event.at_ns)]

    def _check_planned(self, event: Event, run: RunState) -> Outcomes:
        event.attempt = 1 if event.step_key else 0
        if isinstance(event.detail, ev.CheckPlanned):
            assets.plan_check(run, event.step_key, event.detail.asset, event.detail.check)
        return ()

    def _materialized(self, event: Event, run: RunState) -> Outcomes:
        detail = event.detail
        if not isinstance(detail, ev.Materialized):
            return ()
        state = run.assets.setdefault(detail.asset, AssetState())
        execution = not state.made and not state.failed
        state.made = True
        state.rows = _rows(detail)
        began_ns = None
        if event.step_key:
            step = self._book.step(event.run_id, run, event.step_key)
            began_ns = step.started_ns if step.attempt else None
            if detail.asset not in step.assets:
                step.assets = (*step.assets, detail.asset)
        return [_made(event, detail, execution, began_ns)]

    def _observed(self, event: Event, run: RunState) -> Outcomes:
        detail = event.detail
        if not isinstance(detail, ev.Observed):
            return ()
        run.assets.setdefault(detail.asset, AssetState()).observed = True
        return [_seen(event, detail)]

    def _checked(self, event: Event, run: RunState) -> Outcomes:
        detail = event.detail
        if not isinstance(detail, ev.CheckResult):
            return ()
        assets.evaluated(run, event.step_key, detail.asset, detail.check)
        known = run.assets.get(detail.asset)
        return [_evaluated(event, detail, known.rows if known is not None else None)]

    def _said_to_fail(self, event: Event, run: RunState) -> Outcomes:
        """Dagster+ says itself that an asset failed; here it counts only where the steps have not said so already."""
        detail = event.detail
        if not isinstance(detail, ev.MaterializationFailed) or detail.reason in _NOT_ITS_FAULT:
            return ()
        state = run.assets.setdefault(detail.asset, AssetState())
        if state.made or state.failed:
            return ()
        state.failed = run.raised = True
        return [_said(event, detail)]

    # --- a run that is long over ---

    def _after_the_end(self, event: Event, tombstone: Tombstone) -> Iterator[Outcome]:
        detail = event.detail
        if isinstance(detail, ev.Materialized):
            execution = not was_counted(tombstone, detail.asset)
            if execution:
                counted = tombstone.counted + digest(detail.asset)
                self._book.ended.put(event.run_id, msgspec.structs.replace(tombstone, counted=counted))
            yield _made(event, detail, execution, None)
        elif event.type in ("PIPELINE_SUCCESS", "PIPELINE_FAILURE", "PIPELINE_CANCELED"):
            if tombstone.status == "unfinished":
                status, error, reason = _verdict(event)
                self._book.ended.put(event.run_id, msgspec.structs.replace(tombstone, status=status))
                yield RunEnded(
                    event.run_id, tombstone.job, status, event.at_ns, tombstone.started_ns, tombstone.enqueued_ns,
                    tombstone.starting_ns, error, reason, tombstone.raised, late=True,
                )  # fmt: skip
        else:
            yield from _told_anyway(event)


# --- outcomes that need no run ---------------------------------------------------------------------------------------


def _runless(event: Event) -> Iterator[Outcome]:
    detail = event.detail
    if isinstance(detail, ev.Materialized):
        yield _made(event, detail, execution=False, began_ns=None)
    elif isinstance(detail, ev.MaterializationFailed):
        if detail.reason not in _NOT_ITS_FAULT:
            yield _said(event, detail)
    else:
        yield from _told_anyway(event)


def _told_anyway(event: Event) -> Iterator[Outcome]:
    """What stands for itself, whatever the run."""
    detail = event.detail
    if isinstance(detail, ev.Observed):
        yield _seen(event, detail)
    elif isinstance(detail, ev.CheckResult):
        yield _evaluated(event, detail, None)
    elif isinstance(detail, ev.FreshnessChanged):
        yield FreshnessState(detail.asset, detail.state, detail.previous, detail.at_ns or event.at_ns)
    elif isinstance(detail, ev.AssetWiped):
        yield AssetGone(detail.asset, detail.partitions, event.at_ns)


def _made(event: Event, detail: ev.Materialized, execution: bool, began_ns: int | None) -> AssetMaterialized:
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


def _said(event: Event, detail: ev.MaterializationFailed) -> AssetFailed:
    return AssetFailed(
        event.run_id, event.job, event.step_key, event.attempt, detail.asset, detail.partition, event.at_ns, None,
        detail.error,
    )  # fmt: skip


def _seen(event: Event, detail: ev.Observed) -> AssetObserved:
    return AssetObserved(
        event.run_id, event.job, detail.asset, detail.partition, event.at_ns, detail.metadata, detail.tags
    )


def _evaluated(event: Event, detail: ev.CheckResult, rows: int | None) -> CheckEvaluated:
    return CheckEvaluated(
        event.run_id, event.job, event.step_key, detail.asset, detail.check, detail.passed, detail.severity,
        detail.blocking, detail.partition, event.at_ns, detail.description, detail.metadata, rows,
    )  # fmt: skip


# --- pieces ----------------------------------------------------------------------------------------------------------


def _heard(run: RunState, event: Event) -> None:
    if event.now_ns > run.seen_ns:
        run.seen_ns = event.now_ns
    if event.at_ns > run.last_ns:
        run.last_ns = event.at_ns
    if not run.job:
        run.job = event.job
    if not run.begun and event.type not in _IDLE:
        run.begun = True


def _attempt(step: StepState, name: str) -> int:
    """The attempt that an event of this step speaks of: the one to come for those that herald it."""
    if step.retried and name in _HERALDS:
        return step.attempt + 1
    return step.attempt or 1


def _marked(event: Event, run: RunState, step: StepState | None) -> Outcomes:
    if not isinstance(event.detail, ev.Marker):
        return ()
    done = inner.marked(event, run, step, event.detail)
    return () if done is None else [done]


def _verdict(event: Event) -> tuple[RunStatus, ErrorInfo | None, str]:
    detail = event.detail
    if event.type == "PIPELINE_SUCCESS":
        return "success", None, ""
    if event.type == "PIPELINE_CANCELED":
        return "canceled", detail.error if isinstance(detail, ev.RunCanceled) else None, ""
    return ("failure", detail.error, detail.reason) if isinstance(detail, ev.RunFailed) else ("failure", None, "")


def _run_ended(
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
    )


def _told(
    event: Event,
    run: RunState,
    step: StepState,
    closed: Closed,
    status: StepStatus,
    error: ErrorInfo | None = None,
    interrupted: bool = False,
    failed_check: bool = False,
) -> StepEnded:
    return _step_ended(
        event.run_id, run, event.step_key, step, closed, status, event.at_ns, error, interrupted, failed_check
    )


def _step_ended(
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
    return StepEnded(
        run=run_id,
        job=run.job,
        step=key,
        attempt=closed.attempt,
        status=status,
        at_ns=at_ns,
        started_ns=min(closed.started_ns, at_ns),
        kind=step.kind,
        assets=step.assets,
        partition=_partition(run, step),
        error=error,
        interrupted=interrupted,
        failed_check=failed_check,
    )


def _partition(run: RunState, step: StepState) -> str | None:
    """That of the step's assets if they have one in common, else the run's."""
    planned = [run.assets[asset] for asset in step.assets if asset in run.assets]
    if not planned:
        return run.partition
    if any(state.several for state in planned):
        return None
    partitions = {state.partition for state in planned}
    return partitions.pop() if len(partitions) == 1 else run.partition


def _failure(event: Event, step: StepState, detail: ev.StepFailed) -> Failure:
    error = detail.error
    kind = error.type if error is not None else ""
    return Failure(
        step=event.step_key,
        attempt=step.attempt,
        at_ns=event.at_ns,
        started_ns=step.started_ns if step.attempt else None,
        error=error,
        interrupted=detail.source == "INTERRUPT" or kind == _INTERRUPTED,
        failed_check=error is not None and _BLOCKED in error.chain,
    )


def _lighter(failure: Failure) -> Failure:
    """The same with an error that state can bear."""
    error = failure.error
    if error is None:
        return failure
    short = msgspec.structs.replace(
        error, stack=error.stack[:_KEPT_TEXT], message=error.message[:_KEPT_TEXT], frames=error.frames[-16:]
    )
    return msgspec.structs.replace(failure, error=short)


def _rows(detail: ev.Materialized) -> int | None:
    rows = detail.metadata.get("dagster/row_count")
    return rows if type(rows) is int and -(2**63) <= rows < 2**63 else None


def _since(at_ns: int, duration_ms: float) -> int | None:
    """When something that took so long began; None for a duration that cannot be."""
    return at_ns - int(duration_ms * 1_000_000) if 0 <= duration_ms * 1_000_000 <= at_ns else None


def _carrier(run_id: str, run: RunState, now_ns: int, why: str, source: str) -> Event:
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
