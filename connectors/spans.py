"""Outcomes → spans: run → step attempt → what is inside it.

A trace is a run, and its ids are derived from the run's, so spans of one run that come in any order, from any shard
or from user code inside Dagster, fit together. Each span goes out once, when what it tells of has ended.

The parent of every span must exist in the end. A step attempt's inside can end before the attempt, or the attempt may
never begin, so inner spans wait for their attempt; what still waits at the run's end hangs on the root instead.
Materializations, checks and observations wait likewise and become events of the attempt's span. What waits is a row
a run; a run that has ended leaves a tombstone, so that what follows it (events do) never waits for ever.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import lru_cache
from typing import Final, get_args

import msgspec

from connectors import span_shapes as shapes
from connectors.ended_runs import EndedRuns
from pipeline import names
from pipeline.batch import Batch
from pipeline.components import ConnectorSpec, Context, Table
from pipeline.events import Event
from pipeline.lineage import AssetFacts
from pipeline.native import HAS_NATIVE, native
from pipeline.outcomes import (
    AssetMaterialized,
    AssetObserved,
    CheckEvaluated,
    InnerEnded,
    Outcome,
    RunEnded,
    StepEnded,
)
from pipeline.signals import Labels, Signal, Span, SpanEvent
from pipeline.trace_ids import run_span_id, trace_id

MAX_EVENTS: Final = 128
"""Span events of one attempt that are kept (OpenTelemetry's own default limit); the rest is counted."""
MAX_INNER: Final = 128
"""Inner spans that may wait for one attempt; the rest is counted on its span."""
MAX_ENDED: Final = 20_000
"""Tombstones of ended runs."""
_STACK_KEPT: Final = 16_384
_OURS: Final = frozenset({StepEnded, AssetMaterialized, CheckEvaluated, AssetObserved, InnerEnded, RunEnded})
"""Those of which spans are made; half of all outcomes are others."""


class SpansConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Spans from outcomes: one trace a run, a span for each step attempt, below it resources, IO and engine markers.

    Needs `run_ledger` before it. docs/telemetry.md lists every attribute.
    """

    service_name: str = "dagster"
    """`service.name` of the resource."""
    service_namespace: str = ""
    """`service.namespace`; left out when empty."""
    deployment: str = ""
    """`deployment.environment.name`, such as prod or staging; left out when empty."""
    instance: str = ""
    """`service.instance.id`: which Dagster instance; left out when empty."""
    run_url: str = ""
    """Address of a run in Dagster's own UI, such as `http://dagster:3000/runs/{run_id}`; left out when empty."""
    run_tags: bool = True
    """Run tags become attributes of the root span (`dagster.run.tags.<key>`)."""

    def __post_init__(self) -> None:
        if self.run_url and "{run_id}" not in self.run_url:
            raise ValueError("run_url needs {run_id} in it, such as http://dagster:3000/runs/{run_id}")


class Waiting(msgspec.Struct):
    """What waits for the end of one step attempt."""

    events: list[SpanEvent] = []
    inner: list[InnerEnded] = []
    events_dropped: int = 0
    inner_dropped: int = 0


class OpenRun(msgspec.Struct):
    """What waits within one run: by `step#attempt`, "" for what stands outside a step."""

    attempts: dict[str, Waiting] = {}


class Spans:
    """The connector."""

    def __init__(self, config: SpansConfig, runs: Table[str, OpenRun], ended: EndedRuns) -> None:
        self._config, self._runs, self._ended = config, runs, ended
        self._resource = lru_cache(maxsize=1024)(lambda code_location: _resource(config, code_location))
        self._twin = _twin(config, runs, ended, self._resource) if HAS_NATIVE else None

    async def process(self, batch: Batch[Event]) -> Sequence[Span]:
        """The spans of what has ended in this batch."""
        if self._twin is not None:
            return self._twin.process(batch.items, self._take, self._ended.add)
        spans: list[Span] = []
        take, ours = self._take, _OURS
        for event in batch.items:
            for outcome in event.outcomes:
                if type(outcome) in ours:
                    take(outcome, event, spans)
        return spans

    def _take(self, outcome: Outcome, event: Event, spans: list[Span]) -> None:
        if isinstance(outcome, StepEnded):
            self._step(outcome, event, spans)
        elif isinstance(outcome, AssetMaterialized):
            if outcome.run:
                key = _attempt(outcome.step, outcome.attempt)
                self._note(outcome.run, key, shapes.materialization(outcome, event.catalog))
        elif isinstance(outcome, CheckEvaluated):
            if outcome.run:
                key = _attempt(outcome.step, event.attempt)
                self._note(outcome.run, key, shapes.check(outcome, event.catalog))
        elif isinstance(outcome, AssetObserved):
            if outcome.run:
                key = _attempt(event.step_key, event.attempt)
                self._note(outcome.run, key, shapes.observation(outcome, event.catalog))
        elif isinstance(outcome, InnerEnded):
            self._inner(outcome, event, spans)
        elif isinstance(outcome, RunEnded) and outcome.run:
            self._run(outcome, event, spans)

    def _step(self, ended: StepEnded, event: Event, spans: list[Span]) -> None:
        if not ended.run:
            return
        resource = self._resource_of(event)
        waiting = self._release(ended.run, _attempt(ended.step, ended.attempt))
        span = shapes.step_span(ended, resource, waiting.events, waiting.events_dropped, waiting.inner_dropped)
        spans.append(span)
        if waiting.inner:
            spans.extend(shapes.inner_spans(waiting.inner, span.span_id, resource))

    def _inner(self, ended: InnerEnded, event: Event, spans: list[Span]) -> None:
        if not ended.run:
            return
        if self._has_ended(ended.run):
            root, when = run_span_id(ended.run), str(ended.at_ns)
            spans.extend(shapes.inner_spans([ended], root, self._resource_of(event), when))
            return
        waiting = self._wait(ended.run, _attempt(ended.step, ended.attempt))
        if len(waiting.inner) < MAX_INNER:
            waiting.inner.append(_lighter(ended))
        else:
            waiting.inner_dropped += 1

    def _run(self, ended: RunEnded, event: Event, spans: list[Span]) -> None:
        left = self._runs.get(ended.run)
        if left is not None:
            self._runs.delete(ended.run)
        if ended.late or ended.run in self._ended:
            return
        self._ended.add(ended.run, event.now_ns)
        resource, waiting = self._resource_of(event), _joined(left)
        url = self._config.run_url.replace("{run_id}", ended.run)
        root = shapes.run_span(ended, event.run, resource, waiting.events, url, self._config.run_tags)
        spans.append(root)
        spans.extend(shapes.inner_spans(waiting.inner, root.span_id, resource, "end"))

    def _note(self, run: str, attempt: str, note: SpanEvent) -> None:
        """Keep a span event for the attempt's span; one that comes after the run's end has no span left to stand on."""
        if self._has_ended(run):
            return
        waiting = self._wait(run, attempt)
        if len(waiting.events) < MAX_EVENTS:
            waiting.events.append(note)
        else:
            waiting.events_dropped += 1

    def _has_ended(self, run: str) -> bool:
        return run not in self._runs and run in self._ended  # what waits leaves at the end

    def _wait(self, run: str, attempt: str) -> Waiting:
        open_run = self._runs.edit(run)
        if open_run is None:
            open_run = OpenRun()
            self._runs.put(run, open_run)
        waiting = open_run.attempts.get(attempt)
        if waiting is None:
            waiting = open_run.attempts[attempt] = Waiting()
        return waiting

    def _release(self, run: str, attempt: str) -> Waiting:
        present = self._runs.get(run)
        if present is None or attempt not in present.attempts:
            return Waiting()
        open_run = self._runs.edit(run)
        return open_run.attempts.pop(attempt) if open_run is not None else Waiting()

    def _resource_of(self, event: Event) -> Labels:
        return self._resource(event.run.code_location if event.run is not None else "")


def _attempt(step: str, attempt: int) -> str:
    return f"{step}#{attempt}" if step and attempt else ""


def _joined(left: OpenRun | None) -> Waiting:
    """All that still waits when a run ends."""
    orphans = left.attempts.values() if left is not None else ()
    return Waiting([e for o in orphans for e in o.events][:MAX_EVENTS], [i for o in orphans for i in o.inner])


def _lighter(ended: InnerEnded) -> InnerEnded:
    """The same with a stack that state can bear."""
    error = ended.error
    if error is None or len(error.stack) <= _STACK_KEPT:
        return ended
    error = msgspec.structs.replace(error, stack=shapes.clipped(error.stack, _STACK_KEPT))
    return msgspec.structs.replace(ended, error=error)


def _twin(
    config: SpansConfig, runs: Table[str, OpenRun], ended: EndedRuns, resource: Callable[[str], Labels]
) -> "native.SpanMaker":
    return native.SpanMaker(
        Event,
        AssetFacts,
        shapes,
        [kind for kind in get_args(Outcome) if kind not in _OURS],
        Waiting,
        OpenRun,
        runs,
        ended,
        resource,
        trace_id,
        config.run_url,
        config.run_tags,
        MAX_EVENTS,
        MAX_INNER,
        _STACK_KEPT,
    )


def _resource(config: SpansConfig, code_location: str) -> Labels:
    pairs = {
        names.SERVICE_NAME: config.service_name,
        names.SERVICE_NAMESPACE: config.service_namespace,
        names.DEPLOYMENT: config.deployment,
        names.SERVICE_INSTANCE_ID: config.instance,
        names.CODE_LOCATION: code_location,
    }
    return tuple(sorted((name, value) for name, value in pairs.items() if value))


@asynccontextmanager
async def build(config: SpansConfig, context: Context) -> AsyncIterator[Spans]:
    runs = context.state.table("runs", str, OpenRun, version=1)
    yield Spans(config, runs, EndedRuns(context.state, MAX_ENDED))


SPEC = ConnectorSpec("spans", SpansConfig, build, Signal.EVENTS, Signal.TRACES, needs=("run_ledger",))
