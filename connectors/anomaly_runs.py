"""Runs that do not get on: how long a run may queue, start and run, and what comes of it when it takes longer. Pure."""

from collections.abc import Iterator, Sequence
from typing import Final, Literal

import msgspec

from pipeline.clock import SECOND
from pipeline.conditions import moment, span
from pipeline.options import Duration
from pipeline.signals import Severity

LEAD_NS: Final = 60 * SECOND
"""No timer is due sooner than this after what set it."""

Phase = Literal["queued", "starting", "running", "lost"]
PHASES: Final[dict[str, Phase]] = {
    "PIPELINE_ENQUEUED": "queued",
    "PIPELINE_STARTING": "starting",
    "PIPELINE_START": "running",
}
"""The events that say where a run is."""
_ORDER: Final[Sequence[Phase]] = ("queued", "starting", "running", "lost")


class StuckOption(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long a run may take to get on (`run_stuck`). 0: as long as it likes."""

    queued: Duration = Duration("30m")
    """In the queue; longer is a WARNING."""
    starting: Duration = Duration("10m")
    """From the queue to its start; longer is an ERROR."""
    running: Duration = Duration("24h")
    """From its start to its end; longer is an ERROR."""
    factor: float = 5.0
    """Nor so many times the median of its job's last successful runs, where enough are known."""
    excess: Duration = Duration("10m")
    """And it must be this much longer than that median."""
    max_runs: int = 20_000
    """Runs that are watched at the same time; further ones are not."""

    def problems(self) -> Iterator[tuple[str, str]]:
        """Path and message of each fault."""
        for name in ("queued", "starting", "running"):
            if 0 < getattr(self, name) < 60:
                yield name, "must be at least a minute, or 0 for as long as it likes"
        if self.factor and self.factor <= 1:
            yield "factor", "must be more than 1, or 0 for never"
        if self.max_runs < 1:
            yield "max_runs", "must be at least 1"


class OpenRun(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """A run that has not ended. `usual_ns`: the median of its job's runs when it started, 0 where it is not known."""

    job: str
    phase: Phase
    since_ns: int
    partition: str | None = None
    usual_ns: int = 0
    due_ns: int = 0
    told: bool = False
    slow: bool = False  # an asset of it was told to be slow: the run as a whole need not be


def entered(before: OpenRun | None, job: str, phase: Phase, at_ns: int, usual_ns: int) -> OpenRun:
    """A run is in this phase since then. What says that it went back is old news."""
    if before is not None and _ORDER.index(phase) <= _ORDER.index(before.phase):
        return before
    run = before or OpenRun(job, phase, at_ns)
    return msgspec.structs.replace(run, job=job or run.job, phase=phase, since_ns=at_ns, usual_ns=usual_ns)


def armed(run: OpenRun, option: StuckOption, now_ns: int) -> OpenRun:
    """With the time at which it has taken too long; what was told is not told again."""
    limit_ns = limit(run, option)
    due_ns = max(run.since_ns + limit_ns, now_ns + LEAD_NS) if limit_ns and not run.told else 0
    return msgspec.structs.replace(run, due_ns=due_ns)


def limit(run: OpenRun, option: StuckOption) -> int:
    """How long it may be in its phase, in ns; 0: as long as it likes."""
    if run.phase == "queued":
        return option.queued.ns
    if run.phase == "starting":
        return option.starting.ns
    limits = [option.running.ns] if option.running else []
    if option.factor and run.usual_ns:
        limits.append(max(round(option.factor * run.usual_ns), run.usual_ns + option.excess.ns))
    return min(limits, default=0)


def severity(run: OpenRun) -> Severity:
    """How bad it is that it does not get on."""
    return "WARNING" if run.phase == "queued" else "ERROR"


def title(run: OpenRun) -> str:
    """What it is that does not happen."""
    return {"queued": "Run Does Not Start", "starting": "Run Does Not Start"}.get(run.phase, "Run Does Not End")


def words(run: OpenRun, now_ns: int) -> str:
    """What a person wants to know of it."""
    since = f"since {moment(run.since_ns)}"
    took = span(max(0, now_ns - run.since_ns))
    if run.phase == "queued":
        return f"It is in the queue for {took} ({since})."
    if run.phase == "starting":
        return f"It is starting for {took} ({since}) and has not begun: is its worker there?"
    usual = f"; its job usually takes {span(run.usual_ns)}" if run.usual_ns else ""
    if run.phase == "lost":
        return f"Nothing was heard of it any more, and it did not end ({since}){usual}."
    return f"It is running for {took} ({since}){usual}."
