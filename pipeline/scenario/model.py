"""What stands in a `.test.yaml`: docs/testing-alerts.md tells it to users."""

from collections.abc import Iterator
from typing import Literal

import msgspec

from pipeline.alert_json import LAST_NS
from pipeline.clock import SECOND
from pipeline.expressions import Condition, ExpressionError
from pipeline.options import Duration
from pipeline.signals import Signal

MAX_TIMES = 100_000
"""Events or expectations that one entry may stand for."""


class _Failing(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What all runs have that a scenario tells of. `{n}` in a text is the number of the repetition, from 1."""

    run: str = ""
    """The run's id; by default each run has its own."""
    job: str = "nightly"
    """The job's name."""
    took: Duration = Duration(0)
    """How long each attempt takes."""


class AssetRun(_Failing, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A run that makes an asset, or fails to."""

    asset: str
    """The asset's key, joined by `/`."""
    also: tuple[str, ...] = ()
    """Further assets with the same fate in the same run."""
    step: str = ""
    """The step; by default the asset's key with `__`. Of `also` always so."""
    partition: str | None = None
    """The partition."""
    error: str = "ValueError: no good"
    """What is raised: `Type: message`."""
    file: str = "/opt/project/defs.py"
    """Where it is raised."""
    line: int = 17
    """The line of it."""
    function: str = "compute"
    """The function of it."""
    attempts: int = 1
    """How many attempts there are; all but the last fail, and are announced as retries."""
    retry_wait: Duration = Duration("1m")
    """The time between two attempts."""
    metadata: dict[str, int | float | str] = {}
    """The materialization's metadata."""

    def problems(self) -> Iterator[tuple[str, str]]:
        if not 1 <= self.attempts <= 100:
            yield "attempts", "is between 1 and 100"


class CheckRun(_Failing, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A run that makes an asset and evaluates a check of it."""

    asset: str
    """The asset's key."""
    check: str
    """The check's name."""
    severity: Literal["WARN", "ERROR"] = "ERROR"
    """What a failure means."""
    blocking: bool = False
    """A failure fails the step and the run, too."""
    metadata: dict[str, int | float | str] = {}
    """The evaluation's metadata."""


class JobRun(_Failing, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A run as such."""

    error: str = ""
    """What made it fail."""
    asset: str = ""
    """`run_canceled`: the asset that was being made."""


class Silencing(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Somebody silences what matches."""

    when: str
    """A condition over an alert: `asset == "orders"`."""
    for_: Duration = msgspec.field(name="for", default=Duration("1h"))
    """How long."""
    by: str = "somebody"
    """Who."""
    why: str = ""
    """Why."""

    def problems(self) -> Iterator[tuple[str, str]]:
        try:
            Condition(self.when, Signal.ALERTS)
        except ExpressionError as error:
            yield "when", str(error)


class Answer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Somebody answers the latest notification that is of all this."""

    kind: str = ""
    """`asset_failure`, `check_failure`, …"""
    asset: str = ""
    """The asset's key."""
    check: str = ""
    """The check's name."""
    job: str = ""
    """The job's name."""
    by: str = "somebody"
    """Who."""
    why: str = ""
    """Why."""


class Step(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Something that happens, or just time that passes."""

    at: Duration | None = None
    """When, since the scenario's start. By default when the entry before was (the last time, of one that repeats)."""
    advance: Duration | None = None
    """How long after the entry before."""
    every: Duration | None = None
    """It happens again and again, so far apart."""
    for_: Duration | None = msgspec.field(name="for", default=None)
    """… for so long: `every: 5m, for: 1h` are twelve times."""
    times: int | None = None
    """… or so many times."""
    asset_failed: AssetRun | None = None
    """A run in which an asset fails."""
    asset_materialized: AssetRun | None = None
    """A run in which an asset is made."""
    check_failed: CheckRun | None = None
    """A run in which a check fails."""
    check_passed: CheckRun | None = None
    """A run in which a check passes."""
    run_failed: JobRun | None = None
    """A run that fails without a step that did."""
    run_succeeded: JobRun | None = None
    """A run that is well."""
    run_canceled: JobRun | None = None
    """A run that somebody cancels."""
    silence: Silencing | None = None
    """Somebody silences alerts."""
    acknowledge: Answer | None = None
    """Somebody is at it."""
    resolve: Answer | None = None
    """Somebody says that it is well."""
    lines: tuple[str, ...] = ()
    """Entries of Dagster's event log as it stores them (JSON), all at this time."""
    file: str = ""
    """A file of such entries, one a line. They come at the time at which this happens and as far apart as they were."""

    def problems(self) -> Iterator[tuple[str, str]]:
        if self.at is not None and self.advance is not None:
            yield "advance", "stands beside `at`; one of them says when"
        kinds = (self.asset_failed, self.asset_materialized, self.check_failed, self.check_passed)
        kinds_of_runs = (self.run_failed, self.run_succeeded, self.run_canceled)
        by_people = (self.silence, self.acknowledge, self.resolve)
        said = sum(bool(kind) for kind in (*kinds, *kinds_of_runs, *by_people, self.lines, self.file))
        if said > 1:
            yield "", "says several things that happen; write an entry for each"
        if not said and self.at is None and self.advance is None:
            yield "", "nothing happens in it, and no time passes"
        yield from repeat_problems(self.every, self.for_, self.times)


class Expected(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A notification. What it does not say may be anything."""

    at: Duration | None = None
    """When, since the scenario's start."""
    within: Duration = Duration(0)
    """How much later it may come."""
    every: Duration | None = None
    """It is told again and again, so far apart."""
    for_: Duration | None = msgspec.field(name="for", default=None)
    """… for so long."""
    times: int | None = None
    """… or so many times."""
    state: str = ""
    """`firing`, `digest`, `escalated`, `repeated`, `resolved`."""
    kind: str = ""
    """`asset_failure`, `check_failure`, …"""
    severity: str = ""
    """`INFO`, `WARNING`, `ERROR`, `CRITICAL`."""
    asset: str = ""
    """The asset's key."""
    check: str = ""
    """The check's name."""
    step: str = ""
    """The step."""
    job: str = ""
    """The job's name."""
    run: str = ""
    """The run's id."""
    partition: str | None = None
    """The partition."""
    reason: str = ""
    """Why it is told, where the alert says so."""
    count: int | None = None
    """How many failures it tells of."""
    channels: tuple[str, ...] | None = None
    """Who is meant: exactly these."""
    exporters: tuple[str, ...] | None = None
    """Ids of the notifiers that take it: exactly these."""
    escalate_to: tuple[str, ...] | None = None
    """Who is named in it: exactly these."""
    text: tuple[str, ...] = ()
    """What it says, in its title, summary, error or what a notifier sends: all of these."""

    def problems(self) -> Iterator[tuple[str, str]]:
        if self.every is not None and self.at is None:
            yield "every", "needs an `at` from which it counts"
        yield from repeat_problems(self.every, self.for_, self.times)


class Scenario(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Events in, notifications out."""

    name: str
    """What is to be seen, as a sentence."""
    start: str = "2024-01-15T02:00:00Z"
    """The time at which it starts; UTC where it says no zone."""
    set: tuple[str, ...] = ()
    """Options on top of the configuration, as of `--set`."""
    env: dict[str, str] = {}
    """Further variables for `${env:…}`."""
    events: tuple[Step, ...] = ()
    """What happens, in any order of time."""
    expect: tuple[Expected, ...] = ()
    """What is told. Nothing else may be, unless `strict` is false."""
    never: tuple[Expected, ...] = ()
    """What must not be told."""
    strict: bool = True
    """Whether what nobody expects is a failure."""
    dead_letters: int = 0
    """How many entries are refused."""
    until: Duration | None = None
    """How far time goes on; by default to the last event or expectation."""


class ScenarioFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A `.test.yaml`."""

    config: tuple[str, ...]
    """The configuration, relative to this file; several are merged in order."""
    set: tuple[str, ...] = ()
    """Options on top of it, as of `--set`."""
    env: dict[str, str] = {}
    """Variables for `${env:…}`: those of the process are not seen."""
    scenarios: tuple[Scenario, ...]
    """What is played, each from nothing."""

    def problems(self) -> Iterator[tuple[str, str]]:
        if not self.scenarios:
            yield "scenarios", "there are none"
        names = [scenario.name for scenario in self.scenarios]
        for name in sorted({name for name in names if names.count(name) > 1}):
            yield "scenarios", f"there are two named {name!r}"


def repeat_problems(every: Duration | None, for_: Duration | None, times: int | None) -> Iterator[tuple[str, str]]:
    """What is wrong with a repetition."""
    if every is None:
        for name, value in (("for", for_), ("times", times)):
            if value is not None:
                yield name, "needs an `every`"
    elif every.ns <= 0:
        yield "every", "is more than 0"
    elif (for_ is None) == (times is None):
        yield "every", "needs `for` or `times`, one of them"
    elif len(repeats(every, for_, times)) > MAX_TIMES or (times is not None and times < 1):
        yield "every", f"is repeated between 1 and {MAX_TIMES} times"


def repeats(every: Duration | None, for_: Duration | None, times: int | None) -> range:
    """The times (ns after the first) at which something happens."""
    if every is None:
        return range(1)
    end = for_.ns if for_ is not None else every.ns * (times or 0)
    return range(0, min(end, LAST_NS // SECOND * SECOND), every.ns)
