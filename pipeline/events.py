"""What Dagster said: one `Event` a stored EventLogEntry, with its detail parsed once at the door.

The wire's shape (serdes JSON, two generations of names) stays in `receivers/dagster_wire.py`; behind it everything
uses these types. `raw` keeps the original bytes, so dead letters, replays and the Kafka exporter are lossless. Ask an
event for them: where there are twins, what the class keeps may be a stand-in (`_Left`), and encoders see that.
State must never hold an `Event` or a part of its `raw`.
"""

from collections.abc import Sequence
from typing import Any, TypeAlias

import msgspec

from pipeline.facts import ErrorInfo, Metadata, RunFacts
from pipeline.lineage import Catalog
from pipeline.native import HAS_NATIVE, native
from pipeline.outcomes import Outcome

LOG = "LOG"
"""`Event.type` of an entry without a DagsterEvent: what `context.log` or a Python logger wrote."""


class StepFailed(msgspec.Struct, frozen=True, gc=False):
    """STEP_FAILURE. `source` is Dagster's ErrorSource (`USER_CODE_ERROR`, `INTERRUPT`, …) or ""."""

    error: ErrorInfo | None
    source: str = ""


class RetryScheduled(msgspec.Struct, frozen=True, gc=False):
    """STEP_UP_FOR_RETRY: this attempt failed, the next starts in `wait_s` seconds."""

    error: ErrorInfo | None
    wait_s: float = 0.0


class StepSucceeded(msgspec.Struct, frozen=True, gc=False):
    """STEP_SUCCESS. `duration_ms` is that of the last attempt."""

    duration_ms: float


class MaterializationPlanned(msgspec.Struct, frozen=True, gc=False):
    """ASSET_MATERIALIZATION_PLANNED: the run intends to make `asset` (key joined by "/") in the event's step."""

    asset: str
    partition: str | None = None


class Materialized(msgspec.Struct, frozen=True, gc=False):
    """ASSET_MATERIALIZATION. `tags` hold data versions, also of inputs (`dagster/input_data_version/<upstream>`)."""

    asset: str
    partition: str | None
    metadata: Metadata
    tags: dict[str, str]
    description: str | None = None


class Observed(msgspec.Struct, frozen=True, gc=False):
    """ASSET_OBSERVATION."""

    asset: str
    partition: str | None
    metadata: Metadata
    tags: dict[str, str]


class CheckPlanned(msgspec.Struct, frozen=True, gc=False):
    """ASSET_CHECK_EVALUATION_PLANNED: the run intends to evaluate this check in the event's step."""

    asset: str
    check: str


class CheckResult(msgspec.Struct, frozen=True, gc=False):
    """ASSET_CHECK_EVALUATION. `severity` is `WARN` or `ERROR`."""

    asset: str
    check: str
    passed: bool
    severity: str
    blocking: bool
    partition: str | None
    description: str | None
    metadata: Metadata


class RunQueued(msgspec.Struct, frozen=True, gc=False):
    """PIPELINE_ENQUEUED. Fields are "" or None before Dagster 1.10."""

    code_location: str = ""
    repository: str = ""
    partition: str | None = None


class RunFailed(msgspec.Struct, frozen=True, gc=False):
    """PIPELINE_FAILURE. `reason` is Dagster's RunFailureReason (`STEP_FAILURE`, `START_TIMEOUT`, …) or "".

    `repeats_step`: the error repeats the run's first step failure, which was an event of its own.
    """

    error: ErrorInfo | None
    reason: str = ""
    repeats_step: bool = False


class RunCanceled(msgspec.Struct, frozen=True, gc=False):
    """PIPELINE_CANCELED."""

    error: ErrorInfo | None = None


class Marker(msgspec.Struct, frozen=True, gc=False):
    """ENGINE_EVENT, RESOURCE_INIT_*, STEP_WORKER_*: `start` or `end` names the marker pair, "" where there is none."""

    start: str
    end: str
    error: ErrorInfo | None


class IoHandled(msgspec.Struct, frozen=True, gc=False):
    """HANDLED_OUTPUT, LOADED_INPUT: what an IO manager did. `name` is the output's or input's name."""

    name: str
    manager_key: str


class HookFailed(msgspec.Struct, frozen=True, gc=False):
    """HOOK_ERRORED."""

    error: ErrorInfo | None


class FreshnessChanged(msgspec.Struct, frozen=True, gc=False):
    """FRESHNESS_STATE_CHANGE. States: `PASS`, `WARN`, `FAIL`, `UNKNOWN`, `NOT_APPLICABLE`."""

    asset: str
    state: str
    previous: str
    at_ns: int


class MaterializationFailed(msgspec.Struct, frozen=True, gc=False):
    """ASSET_FAILED_TO_MATERIALIZE (Dagster+ only): what the open source leaves us to derive."""

    asset: str
    partition: str | None
    error: ErrorInfo | None
    reason: str = ""


class Expectation(msgspec.Struct, frozen=True, gc=False):
    """STEP_EXPECTATION_RESULT."""

    label: str
    success: bool


class AssetWiped(msgspec.Struct, frozen=True, gc=False):
    """ASSET_WIPED: its series and state are retired. `partitions` is empty when all were wiped."""

    asset: str
    partitions: tuple[str, ...] = ()


class LogFields(msgspec.Struct, frozen=True, gc=False):
    """A LOG entry that carries structured fields, as `dagster_dagtel.get_logger()` writes them."""

    fields: Metadata
    error: ErrorInfo | None = None


Detail: TypeAlias = (
    StepFailed
    | RetryScheduled
    | StepSucceeded
    | MaterializationPlanned
    | Materialized
    | Observed
    | CheckPlanned
    | CheckResult
    | RunQueued
    | RunFailed
    | RunCanceled
    | Marker
    | IoHandled
    | HookFailed
    | FreshnessChanged
    | MaterializationFailed
    | Expectation
    | AssetWiped
    | LogFields
)


class Event(msgspec.Struct, gc=False):  # nothing in it refers back to it; tracked, all stages take 1 % longer
    """One entry of Dagster's event log.

    The first block is what was read; only `redaction` replaces texts in it, and never `raw`. The second is annotated
    by processors (`run_ledger`: attempt, assets, outcomes; `enrichment`: run, catalog). When two pipelines read one
    receiver each has its own copy.
    """

    raw: bytes  # b"": no entry of Dagster's log, but the ledger's own carrier of outcomes (RUN_UNFINISHED)
    type: str  # stored value of DagsterEventType with PIPELINE_* names, or LOG; unknown types pass as they are
    run_id: str  # "" for an event without a run
    at_ns: int  # the event's own timestamp, Unix ns, UTC; not monotonic within a run
    level: int  # Python's 10 … 50
    job: str  # "" for an event without a run
    step_key: str  # "" if none
    message: str  # dagster_event.message, else user_message
    step_kind: str = ""
    detail: Detail | None = None
    source: str = ""  # where it was read: "dagster.events/3", "file:/data/events.jsonl"
    offset: int = -1  # its place there: Kafka offset, line number from 1, storage id
    record_ns: int = 0  # timestamp of the record that carried it; the event's own where the carrier has none
    headers: tuple[tuple[str, bytes], ...] = ()

    now_ns: int = 0  # domain time at which it is processed; set by the runtime, never goes back within a shard
    attempt: int = 0  # of its step, from 1; 0 outside a step
    assets: tuple[str, ...] = ()  # keys that its step makes
    outcomes: tuple[Outcome, ...] = ()
    run: RunFacts | None = None
    catalog: Catalog | None = None  # the asset graph in force, shared by all events of a batch


class _Left:
    """`raw` and `headers` where there are twins: they lie in Kafka's answer, and are made for who asks first.

    `slot`: where the event keeps them, or what stands for them. Encoders see that; ask the event instead.
    """

    def __init__(self, slot: Any) -> None:
        self.slot, self._name = slot, slot.__name__

    def __get__(self, event: Event | None, kind: type[Event]) -> Any:
        if event is None:
            return self
        found = self.slot.__get__(event)
        return getattr(found, self._name) if type(found) is native.RecordBytes else found

    def __set__(self, event: Event, value: object) -> None:
        self.slot.__set__(event, value)


_KEPT: "native.KeptBytes | None" = None
if HAS_NATIVE:
    for _name in ("raw", "headers"):
        type.__setattr__(Event, _name, _Left(Event.__dict__[_name]))
    _KEPT = native.KeptBytes(Event)


def own_bytes(events: Sequence[Event]) -> int:
    """A batch has been processed: of its events, those that somebody keeps get bytes of their own, or they would hold
    the whole answer that these came in. How many did. Nobody but who calls may hold the batch itself any more."""
    return 0 if _KEPT is None or not isinstance(events, list) else _KEPT.take_out(events)
