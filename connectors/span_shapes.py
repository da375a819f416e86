"""The shape of each span: names, attributes, links, events. Pure functions from outcomes; see docs/telemetry.md."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from pipeline import names
from pipeline.facts import ErrorInfo, Metadata, RunFacts
from pipeline.lineage import Catalog
from pipeline.outcomes import AssetMaterialized, AssetObserved, CheckEvaluated, InnerEnded, RunEnded, StepEnded
from pipeline.signals import Attribute, Labels, Span, SpanEvent, SpanLink
from pipeline.trace_ids import inner_span_id, run_span_id, step_span_id, trace_id

INTERNAL, SERVER = 1, 2

_STACK_MAX: Final = 16_384
_TEXT_MAX: Final = 4_096
_STATUS_MAX: Final = 512
_TAGS_MAX: Final = 64

_RUN_RESULTS: Final = {"success": "success", "failure": "failure", "canceled": "cancellation"}
_REASONS: Final = {
    "START_TIMEOUT": "timeout",
    "UNEXPECTED_TERMINATION": "error",
    "RUN_WORKER_RESTART": "error",
    "JOB_INITIALIZATION_FAILURE": "error",
}
"""Failures that are the system's: the conventions keep `failure` for the pipeline's own."""
_STEP_RESULTS: Final = {**_RUN_RESULTS, "retry": "failure"}


def run_span(
    ended: RunEnded, facts: RunFacts | None, resource: Labels, events: Sequence[SpanEvent], url: str, tags: bool
) -> Span:
    """The root: from the first word of the run (queued, starting) to its end."""
    begun = min(t for t in (ended.enqueued_ns, ended.starting_ns, ended.started_ns, ended.at_ns) if t is not None)
    attributes: dict[str, Attribute] = {
        names.PIPELINE_NAME: ended.job,
        names.PIPELINE_RUN_ID: ended.run,
        names.RUN_STATUS: ended.status,
    }
    if ended.status in _RUN_RESULTS:
        attributes[names.PIPELINE_RESULT] = _REASONS.get(ended.reason, _RUN_RESULTS[ended.status])
    if ended.reason:
        attributes[names.RUN_FAILURE_REASON] = ended.reason
    if url:
        attributes[names.PIPELINE_RUN_URL] = url
    if facts is not None:
        _describe_run(attributes, facts, tags)
    failed = ended.status == "failure"
    moments = _moments(ended)
    if ended.error is not None:
        attributes[names.ERROR_TYPE] = ended.error.type
        moments.append(exception(ended.error, ended.at_ns, stack=not ended.raised))
    return Span(
        trace_id(ended.run),
        run_span_id(ended.run),
        "",
        f"RUN {ended.job}".rstrip(),
        begun,
        ended.at_ns,
        attributes,
        resource,
        SERVER,
        tuple(sorted([*events, *moments], key=lambda e: e.at_ns)),
        _parent_run(facts),
        _status(ended.error, ended.reason or "run failed") if failed else None,
        ended.status == "success",
    )


def step_span(
    ended: StepEnded, resource: Labels, events: Sequence[SpanEvent], events_dropped: int = 0, inner_dropped: int = 0
) -> Span:
    """One attempt of a step, linked to the attempt before it."""
    attributes: dict[str, Attribute] = {
        names.PIPELINE_NAME: ended.job,
        names.PIPELINE_RUN_ID: ended.run,
        names.TASK_NAME: ended.step,
        names.STEP_STATUS: ended.status,
        names.STEP_ATTEMPT: ended.attempt,
    }
    if ended.begun:
        attributes[names.TASK_RUN_ID] = f"{ended.step}#{ended.attempt}"
    if ended.status in _STEP_RESULTS:
        attributes[names.TASK_RUN_RESULT] = _STEP_RESULTS[ended.status]
    if ended.kind:
        attributes[names.STEP_KIND] = ended.kind
    if ended.assets:
        attributes[names.ASSET_KEYS] = ended.assets
    if ended.partition:
        attributes[names.PARTITION] = ended.partition
    if ended.interrupted:
        attributes[names.STEP_INTERRUPTED] = True
    if events_dropped:
        attributes[names.EVENTS_DROPPED] = events_dropped
    if inner_dropped:
        attributes[names.INNER_DROPPED] = inner_dropped
    if ended.error is not None:
        attributes[names.ERROR_TYPE] = ended.error.type
        events = (*events, exception(ended.error, ended.at_ns))
    return Span(
        trace_id(ended.run),
        step_span_id(ended.run, ended.step, ended.attempt),
        run_span_id(ended.run),
        ended.step,
        min(ended.started_ns, ended.at_ns),
        ended.at_ns,
        attributes,
        resource,
        INTERNAL,
        tuple(events),
        _previous_attempt(ended),
        _status(ended.error, "step failed") if ended.status in ("failure", "retry") else None,
        ended.status == "success",
    )


def inner_spans(ended: Iterable[InnerEnded], parent_id: str, resource: Labels, when: str = "") -> list[Span]:
    """A span each. Ids are derived from name and start; two of the same name and start are told apart.

    `when` is "" for those that go out with their attempt, else the later moment: their equals may be gone already.
    """
    taken: set[str] = set()
    spans: list[Span] = []
    for inner in ended:
        name = f"{inner.name}\0{when}" if when else inner.name
        while (span_id := _inner_id(inner, name)) in taken:
            name += "'"
        taken.add(span_id)
        spans.append(_inner_span(inner, span_id, parent_id, resource))
    return spans


def _inner_id(ended: InnerEnded, name: str) -> str:
    return inner_span_id(ended.run, ended.step, ended.attempt, name, ended.started_ns)


def _inner_span(ended: InnerEnded, span_id: str, parent_id: str, resource: Labels) -> Span:
    """A resource's start, an IO manager's work, a pair of engine markers."""
    attributes: dict[str, Attribute] = {
        names.PIPELINE_NAME: ended.job,
        names.PIPELINE_RUN_ID: ended.run,
        names.INNER_KIND: ended.kind,
    }
    if ended.step:
        attributes[names.TASK_NAME] = ended.step
        attributes[names.STEP_ATTEMPT] = ended.attempt
    if ended.error is not None:
        attributes[names.ERROR_TYPE] = ended.error.type
    return Span(
        trace_id(ended.run),
        span_id,
        parent_id,
        ended.name,
        min(ended.started_ns, ended.at_ns),
        ended.at_ns,
        attributes,
        resource,
        INTERNAL,
        () if ended.error is None else (exception(ended.error, ended.at_ns),),
        (),
        None if ended.error is None else _status(ended.error, "failed"),
    )


def materialization(made: AssetMaterialized, catalog: Catalog | None) -> SpanEvent:
    """An asset was made."""
    return SpanEvent(
        names.EVENT_MATERIALIZATION, made.at_ns, _asset(made.asset, made.partition, made.metadata, catalog)
    )


def observation(seen: AssetObserved, catalog: Catalog | None) -> SpanEvent:
    """An asset was looked at."""
    attributes = _asset(seen.asset, seen.partition, seen.metadata, catalog)
    return SpanEvent(names.EVENT_OBSERVATION, seen.at_ns, attributes)


def check(done: CheckEvaluated, catalog: Catalog | None) -> SpanEvent:
    """A check was evaluated."""
    attributes = _asset(done.asset, done.partition, {}, catalog)
    attributes[names.CHECK_NAME] = done.check
    attributes[names.CHECK_PASSED] = done.passed
    attributes[names.CHECK_SEVERITY] = done.severity
    attributes[names.CHECK_BLOCKING] = done.blocking
    return SpanEvent(names.EVENT_CHECK, done.at_ns, attributes)


def exception(error: ErrorInfo, at_ns: int, stack: bool = True) -> SpanEvent:
    """An error as the conventions have it. Without `stack` where the stack stands on another span already."""
    attributes: dict[str, Attribute] = {
        names.EXCEPTION_TYPE: error.type,
        names.EXCEPTION_MESSAGE: clipped(error.message, _TEXT_MAX),
    }
    if stack and error.stack:
        attributes[names.EXCEPTION_STACKTRACE] = clipped(error.stack, _STACK_MAX)
    return SpanEvent(names.EXCEPTION, at_ns, attributes)


def clipped(text: str, room: int) -> str:
    """Its beginning and its end: a stack's last lines are as good as its first."""
    return text if len(text) <= room else f"{text[: room // 2]}\n…\n{text[len(text) - room // 2 :]}"


def _asset(asset: str, partition: str | None, metadata: Metadata, catalog: Catalog | None) -> dict[str, Attribute]:
    attributes: dict[str, Attribute] = {names.ASSET_KEY: asset}
    if partition:
        attributes[names.PARTITION] = partition
    rows = metadata.get("dagster/partition_row_count", metadata.get("dagster/row_count"))
    if isinstance(rows, int):
        attributes[names.ROWS] = rows
    facts = catalog.assets.get(asset) if catalog is not None else None
    if facts is not None:
        if facts.group:
            attributes[names.ASSET_GROUP] = facts.group
        if facts.owners:
            attributes[names.ASSET_OWNERS] = facts.owners
        if facts.kinds:
            attributes[names.ASSET_KINDS] = facts.kinds
    return attributes


def _describe_run(attributes: dict[str, Attribute], facts: RunFacts, tags: bool) -> None:
    if facts.partition:
        attributes[names.PARTITION] = facts.partition
    if facts.backfill:
        attributes[names.BACKFILL] = facts.backfill
    if tags:
        attributes.update(_tags(facts.tags))


def _tags(tags: Mapping[str, str]) -> dict[str, Attribute]:
    """Run tags, without Dagster's hidden ones (`.dagster/…`)."""
    shown = [(key, value) for key, value in tags.items() if not key.startswith(".")][:_TAGS_MAX]
    return {names.RUN_TAG + key: clipped(value, _TEXT_MAX) for key, value in shown}


def _moments(ended: RunEnded) -> list[SpanEvent]:
    moments = ((names.EVENT_RUN_STARTING, ended.starting_ns), (names.EVENT_RUN_STARTED, ended.started_ns))
    return [SpanEvent(name, at, {}) for name, at in moments if at is not None]


def _previous_attempt(ended: StepEnded) -> tuple[SpanLink, ...]:
    if ended.attempt < 2:
        return ()
    before = step_span_id(ended.run, ended.step, ended.attempt - 1)
    return (SpanLink(trace_id(ended.run), before, {names.LINK_TYPE: names.LINK_PREVIOUS_ATTEMPT}),)


def _parent_run(facts: RunFacts | None) -> tuple[SpanLink, ...]:
    parent = facts.parent_run_id if facts is not None else ""
    if not parent:
        return ()
    return (SpanLink(trace_id(parent), run_span_id(parent), {names.LINK_TYPE: names.LINK_PARENT_RUN}),)


def _status(error: ErrorInfo | None, otherwise: str) -> str:
    return clipped(f"{error.type}: {error.message}", _STATUS_MAX) if error is not None else otherwise
