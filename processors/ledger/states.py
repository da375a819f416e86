"""What the ledger remembers: one `RunState` a run, one `StepState` a step of it; one `KeptRun` a run that ended and may
still say more; one `Tombstone` a run long over.

Two tables of what goes on, because a run of thousands of steps touches few of them within a second, and only what was
touched is written. Nothing here holds an event or a part of its bytes.
"""

from typing import Literal

import msgspec

from pipeline.facts import ErrorInfo
from pipeline.outcomes import RunPhase, RunStatus


class AssetState(msgspec.Struct, omit_defaults=True):
    """An asset in one run. Its fate is decided once: `made`, `failed`, or at the run's end `skipped`."""

    step: str = ""  # the step that is to make it; "" for one that nobody planned
    planned: bool = False
    partition: str | None = None
    several: bool = False  # the run makes more than one partition of it
    made: bool = False
    failed: bool = False
    skipped: bool = False
    observed: bool = False
    rows: int | None = None  # `dagster/row_count` of its last materialization

    @property
    def one_partition(self) -> str | None:
        return None if self.several else self.partition


class Failure(msgspec.Struct, frozen=True, omit_defaults=True):
    """A step that failed for good, kept until the run's end: it may decide assets of other steps of its graph."""

    step: str
    attempt: int
    at_ns: int
    started_ns: int | None
    error: ErrorInfo | None = None
    interrupted: bool = False
    failed_check: bool = False
    partition: str | None = None


class RunState(msgspec.Struct, omit_defaults=True):
    """A run that is going on, or has ended lately (`status`)."""

    job: str
    first_ns: int  # event time of the first event seen
    last_ns: int  # the latest event time seen
    seen_ns: int  # domain time of the last event; that of the end once it has ended
    begun: bool = False  # something was seen that only a run that really runs says
    status: RunStatus | Literal[""] = ""
    raised: bool = False
    phase: RunPhase = "not_started"
    started_ns: int | None = None
    enqueued_ns: int | None = None
    starting_ns: int | None = None
    partition: str | None = None
    steps: list[str] = []
    assets: dict[str, AssetState] = {}
    plan: dict[str, list[str]] = {}  # step → assets that it is to make
    graphs: dict[str, list[str]] = {}  # handle prefix ("graph.") → assets whose step stands right under it
    checks: dict[str, dict[str, bool]] = {}  # step → "asset\0check" that it is to evaluate → whether that is done
    failures: dict[str, Failure] = {}  # step → how it failed
    unvoiced: list[str] = []  # steps of these whose failure may yet be that of an asset of their graph
    voices: dict[str, set[str]] = {}  # graph ("graph.") → classes of the errors that were told of it
    markers: dict[str, int] = {}  # marker → when it started, outside steps


class StepState(msgspec.Struct, omit_defaults=True):
    """A step of a run, and its present or last attempt."""

    attempt: int = 0  # how many have begun
    open: bool = False
    retried: bool = False  # the last attempt failed, another one will come
    displaced: bool = False  # an attempt was closed because the next one began; its own end may still come
    started_ns: int = 0
    first_ns: int = 0  # first sign of the attempt to come: its process starts; 0 if none
    kind: str = ""
    assets: tuple[str, ...] = ()
    starts: tuple[int, ...] = ()  # event times of its starts and ends: what comes again is known by them
    ends: tuple[int, ...] = ()
    markers: dict[str, int] | None = None
    input_ns: int = 0  # since when inputs are being loaded, an output is being stored
    output_ns: int = 0


class Tombstone(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A run that is over. `counted` are 4-byte digests of the assets that count as executed in it."""

    status: RunStatus
    job: str
    ended_ns: int  # domain time
    started_ns: int
    enqueued_ns: int | None = None
    starting_ns: int | None = None
    raised: bool = False
    counted: bytes = b""


class KeptRun(msgspec.Struct, array_like=True):
    """A run that ended lately. `tombstone`: what is left of it when it is kept no more. Its steps, or where they are
    `apart` none: they are rows of their own."""

    tombstone: Tombstone
    apart: bool
    run: RunState
    steps: dict[str, StepState] = {}
