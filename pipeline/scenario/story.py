"""Event logs written as a story: `Log("run-1").run_start().step_start("a").step_success("a").run_success()`.

Each entry is built twice from the same facts: as the bytes that Dagster would store (`lines`) and as the `Event` that
the decoder makes of them (`events`); a test holds the two against each other. Time starts at `START_NS` and moves on by
one second an entry (`tick_ns`); `after` moves it further.
"""

import json
from collections.abc import Mapping
from typing import Any

import msgspec

from pipeline import events as ev
from pipeline.events import Event
from pipeline.facts import ErrorInfo, Metadata

START_NS = 1_750_000_000_000_000_000
SECOND = 1_000_000_000

Wire = dict[str, Any]


class Fault(msgspec.Struct, frozen=True):
    """An error as Dagster stores it; `cause` is the inner one. Its one frame is at `file`:`line` in `function`."""

    cls: str = "ValueError"
    message: str = "no good"
    module: str = ""
    file: str = "/opt/project/defs.py"
    line: int = 17
    function: str = "compute"
    cause: "Fault | None" = None

    def wire(self) -> Wire:
        """SerializableErrorInfo."""
        return _of(
            "SerializableErrorInfo",
            cause=self.cause.wire() if self.cause else None,
            cls_name=self.cls,
            context=None,
            message=self._text(),
            stack=[self._frame()],
        )

    def info(self) -> ErrorInfo:
        """What the decoder makes of it."""
        chain = [self]
        while chain[-1].cause is not None:
            chain.append(chain[-1].cause)
        inner = chain[-1]
        return ErrorInfo(
            type=inner.cls,
            message=inner.message,
            file=inner.file,
            line=inner.line,
            function=inner.function,
            frames=(f"{inner.file}:{inner.function}",),
            chain=tuple(fault.cls for fault in chain),
            stack="\ncaused by:\n".join(fault._text() + fault._frame() for fault in chain),
        )

    def _text(self) -> str:
        name = f"{self.module}.{self.cls}" if self.module else self.cls
        return f"{name}: {self.message}\n" if self.message else f"{name}\n"

    def _frame(self) -> str:
        return f'  File "{self.file}", line {self.line}, in {self.function}\n    raise\n'


INTERRUPTED = Fault("DagsterExecutionInterruptedError", "", "dagster._core.errors")
CHECK_FAILED = Fault("DagsterAssetCheckFailedError", "1 blocking asset check failed", "dagster._core.errors")


class Log:
    """The event log of one run ("" for events without a run). Every method adds an entry and gives the log back."""

    def __init__(
        self, run: str = "run-1", job: str = "nightly", start_ns: int = START_NS, tick_ns: int = SECOND
    ) -> None:
        self.run, self.job = run, job if run else ""
        self.now_ns, self.tick_ns = start_ns, tick_ns
        self._entries: list[tuple[bytes, Event]] = []

    def events(self) -> list[Event]:
        """Fresh events, domain time set to the latest event time so far; sources count lines from 1."""
        events: list[Event] = []
        now_ns = 0
        for place, (_, event) in enumerate(self._entries, 1):
            now_ns = max(now_ns, event.at_ns)
            events.append(msgspec.structs.replace(event, source="test", offset=place, now_ns=now_ns))
        return events

    def lines(self) -> list[bytes]:
        """The same as stored bytes."""
        return [line for line, _ in self._entries]

    def timed_lines(self) -> list[tuple[int, bytes]]:
        """The same, each with its time."""
        return [(event.at_ns, line) for line, event in self._entries]

    def after(self, seconds: float) -> "Log":
        """Move the time of the next entries; may go back."""
        self.now_ns += round(seconds * SECOND)
        return self

    # --- the run ---

    def run_queued(self, partition: str | None = None, code_location: str = "shop") -> "Log":
        repository = "__repository__"
        data = _of(
            "RunEnqueuedData",
            code_location_name=code_location,
            partition_key=partition,
            repository_name=repository,
        )
        return self.add("PIPELINE_ENQUEUED", data, ev.RunQueued(code_location, repository, partition), level=20)

    def run_starting(self) -> "Log":
        return self.add("PIPELINE_STARTING", level=20)

    def run_start(self) -> "Log":
        return self.add("PIPELINE_START", message=f'Started execution of run for "{self.job}".')

    def run_success(self) -> "Log":
        return self.add("PIPELINE_SUCCESS", message=f'Finished execution of run for "{self.job}".')

    def run_failure(self, error: Fault | None = None, reason: str = "STEP_FAILURE") -> "Log":
        data = _of(
            "PipelineFailureData",
            error=error.wire() if error else None,
            failure_reason={"__enum__": f"RunFailureReason.{reason}"} if reason else None,
            first_step_failure_event=None,
        )
        detail = ev.RunFailed(error.info() if error else None, reason, reason == "STEP_FAILURE")
        return self.add(
            "PIPELINE_FAILURE", data, detail, level=40, message=f'Execution of run for "{self.job}" failed.'
        )

    def run_canceled(self) -> "Log":
        return self.add("PIPELINE_CANCELED", _of("PipelineCanceledData", error=None), ev.RunCanceled(), level=40)

    # --- steps ---

    def step_start(self, step: str) -> "Log":
        return self.add("STEP_START", step=step, message=f'Started execution of step "{step}".')

    def step_success(self, step: str, duration_ms: float = 1000.0) -> "Log":
        data = _of("StepSuccessData", duration_ms=duration_ms)
        return self.add("STEP_SUCCESS", data, ev.StepSucceeded(duration_ms), step=step)

    def step_failure(self, step: str, error: Fault | None = None, source: str = "USER_CODE_ERROR") -> "Log":
        error = error or Fault()
        data = _of(
            "StepFailureData",
            error=error.wire(),
            error_source={"__enum__": f"ErrorSource.{source}"},
            user_failure_data=None,
        )
        return self.add("STEP_FAILURE", data, ev.StepFailed(error.info(), source), step=step, level=40)

    def step_up_for_retry(self, step: str, error: Fault | None = None, wait_s: float = 0.5) -> "Log":
        error = error or Fault()
        data = _of("StepRetryData", error=error.wire(), seconds_to_wait=wait_s)
        return self.add("STEP_UP_FOR_RETRY", data, ev.RetryScheduled(error.info(), wait_s), step=step)

    def step_restarted(self, step: str, attempt: int = 2) -> "Log":
        message = f'Started re-execution (attempt # {attempt}) of step "{step}".'
        return self.add("STEP_RESTARTED", step=step, message=message)

    def step_skipped(self, step: str) -> "Log":
        return self.add("STEP_SKIPPED", step=step, message=f'Skipped execution of step "{step}".')

    def not_executed(self, step: str, because: str) -> "Log":
        """What Dagster logs of a step whose upstream failed; there is no event of its own."""
        return self.log(f"Dependencies for step {step} failed: ['{because}']. Not executing.", step=step, level=40)

    def step_output(self, step: str, name: str = "result") -> "Log":
        return self.add("STEP_OUTPUT", step=step, message=f'Yielded output "{name}" of type "Any".')

    def handled_output(self, step: str, name: str = "result") -> "Log":
        data = _of("HandledOutputData", manager_key="io_manager", metadata_entries=[], output_name=name)
        return self.add("HANDLED_OUTPUT", data, ev.IoHandled(name, "io_manager"), step=step)

    def loaded_input(self, step: str, name: str = "upstream") -> "Log":
        data = _of("LoadedInputData", input_name=name, manager_key="io_manager", metadata_entries=[])
        return self.add("LOADED_INPUT", data, ev.IoHandled(name, "io_manager"), step=step)

    def marker(self, type: str, start: str = "", end: str = "", step: str = "", error: Fault | None = None) -> "Log":
        """ENGINE_EVENT, STEP_WORKER_*, RESOURCE_INIT_*."""
        data = _of(
            "EngineEventData",
            error=error.wire() if error else None,
            marker_end=end or None,
            marker_start=start or None,
            metadata_entries=[],
        )
        return self.add(type, data, ev.Marker(start, end, error.info() if error else None), step=step)

    def hook_errored(self, step: str, error: Fault | None = None) -> "Log":
        error = error or Fault()
        return self.add(
            "HOOK_ERRORED", _of("HookErroredData", error=error.wire()), ev.HookFailed(error.info()), step=step, level=40
        )

    # --- assets and checks ---

    def plan(self, asset: str, step: str, partition: str | None = None) -> "Log":
        data = _of(
            "AssetMaterializationPlannedData", asset_key=_key(asset), partition=partition, partitions_subset=None
        )
        return self.add("ASSET_MATERIALIZATION_PLANNED", data, ev.MaterializationPlanned(asset, partition), step=step)

    def materialize(
        self, asset: str, step: str = "", partition: str | None = None, metadata: Mapping[str, int | float | str] = {}
    ) -> "Log":
        data = _of(
            "StepMaterializationData",
            asset_lineage=[],
            materialization=_of(
                "AssetMaterialization",
                asset_key=_key(asset),
                description=None,
                metadata_entries=_entries(metadata),
                partition=partition,
                tags={},
            ),
        )
        return self.add(
            "ASSET_MATERIALIZATION", data, ev.Materialized(asset, partition, _plain(metadata), {}), step=step
        )

    def observe(
        self, asset: str, step: str = "", partition: str | None = None, metadata: Mapping[str, int | float | str] = {}
    ) -> "Log":
        data = _of(
            "AssetObservationData",
            asset_observation=_of(
                "AssetObservation",
                asset_key=_key(asset),
                description=None,
                metadata_entries=_entries(metadata),
                partition=partition,
                tags={},
            ),
        )
        return self.add("ASSET_OBSERVATION", data, ev.Observed(asset, partition, _plain(metadata), {}), step=step)

    def plan_check(self, asset: str, check: str, step: str) -> "Log":
        data = _of("AssetCheckEvaluationPlanned", asset_key=_key(asset), check_name=check, partitions_subset=None)
        return self.add("ASSET_CHECK_EVALUATION_PLANNED", data, ev.CheckPlanned(asset, check), step=step)

    def check(
        self,
        asset: str,
        check: str,
        passed: bool = True,
        step: str = "",
        severity: str = "ERROR",
        blocking: bool = False,
        metadata: Mapping[str, int | float | str] = {},
    ) -> "Log":
        data = _of(
            "AssetCheckEvaluation",
            asset_key=_key(asset),
            blocking=blocking,
            check_name=check,
            description=None,
            metadata={label: _value(value) for label, value in metadata.items()},
            partition=None,
            severity={"__enum__": f"AssetCheckSeverity.{severity}"},
            success=passed,
            target_materialization_data=None,
        )
        detail = ev.CheckResult(asset, check, passed, severity, blocking, None, None, _plain(metadata))
        return self.add("ASSET_CHECK_EVALUATION", data, detail, step=step)

    # --- the rest ---

    def freshness(self, asset: str, state: str = "FAIL", previous: str = "PASS") -> "Log":
        data = _of(
            "FreshnessStateChange",
            key=_key(asset),
            new_state={"__enum__": f"FreshnessState.{state}"},
            previous_state={"__enum__": f"FreshnessState.{previous}"},
            state_change_timestamp=self.now_ns / SECOND,
        )
        return self.add("FRESHNESS_STATE_CHANGE", data, ev.FreshnessChanged(asset, state, previous, self.now_ns))

    def wiped(self, asset: str, *partitions: str) -> "Log":
        data = _of("AssetWipedData", asset_key=_key(asset), partition_keys=list(partitions) or None)
        return self.add("ASSET_WIPED", data, ev.AssetWiped(asset, partitions))

    def log(self, message: str, step: str = "", level: int = 20) -> "Log":
        """What user code or Dagster logged: an entry without an event."""
        return self._put(None, ev.LOG, None, step, message, level)

    def add(
        self,
        type: str,
        data: Wire | None = None,
        detail: ev.Detail | None = None,
        step: str = "",
        message: str = "",
        level: int = 10,
    ) -> "Log":
        """An entry of any type, with its `event_specific_data` and what the decoder makes of that."""
        inner = _of(
            "DagsterEvent",
            event_specific_data=data,
            event_type_value=type,
            logging_tags={},
            message=message or None,
            pid=None,
            pipeline_name=self.job,
            solid_handle=None,
            step_handle=None,
            step_key=step or None,
            step_kind_value="COMPUTE" if step else None,
        )
        return self._put(inner, type, detail, step, message, level)

    def _put(
        self, inner: Wire | None, type: str, detail: ev.Detail | None, step: str, message: str, level: int
    ) -> "Log":
        entry = _of(
            "EventLogEntry",
            dagster_event=inner,
            error_info=None,
            level=level,
            message="",
            pipeline_name=self.job,
            run_id=self.run,
            step_key=step or None,
            timestamp=self.now_ns / SECOND,
            user_message="" if inner is not None else message,
        )
        line = json.dumps(entry).encode()
        kind = "COMPUTE" if step and inner is not None else ""
        event = Event(
            line, type, self.run, self.now_ns, level, self.job, step, message, kind, detail, record_ns=self.now_ns
        )
        self._entries.append((line, event))
        self.now_ns += self.tick_ns
        return self


def _of(cls: str, **fields: object) -> Wire:
    return {"__class__": cls, **fields}


def _key(asset: str) -> Wire:
    return _of("AssetKey", path=asset.split("/"))


def _entries(metadata: Mapping[str, int | float | str]) -> list[Wire]:
    return [
        _of("EventMetadataEntry", description=None, entry_data=_value(value), label=label)
        for label, value in metadata.items()
    ]


def _value(value: int | float | str) -> Wire:
    if isinstance(value, str):
        return _of("TextMetadataEntryData", text=value)
    return _of("IntMetadataEntryData" if isinstance(value, int) else "FloatMetadataEntryData", value=value)


def _plain(metadata: Mapping[str, int | float | str]) -> Metadata:
    return dict(metadata)
