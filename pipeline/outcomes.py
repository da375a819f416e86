"""What a run came to: the typed results that `run_ledger` attaches to events.

Spans, metrics, alerts and the store read outcomes and never derive them again. All times are Unix ns, UTC; a
duration is None where the log does not say. `run` is the run id, "" for an event without a run. Asset keys are
joined by "/". Source of the rules: docs/semantics.md.
"""

from typing import Literal, TypeAlias

import msgspec

from pipeline.facts import ErrorInfo, Metadata

StepStatus = Literal["success", "failure", "retry", "canceled", "unfinished"]
RunStatus = Literal["success", "failure", "canceled", "unfinished"]
RunPhase = Literal["not_started", "queued", "starting", "started", "canceling", "suspended", "ended"]


class RunEnded(msgspec.Struct, frozen=True, gc=False, tag="run_ended"):
    """A run is over: its terminal event, or nothing for longer than the ledger waits (`unfinished`).

    `raised` is true when an asset, check or step of it raised a failure of its own, so that the run need not.
    `phase` is where an unfinished run was last seen, `ended` of all others.
    `late` marks the true end of a run that was already closed as unfinished: a log and a metric, no second span.
    """

    run: str
    job: str
    status: RunStatus
    at_ns: int
    started_ns: int  # PIPELINE_START, else the first event seen of the run
    enqueued_ns: int | None = None
    starting_ns: int | None = None
    error: ErrorInfo | None = None
    reason: str = ""  # Dagster's RunFailureReason
    raised: bool = False
    late: bool = False
    phase: RunPhase = "ended"


class StepEnded(msgspec.Struct, frozen=True, gc=False, tag="step_ended"):
    """One attempt of a step is over. `retry`: it failed and will be tried again.

    `interrupted`: it was stopped from outside (ErrorSource INTERRUPT); whether that was a cancel, the run's end tells.
    `failed_check`: it failed because a blocking check did not pass; that alerts once, as the check.
    `begun`: its start is in the log, or that of no attempt of the step is. False for a retry that failed before it
    began (its process or its resources did not come up): Dagster itself does not count that as an attempt.
    """

    run: str
    job: str
    step: str
    attempt: int  # from 1
    status: StepStatus
    at_ns: int
    started_ns: int
    kind: str = ""  # Dagster's StepKind
    assets: tuple[str, ...] = ()
    partition: str | None = None
    error: ErrorInfo | None = None
    interrupted: bool = False
    failed_check: bool = False
    begun: bool = True


class StepRaised(msgspec.Struct, frozen=True, gc=False, tag="step_raised"):
    """A step failed for good, and no asset or check fails with it: it makes none, or all that it makes is made.

    Told at once, or at the run's end where an asset of the step's graph might have failed with it.
    """

    run: str
    job: str
    step: str
    attempt: int
    at_ns: int
    partition: str | None
    error: ErrorInfo | None
    interrupted: bool = False


class InnerEnded(msgspec.Struct, frozen=True, gc=False, tag="inner_ended"):
    """Something within a run or a step took time: a resource's start, an IO manager, a pair of engine markers."""

    run: str
    job: str
    step: str  # "" for the run itself
    attempt: int  # 0 for the run itself
    name: str
    kind: Literal["resource", "io", "marker"]
    at_ns: int
    started_ns: int
    error: ErrorInfo | None = None


class AssetMaterialized(msgspec.Struct, frozen=True, gc=False, tag="asset_materialized"):
    """An ASSET_MATERIALIZATION. `execution`: it counts as an execution (once per asset and run, never runless)."""

    run: str
    job: str
    step: str
    attempt: int
    asset: str
    partition: str | None
    at_ns: int
    duration_ns: int | None  # since the step's attempt began
    execution: bool
    metadata: Metadata
    tags: dict[str, str]


class AssetFailed(msgspec.Struct, frozen=True, gc=False, tag="asset_failed"):
    """An asset was planned, not made, and its step (or one under the same graph handle) failed for good.

    Counts as an execution and a failure, once per asset and run. `interrupted` and `failed_check` as in StepEnded.
    `several`: the step was to make other assets too, so the failure is the step's rather than the asset's.
    `late`: the run is over, so no other step will make the asset after all.
    """

    run: str
    job: str
    step: str  # the step that failed
    attempt: int
    asset: str
    partition: str | None
    at_ns: int
    duration_ns: int | None
    error: ErrorInfo | None
    interrupted: bool = False
    failed_check: bool = False
    several: bool = False
    late: bool = False


class AssetSkipped(msgspec.Struct, frozen=True, gc=False, tag="asset_skipped"):
    """At a run's end: planned, neither made nor failed itself (upstream failed, blocked, cancelled, skipped)."""

    run: str
    job: str
    asset: str
    partition: str | None
    at_ns: int


class AssetPlanned(msgspec.Struct, frozen=True, gc=False, tag="asset_planned"):
    """The run intends to make this asset: it exists."""

    run: str
    job: str
    step: str
    asset: str
    partition: str | None
    at_ns: int


class CheckEvaluated(msgspec.Struct, frozen=True, gc=False, tag="check_evaluated"):
    """An ASSET_CHECK_EVALUATION. `severity` is `WARN` or `ERROR`."""

    run: str
    job: str
    step: str
    asset: str
    check: str
    passed: bool
    severity: str
    blocking: bool
    partition: str | None
    at_ns: int
    description: str | None
    metadata: Metadata
    rows: int | None = None  # `dagster/row_count` of the asset's last materialization in this run


class CheckRaised(msgspec.Struct, frozen=True, gc=False, tag="check_raised"):
    """A check was planned, not evaluated, and its step failed: the check itself is broken."""

    run: str
    job: str
    step: str
    attempt: int
    asset: str
    check: str
    at_ns: int
    error: ErrorInfo | None
    interrupted: bool = False


class AssetObserved(msgspec.Struct, frozen=True, gc=False, tag="asset_observed"):
    """An ASSET_OBSERVATION."""

    run: str
    job: str
    asset: str
    partition: str | None
    at_ns: int
    metadata: Metadata
    tags: dict[str, str]


class FreshnessState(msgspec.Struct, frozen=True, gc=False, tag="freshness_state"):
    """A FRESHNESS_STATE_CHANGE by Dagster's own daemon."""

    asset: str
    state: str
    previous: str
    at_ns: int


class AssetGone(msgspec.Struct, frozen=True, gc=False, tag="asset_gone"):
    """An asset was wiped. `partitions` is empty when all of it was."""

    asset: str
    partitions: tuple[str, ...]
    at_ns: int


Outcome: TypeAlias = (
    RunEnded
    | StepEnded
    | StepRaised
    | InnerEnded
    | AssetMaterialized
    | AssetFailed
    | AssetSkipped
    | AssetPlanned
    | CheckEvaluated
    | CheckRaised
    | AssetObserved
    | FreshnessState
    | AssetGone
)
