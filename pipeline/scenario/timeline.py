"""What happens in a scenario, in order of time."""

import json
from typing import Final

from pipeline.clock import SECOND
from pipeline.errors import ConfigError, Problem
from pipeline.scenario.machine import Moment
from pipeline.scenario.model import MAX_TIMES, Step, repeats
from pipeline.scenario.people import acts
from pipeline.scenario.reading import Ready
from pipeline.scenario.runs import Entries, entries
from pipeline.yaml_tree import read_text

MAX_FILE: Final = 64 * 2**20
"""Bytes of a file of events."""


def moments(ready: Ready) -> list[Moment]:
    """All that happens, from the start to a moment after the end. Raises ConfigError when a file cannot be read."""
    found: Entries = []
    people: dict[int, list[tuple[Step, str]]] = {}
    cursor = latest = ready.start_ns
    for index, step in enumerate(ready.scenario.events, 1):
        begin = (
            ready.start_ns + step.at.ns if step.at is not None else cursor + (step.advance.ns if step.advance else 0)
        )
        for number, after in enumerate(repeats(step.every, step.for_, step.times), 1):
            cursor = begin + after
            if acts(step):
                people.setdefault(cursor, []).append((step, f"command-{index}-{number}"))
            else:
                found += _happens(ready, step, cursor, f"run-{index}-{number}", number)
        latest = max(latest, cursor)
    by_time: dict[int, list[bytes]] = {ready.start_ns: [], **{at_ns: [] for at_ns in people}}
    for at_ns, line in found:
        by_time.setdefault(at_ns, []).append(line)
    end = max(latest, _end(ready), *by_time) + 1  # timers fire before a moment, so those of the end before this one
    return [*(Moment(at, tuple(by_time[at]), tuple(people.get(at, ()))) for at in sorted(by_time)), Moment(end)]


def _end(ready: Ready) -> int:
    scenario = ready.scenario
    if scenario.until is not None:
        return ready.start_ns + scenario.until.ns
    last = ready.start_ns
    for expected in scenario.expect:
        if expected.at is not None:
            at = expected.at.ns + repeats(expected.every, expected.for_, expected.times)[-1] + expected.within.ns
            last = max(last, ready.start_ns + at)
    return last


def _happens(ready: Ready, step: Step, at_ns: int, name: str, number: int) -> Entries:
    if step.lines:
        return [(at_ns, _moved(line.encode(), at_ns)) for line in step.lines]
    if step.file:
        return _recorded(ready, step.file, at_ns)
    return entries(step, at_ns, name, number)


def _recorded(ready: Ready, name: str, at_ns: int) -> Entries:
    path = ready.folder / name
    try:
        lines = [line.encode() for line in read_text(path, MAX_FILE).splitlines() if line.strip()]
    except ConfigError as error:
        said = "; ".join(problem.message for problem in error.problems)
        raise ConfigError([Problem(ready.scenario.name, f"{path} {said}", ready.file, ready.line)]) from error
    if len(lines) > MAX_TIMES:
        message = f"{path} has more than {MAX_TIMES} entries; cut it"
        raise ConfigError([Problem(ready.scenario.name, message, ready.file, ready.line)])
    first_ns: int | None = None
    now_ns, found = at_ns, []
    for line in lines:
        own_ns = stored_ns(line)
        if own_ns is not None:
            first_ns = own_ns if first_ns is None else first_ns
            now_ns = max(now_ns, at_ns + own_ns - first_ns)
        found.append((now_ns, _moved(line, now_ns)))
    return found


def stored_ns(line: bytes) -> int | None:
    """The time (Unix ns) that an entry was stored with; None for what says none."""
    entry = _entry(line)
    stamp = entry.get("timestamp") if entry else None
    if isinstance(stamp, bool) or not isinstance(stamp, int | float) or not 0 <= stamp < 10**11:
        return None
    return round(stamp * SECOND)


def _moved(line: bytes, at_ns: int) -> bytes:
    """The entry as if it had been stored at this time; what is no entry stays as it is."""
    entry = _entry(line)
    if not entry or "timestamp" not in entry:
        return line
    return json.dumps({**entry, "timestamp": at_ns / SECOND}).encode()


def _entry(line: bytes) -> dict[str, object] | None:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return entry if isinstance(entry, dict) else None
