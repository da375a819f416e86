"""Ticks that fail, as findings. Pure.

A schedule or sensor fails as long as its latest tick that has ended failed; each further failed tick is found again.
Of what was there before it was first looked at only the latest counts.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from pipeline.clock import SECOND
from pipeline.conditions import Conditions, Of
from pipeline.signals import Alert, Severity
from receivers.dagster_api_query import State, Tick

ENDED: Final = frozenset({"SUCCESS", "SKIPPED", "FAILURE"})


class Seen(msgspec.Struct, frozen=True, omit_defaults=True):
    """The latest tick that was looked at (seconds since the epoch), and whether it was told to fail."""

    last_s: float
    location: str
    failing: bool = False


def judged(
    place: str,
    kind: str,
    name: str,
    state: State,
    seen: Seen | None,
    conditions: Conditions,
    severity: Severity,
    host: str,
) -> tuple[list[Alert], Seen | None]:
    """The findings of one schedule or sensor, and what was seen of it now."""
    of = thing(key(place, kind, name), host)
    if state.status not in ("RUNNING", ""):  # switched off: nobody waits for it any more
        over = [conditions.recovered("tick_failure", of, 0)] if seen and seen.failing else []
        return over, msgspec.structs.replace(seen, failing=False) if seen else None
    found: list[Alert] = []
    for tick in _new(state.ticks, seen):
        at_ns = round(tick.timestamp * SECOND)
        if tick.status == "FAILURE":
            found.append(_failed(place, kind, name, tick, of, at_ns, conditions, severity, host))
        elif seen is not None and seen.failing:
            found.append(conditions.recovered("tick_failure", of, 0, at_ns))
        seen = Seen(tick.timestamp, _location(place), tick.status == "FAILURE")
    return found, seen


def gone(key: str, seen: Seen, conditions: Conditions, host: str) -> list[Alert]:
    """It is no longer there, or nobody is to be told of it."""
    return [conditions.recovered("tick_failure", thing(key, host), 0)] if seen.failing else []


def key(place: str, kind: str, name: str) -> str:
    """A schedule or sensor, by name."""
    return f"{kind} {place} {name}"


def thing(key: str, host: str) -> Of:
    """What the condition is of."""
    return Of(thing=f"{host} {key}".strip())


def _new(ticks: Sequence[Tick], seen: Seen | None) -> list[Tick]:
    """The ticks that have ended since, oldest first."""
    ended = sorted((tick for tick in ticks if tick.status in ENDED), key=lambda tick: tick.timestamp)
    return ended[-1:] if seen is None else [tick for tick in ended if tick.timestamp > seen.last_s]


def _failed(
    place: str,
    kind: str,
    name: str,
    tick: Tick,
    of: Of,
    at_ns: int,
    conditions: Conditions,
    severity: Severity,
    host: str,
) -> Alert:
    title = f"{kind.capitalize()} Tick Failed: {name}" + (f" ({host})" if host else "")
    said = f"The {kind} {name} of {place} starts nothing while its ticks fail."
    finding = conditions.failing(
        "tick_failure", severity, title, said, of, 0, at_ns, tags={kind: name, "location": place}
    )
    return msgspec.structs.replace(finding, error=tick.failure, code_location=_location(place))


def _location(place: str) -> str:
    """The code location of `repository@location`."""
    return place.rpartition("@")[2]
