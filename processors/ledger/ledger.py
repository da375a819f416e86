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
from pipeline import outcomes as oc
from pipeline.events import LOG, Event
from pipeline.facts import ErrorInfo
from pipeline.native import HAS_NATIVE, native
from pipeline.outcomes import AssetPlanned, Outcome, RunEnded, RunPhase, RunStatus, StepStatus
from processors.ledger import assets, inner, states, steps, told, voices
from processors.ledger.book import Book, Rows, digest, was_counted
from processors.ledger.states import AssetState, StepState, Tombstone

Outcomes: TypeAlias = Sequence[Outcome]

_IDLE: Final = frozenset({LOG, "ENGINE_EVENT", "LOGS_CAPTURED", "HOOK_COMPLETED", "HOOK_SKIPPED", "HOOK_ERRORED"})
"""Also said of runs that were over before we came: a run of which only these speak is not closed as unfinished."""
_HERALDS: Final = frozenset(
    {"STEP_WORKER_STARTING", "STEP_WORKER_STARTED"}
    | {"RESOURCE_INIT_STARTED", "RESOURCE_INIT_SUCCESS", "RESOURCE_INIT_FAILURE"}
)
"""What comes before an attempt begins: its process, its resources."""
_PLANS: Final = frozenset({"ASSET_MATERIALIZATION_PLANNED", "ASSET_CHECK_EVALUATION_PLANNED"})
_ENDS: Final = frozenset({"PIPELINE_SUCCESS", "PIPELINE_FAILURE", "PIPELINE_CANCELED"})
_PHASES: Final[dict[str, RunPhase]] = {
    "PIPELINE_CANCELING": "canceling", "RUN_SUSPENDED": "suspended", "RUN_RESUMED": "started"
}  # fmt: skip
_ATTEMPT: Final = re.compile(r"\(attempt # (\d{1,6})\)")


class Ledger:
    """Annotates events in order. Pure: no clock, no I/O; all it knows is in the book."""

    def __init__(self, book: Book) -> None:
        self._book = book
        self._in_run: dict[str, Callable[[Event, Rows], Outcomes]] = {
            "PIPELINE_ENQUEUED": self._enqueued,
            "PIPELINE_STARTING": self._starting,
            "PIPELINE_START": self._started,
            "PIPELINE_CANCELING": self._moved,
            "RUN_SUSPENDED": self._moved,
            "RUN_RESUMED": self._moved,
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
        self._in_step: dict[str, Callable[[Event, Rows, StepState], Outcomes]] = {
            "STEP_START": self._step_started,
            "STEP_RESTARTED": self._step_restarted,
            "STEP_UP_FOR_RETRY": self._step_up_for_retry,
            "STEP_SUCCESS": self._step_succeeded,
            "STEP_FAILURE": self._step_failed,
            "STEP_OUTPUT": self._output_yielded,
            "STEP_INPUT": self._input_taken,
            "HANDLED_OUTPUT": self._io_handled,
            "LOADED_INPUT": self._io_handled,
            LOG: self._logged,
        }
        twin = (ev, oc, states, Rows, set(self._in_run), set(self._in_step), _HERALDS, _IDLE, book.parts())
        self.twin = native.LedgerTwin(*twin) if HAS_NATIVE else None
        """Takes what is common of many events."""

    def take(self, event: Event) -> None:
        """Set the event's `attempt`, `assets` and `outcomes`."""
        rows = self._book.rows.get(event.run_id) or self._found(event)
        if rows is None:
            return
        run = rows.run
        if not run.status:
            if event.now_ns > run.seen_ns:
                run.seen_ns = event.now_ns
            if event.at_ns > run.last_ns:
                run.last_ns = event.at_ns
            if not run.begun:
                run.begun = event.type not in _IDLE
                run.job = run.job or event.job
        outcomes = self._within(event, rows)
        if outcomes:
            event.outcomes = tuple(outcomes)

    def close(self, run_id: str, now_ns: int, why: str, source: str) -> Event | None:
        """Close a run that nothing more is heard of: an event of our own that carries what follows.

        None for a run that was over before we first heard of it. Attempts and run end when they were last heard of.
        """
        rows = self._book.known(run_id)
        if rows is None or rows.run.status:
            return None
        if not rows.run.begun:
            self._book.forget(run_id)
            return None
        event = told.carrier(run_id, rows.run, now_ns, why, source)
        event.outcomes = tuple(self._end(run_id, rows, "unfinished", rows.run.last_ns, now_ns, None, ""))
        return event

    def close_left_open(self, run_id: str, now_ns: int, why: str, source: str) -> Event | None:
        """Close the attempts that began after their run's end was told."""
        rows = self._book.known(run_id)
        if rows is None or not rows.run.status:
            return None
        outcomes = tuple(self._cut_off(run_id, rows, rows.run.last_ns))
        event = told.carrier(run_id, rows.run, now_ns, why, source)
        event.outcomes = outcomes
        return event if outcomes else None

    # --- which run, which step ---

    def _found(self, event: Event) -> Rows | None:
        """The event's run, opened if it is new; None where there is none any more, and the event is dealt with."""
        run_id = event.run_id
        if not run_id:
            event.outcomes = tuple(told.runless(event))
            return None
        rows = self._book.known(run_id)
        if rows is not None:
            return rows
        tombstone = self._book.tombstone(run_id)
        if tombstone is None:
            return self._book.open(event)
        event.attempt = 1 if event.step_key else 0
        event.outcomes = tuple(self._after_the_end(event, tombstone))
        return None

    def _within(self, event: Event, rows: Rows) -> Outcomes:
        key, name = event.step_key, event.type
        in_run = self._in_run.get(name)
        if not key or name in _PLANS:
            if in_run is not None:
                return in_run(event, rows)
            return _marked(event, rows, None)
        step = rows.steps.get(key) or self._book.step(event.run_id, rows, key)
        if not step.kind and event.step_kind:
            step.kind = event.step_kind
        event.attempt = step.attempt or 1
        outcomes: Outcomes = ()
        in_step = self._in_step.get(name)
        if in_step is not None:
            outcomes = in_step(event, rows, step)
            event.attempt = step.attempt or 1
        elif in_run is not None:
            outcomes = in_run(event, rows)
        else:
            outcomes = _marked(event, rows, step)
        event.assets = step.assets
        return outcomes

    # --- the run ---

    def _enqueued(self, event: Event, rows: Rows) -> Outcomes:
        if rows.run.enqueued_ns is None:
            rows.run.enqueued_ns = event.at_ns
        rows.run.phase = "queued"
        if isinstance(event.detail, ev.RunQueued):
            rows.run.partition = event.detail.partition
        return ()

    def _starting(self, event: Event, rows: Rows) -> Outcomes:
        if rows.run.starting_ns is None:
            rows.run.starting_ns = event.at_ns
        rows.run.phase = "starting"
        return ()

    def _started(self, event: Event, rows: Rows) -> Outcomes:
        if rows.run.started_ns is None:
            rows.run.started_ns = event.at_ns
        rows.run.phase = "started"
        return ()

    def _moved(self, event: Event, rows: Rows) -> Outcomes:
        rows.run.phase = _PHASES[event.type]
        return ()

    def _ended(self, event: Event, rows: Rows) -> Outcomes:
        run = rows.run
        status, error, reason = told.verdict(event)
        if not run.status:
            return self._end(event.run_id, rows, status, event.at_ns, event.now_ns, error, reason)
        outcomes = self._cut_off(event.run_id, rows, event.at_ns)
        if run.status == "unfinished":
            run.status = status
            outcomes.append(told.run_ended(event.run_id, run, event.at_ns, error, reason, late=True))
        return outcomes

    def _end(
        self,
        run_id: str,
        rows: Rows,
        status: RunStatus,
        at_ns: int,
        now_ns: int,
        error: ErrorInfo | None,
        reason: str,
    ) -> list[Outcome]:
        run = rows.run
        run.status = status
        outcomes = self._cut_off(run_id, rows, at_ns)
        outcomes += assets.settle(run, run_id, at_ns)
        if run.unvoiced:
            outcomes += voices.left(run, run_id)
        outcomes.append(told.run_ended(run_id, run, at_ns, error, reason))
        self._book.end(run_id, run, status, now_ns)
        return outcomes

    def _cut_off(self, run_id: str, rows: Rows, at_ns: int) -> list[Outcome]:
        """Attempts that are open when the run ends: cancelled with it, else nobody knows what became of them."""
        ended: list[Outcome] = []
        status: StepStatus = "canceled" if rows.run.status == "canceled" else "unfinished"
        for key, step in self._book.open_steps(run_id, rows):
            closed = steps.cut_off(step)
            if closed is not None:
                last_ns = max(at_ns, closed.started_ns)
                ended.append(told.step_ended(run_id, rows.run, key, step, closed, status, last_ns))
        return ended

    # --- steps ---

    def _step_started(self, event: Event, rows: Rows, step: StepState) -> Outcomes:
        steps.started(step, event.at_ns)
        return ()

    def _step_restarted(self, event: Event, rows: Rows, step: StepState) -> Outcomes:
        number = _ATTEMPT.search(event.message)
        closed = steps.restarted(step, event.at_ns, int(number[1]) if number else 0)
        return () if closed is None else [told.attempt_ended(event, rows.run, step, closed, "retry")]

    def _step_up_for_retry(self, event: Event, rows: Rows, step: StepState) -> Outcomes:
        closed = steps.up_for_retry(step, event.at_ns)
        error = event.detail.error if isinstance(event.detail, ev.RetryScheduled) else None
        return () if closed is None else [told.attempt_ended(event, rows.run, step, closed, "retry", error)]

    def _step_succeeded(self, event: Event, rows: Rows, step: StepState) -> Outcomes:
        since_ns = None
        if not step.open and isinstance(event.detail, ev.StepSucceeded):
            since_ns = told.since(event.at_ns, event.detail.duration_ms)
        closed = steps.ended(step, event.at_ns, since_ns)
        return () if closed is None else [told.attempt_ended(event, rows.run, step, closed, "success")]

    def _step_failed(self, event: Event, rows: Rows, step: StepState) -> Outcomes:
        run, run_id = rows.run, event.run_id
        closed = steps.ended(step, event.at_ns)
        failure = told.failure_of(event, run, step)
        first = event.step_key not in run.failures
        if first:
            run.failures[event.step_key] = told.lighter(failure)
            run.raised = True
        what: list[Outcome] = list(assets.decided_by(run, run_id, failure, lambda key: self._book.begun(run_id, key)))
        if not what and not failure.failed_check:
            what += assets.broken_checks(run, run_id, failure)
        if first and not what and not failure.failed_check:
            waits = not run.status and assets.awaits(run, event.step_key)
            what += voices.alone(run, run_id, failure, waits)
        if closed is None:
            return what
        return [told.attempt_failed(event, run, step, closed, failure), *what]

    def _output_yielded(self, event: Event, rows: Rows, step: StepState) -> Outcomes:
        step.output_ns = event.at_ns
        return ()

    def _input_taken(self, event: Event, rows: Rows, step: StepState) -> Outcomes:
        step.input_ns = event.at_ns
        return ()

    def _io_handled(self, event: Event, rows: Rows, step: StepState) -> Outcomes:
        io = event.detail if isinstance(event.detail, ev.IoHandled) else ev.IoHandled("", "")
        done = inner.handled(event, rows.run, step, io)
        return () if done is None else [done]

    def _logged(self, event: Event, rows: Rows, step: StepState) -> Outcomes:
        if step.attempt or not rows.run.failures:
            return ()
        return assets.not_executed(rows.run, event.run_id, event.step_key, event.message)

    # --- assets and checks ---

    def _asset_planned(self, event: Event, rows: Rows) -> Outcomes:
        detail, key, run = event.detail, event.step_key, rows.run
        event.attempt = 1 if key else 0
        if not isinstance(detail, ev.MaterializationPlanned):
            return ()
        assets.plan_asset(run, key, detail.asset, detail.partition)
        if run.steps:
            self._book.replan(event.run_id, rows)
        event.assets = (detail.asset,)
        return [AssetPlanned(event.run_id, run.job, key, detail.asset, detail.partition, event.at_ns)]

    def _check_planned(self, event: Event, rows: Rows) -> Outcomes:
        event.attempt = 1 if event.step_key else 0
        if isinstance(event.detail, ev.CheckPlanned):
            assets.plan_check(rows.run, event.step_key, event.detail.asset, event.detail.check)
        return ()

    def _materialized(self, event: Event, rows: Rows) -> Outcomes:
        detail = event.detail
        if not isinstance(detail, ev.Materialized):
            return ()
        state = rows.run.assets.get(detail.asset)
        if state is None:
            state = rows.run.assets[detail.asset] = AssetState()
        execution = not state.made and not state.failed
        state.made = True
        state.rows = told.row_count(detail)
        step = rows.steps.get(event.step_key)
        if step is None:
            return [told.made(event, detail, execution, None)]
        if state.step != event.step_key and detail.asset not in step.assets:
            step.assets = (*step.assets, detail.asset)
        return [told.made(event, detail, execution, step.started_ns if step.attempt else None)]

    def _observed(self, event: Event, rows: Rows) -> Outcomes:
        detail = event.detail
        if not isinstance(detail, ev.Observed):
            return ()
        rows.run.assets.setdefault(detail.asset, AssetState()).observed = True
        return [told.seen(event, detail)]

    def _checked(self, event: Event, rows: Rows) -> Outcomes:
        detail = event.detail
        if not isinstance(detail, ev.CheckResult):
            return ()
        assets.evaluated(rows.run, event.step_key, detail.asset, detail.check)
        known = rows.run.assets.get(detail.asset)
        return [told.evaluated(event, detail, known.rows if known is not None else None)]

    def _said_to_fail(self, event: Event, rows: Rows) -> Outcomes:
        """Dagster+ says itself that an asset failed; here it counts only where the steps have not said so already."""
        detail = event.detail
        if not isinstance(detail, ev.MaterializationFailed) or detail.reason in told.NOT_ITS_FAULT:
            return ()
        state = rows.run.assets.setdefault(detail.asset, AssetState())
        if state.made or state.failed:
            return ()
        state.failed = rows.run.raised = True
        return [told.said_to_fail(event, detail)]

    # --- a run that is long over ---

    def _after_the_end(self, event: Event, tombstone: Tombstone) -> Iterator[Outcome]:
        detail = event.detail
        if isinstance(detail, ev.Materialized):
            execution = not was_counted(tombstone, detail.asset)
            if execution:
                counted = tombstone.counted + digest(detail.asset)
                self._book.rebury(event.run_id, msgspec.structs.replace(tombstone, counted=counted))
            yield told.made(event, detail, execution, None)
        elif event.type not in _ENDS:
            yield from told.told_anyway(event)
        elif tombstone.status == "unfinished":
            status, error, reason = told.verdict(event)
            self._book.rebury(event.run_id, msgspec.structs.replace(tombstone, status=status))
            yield RunEnded(
                event.run_id, tombstone.job, status, event.at_ns, tombstone.started_ns, tombstone.enqueued_ns,
                tombstone.starting_ns, error, reason, tombstone.raised, late=True,
            )  # fmt: skip


def _marked(event: Event, rows: Rows, step: StepState | None) -> Outcomes:
    """Whatever has no handler of its own: the start or end of a marker pair, or nothing."""
    if event.detail.__class__ is not ev.Marker:
        return ()
    if step is not None and event.type in _HERALDS:
        if not step.open and not step.first_ns:
            step.first_ns = event.at_ns
        if step.retried:
            event.attempt = step.attempt + 1
    done = inner.marked(event, rows.run, step)
    return () if done is None else [done]
