"""Events → log records: one record an event, and one more for each asset that a failing step leaves unmade.

`{job="dagster"} | json | asset_name="x" | status="success"` must answer with x's materializations and
`status="failure"` with its failures, each once. So a step's success does not carry the asset (its materialization
does), and a failing step of several assets writes a derived record for each of them.

Levels: `pipeline.log_levels`. Slow: `connectors.slow`. Called for every event, so the common road makes one Struct
from positional arguments and nothing else. Source of the meanings: docs/semantics.md, "Logs".
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

import msgspec

from connectors.log_facts import NO_EXTRA, STATUSES, describe
from connectors.slow import Baselines, SlowConfig
from pipeline import events, outcomes
from pipeline.batch import Batch
from pipeline.components import ConnectorSpec, Context
from pipeline.events import Event, Materialized
from pipeline.facts import RunFacts
from pipeline.log_levels import BY_TYPE, log_level
from pipeline.names import STORAGE_ID_HEADER
from pipeline.native import HAS_NATIVE, native
from pipeline.outcomes import AssetFailed, AssetGone, AssetMaterialized
from pipeline.signals import LogRecord, Signal
from pipeline.trace_ids import run_span_id, step_span_id, trace_id

_MAX_IDS: Final = 4096  # what is asked for again and again is then near in memory; 65,536 took 0.2 µs a record more
_MS: Final = 1_000_000
_BEFORE_ANY_ATTEMPT: Final = frozenset({"planned", "skipped"})
_CONSEQUENTIAL: Final = (AssetMaterialized, AssetFailed, AssetGone)
_FAILURES: Final = frozenset({"STEP_FAILURE", "ASSET_FAILED_TO_MATERIALIZE"})
"""Events whose own record names the asset that failed, when it is only one."""


class LogsConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Log records from events: one an event, plus a derived one for each asset that a failing step leaves unmade.

    Needs `run_ledger` before it. Records of a run carry its trace id, those of a step attempt also the span id of the
    attempt, so that a log line leads to its trace.
    """

    slow: SlowConfig = SlowConfig()
    """When a success is called slow."""


class Logs:
    """The connector. Its only state is what is usual for each asset."""

    def __init__(self, baselines: Baselines) -> None:
        self._baselines = baselines
        self._ids: dict[tuple[str, str, int], tuple[str, str]] = {}
        """Empty with the twin, which has its own and leaves few records to us."""
        self._twin = _twin(baselines) if HAS_NATIVE else None

    async def process(self, batch: Batch[Event]) -> Sequence[LogRecord]:
        """A record for each event that was read (the ledger's own have no bytes), and the derived ones after it."""
        if self._twin is not None:
            return self._twin.process(batch.items, self._add)
        records: list[LogRecord] = []
        for event in batch.items:
            self._add(event, records)
        return records

    def _add(self, event: Event, records: list[LogRecord]) -> None:
        if event.raw:
            records.append(self._record(event))
        for outcome in event.outcomes:
            if isinstance(outcome, _CONSEQUENTIAL):
                self._consequences(event, records)
                break

    def _record(self, event: Event) -> LogRecord:
        facts = describe(event)
        key = (event.run_id, event.step_key, 0 if facts.status in _BEFORE_ANY_ATTEMPT else event.attempt)
        trace, span = self._ids.get(key) or self._remember(key) if self._twin is None else _derive_ids(*key)
        run, error = event.run, facts.error
        message, slow = facts.message or event.message, False
        if facts.made is not None:
            slow = self._baselines.is_slow(facts.made)
            message = succeeded(event, facts.made, slow)
        return LogRecord(
            event.at_ns,
            log_level(event),
            event.type,
            message,
            event_id(event),
            event.run_id,
            event.job,
            event.step_key,
            facts.asset,
            facts.partition or (None if run is None else run.partition),
            facts.status,
            facts.duration_ms,
            slow,
            "" if error is None else error.type,
            "" if error is None else error.message,
            "" if error is None or facts.repeated else error.stack,
            trace,
            span,
            event.level,
            False,
            "" if run is None else run.code_location,
            facts.extra,
        )

    def _consequences(self, event: Event, records: list[LogRecord]) -> None:
        failed = [o for o in event.outcomes if isinstance(o, AssetFailed)]
        if failed and not (len(failed) == 1 and event.raw and event.type in _FAILURES):
            records.extend(self._derived(event, asset) for asset in failed)
        for outcome in event.outcomes:
            if isinstance(outcome, AssetMaterialized):
                self._baselines.learn(outcome)
            elif isinstance(outcome, AssetGone) and not outcome.partitions:
                self._baselines.forget(outcome.asset)

    def _derived(self, event: Event, failed: AssetFailed) -> LogRecord:
        error, trace, span = failed.error, "", ""
        if failed.run:
            trace, span = trace_id(failed.run), step_span_id(failed.run, failed.step, failed.attempt)
        told = event.type == "STEP_FAILURE" and event.raw  # else it is decided later, when nothing can make it any more
        return LogRecord(
            failed.at_ns,
            "ERROR",
            "STEP_FAILURE",
            event.message if told else f'{failed.asset} was not made: step "{failed.step}" failed.',
            f"{event_id(event)}/{failed.asset}",
            failed.run,
            failed.job,
            failed.step,
            failed.asset,
            failed.partition,
            "failure",
            None if failed.duration_ns is None else failed.duration_ns / _MS,
            error_type=error.type if error else "",
            error_message=error.message if error else "",
            trace_id=trace,
            span_id=span,
            derived=True,
            code_location=event.run.code_location if event.run is not None else "",
        )

    def _remember(self, key: tuple[str, str, int]) -> tuple[str, str]:
        if len(self._ids) >= _MAX_IDS:
            self._ids.clear()
        ids = self._ids[key] = _derive_ids(*key)
        return ids


def _derive_ids(run: str, step: str, attempt: int) -> tuple[str, str]:
    """Trace and span id: the step attempt's, else the run's; a step that never began has no span of its own."""
    if not run:
        return "", ""
    return trace_id(run), step_span_id(run, step, attempt) if step and attempt else run_span_id(run)


def event_id(event: Event) -> str:
    """What keeps two equal lines apart and is the same when the record is read again: its run, and its place there.

    The place is Dagster's storage id where it is known (then a record that was sent twice has the same id), else the
    offset or line.
    """
    place: str | int = event.offset
    for name, value in event.headers:
        if name == STORAGE_ID_HEADER:
            place = value.decode("utf-8", "replace")
            break
    return f"{event.run_id or event.source}:{place}"


def succeeded(event: Event, made: AssetMaterialized, slow: bool) -> str:
    """ "Succeeded in 1,240ms (slow)", and the description if user code gave one."""
    if made.duration_ns is None:
        return event.message
    description = event.detail.description if isinstance(event.detail, Materialized) else None
    text = f"Succeeded in {made.duration_ns / _MS:,.0f}ms{' (slow)' if slow else ''}"
    return f"{text}: {description}" if description else text


def _twin(baselines: Baselines) -> "native.LogRecords":
    return native.LogRecords(
        events,
        outcomes,
        LogRecord,
        RunFacts,
        STATUSES,
        BY_TYPE,
        NO_EXTRA,
        STORAGE_ID_HEADER,
        _derive_ids,
        _MAX_IDS,
        baselines.twin(),
    )


@asynccontextmanager
async def build(config: LogsConfig, context: Context) -> AsyncIterator[Logs]:
    table = context.state.table("baselines", str, tuple[float, ...], version=1)
    yield Logs(Baselines(config.slow, table))


SPEC = ConnectorSpec("logs", LogsConfig, build, Signal.EVENTS, Signal.LOGS, needs=("run_ledger",))
