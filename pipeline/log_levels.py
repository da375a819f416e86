"""The level of an event's log record: what it means to a person, not what Dagster's logger said.

Dagster gives nearly every event level 10, among them the ones that people look for, and 40 to a step that merely
waited in vain for its upstream. Entries that user code wrote keep their level. Source: docs/semantics.md, "Logs".
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

from pipeline.events import LOG, CheckResult, Event
from pipeline.native import HAS_NATIVE, native

_MILESTONES: Final = frozenset(
    {
        "PIPELINE_ENQUEUED",
        "PIPELINE_STARTING",
        "PIPELINE_START",
        "PIPELINE_SUCCESS",
        "STEP_START",
        "STEP_RESTARTED",
        "STEP_SUCCESS",
        "STEP_SKIPPED",
        "ASSET_MATERIALIZATION",
        "ASSET_OBSERVATION",
    }
)
BY_TYPE: Final = {**dict.fromkeys(_MILESTONES, "INFO"), "STEP_UP_FOR_RETRY": "WARNING", "PIPELINE_CANCELED": "WARNING"}
_NAMES: Final = {10: "DEBUG", 20: "INFO", 30: "WARNING", 40: "ERROR", 50: "CRITICAL"}


def log_level(event: Event) -> str:
    """DEBUG, INFO, WARNING, ERROR or CRITICAL. O(1); called once an event."""
    kind = event.type
    known = BY_TYPE.get(kind)
    if known is not None:
        return known
    if kind == LOG:
        if event.level == 40 and waited_in_vain(event):
            return "INFO"
    elif kind == "ASSET_CHECK_EVALUATION":  # the one type whose detail is looked at: that is far away in memory
        detail = event.detail
        if isinstance(detail, CheckResult) and not detail.passed:
            return "WARNING" if detail.severity == "WARN" else "ERROR"
        return "INFO"
    return _NAMES.get(event.level) or _name(event.level)


def count_levels(events: Sequence[Event]) -> Mapping[str, int]:
    """Entries of Dagster's log by level, levels in the order in which they come first. An event without bytes is ours
    (a run closed as unfinished) and no entry."""
    if _TWIN is not None:
        return dict(_TWIN.count(events))
    return Counter(log_level(event) for event in events if event.raw)


def waited_in_vain(event: Event) -> bool:
    """Whether this is Dagster's notice of a step that does not run because of its upstream: no fault of its own."""
    text = event.message
    return event.type == LOG and (
        (text.startswith("Dependencies for step ") and text.endswith(" Not executing."))
        or (text.startswith("Skipping step ") and " due to skipped dependencies: " in text)
    )


def _name(level: int) -> str:
    """The name of a level in between, as Python's logging would sort it: the next lower one that has a name."""
    return _NAMES[max(10, min(50, level // 10 * 10))]


_TWIN: Final = native.LevelCounter(Event, CheckResult, BY_TYPE, log_level) if HAS_NATIVE else None
