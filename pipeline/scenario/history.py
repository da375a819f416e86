"""What a recorded event log would have led to, with one configuration or two."""

from collections import Counter
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Final, Literal

import msgspec

from pipeline.clock import DAY
from pipeline.components import Rejected
from pipeline.scenario.capture import Told
from pipeline.scenario.machine import Moment, ScenarioError
from pipeline.scenario.timeline import stored_ns
from pipeline.scenario.verdict import shown

MAX_LINE: Final = 64 * 2**20
"""Bytes of one entry."""

MAX_UNTIMED: Final = 1000
"""Lines without a time that may stand before the first entry."""


class Change(msgspec.Struct, frozen=True):
    """A notification (Unix ns) and who tells it: both configurations, only the old one, only the new one."""

    at_ns: int
    mark: Literal[" ", "-", "+"]
    text: str


def history(path: Path, wall_ns: int, beyond_ns: int = 0) -> Iterator[Moment]:
    """The entries of a file, one a line, at the times at which they were stored; then `beyond_ns` with nothing.

    Time never goes back, and no entry that is more than a day ahead of the wall's moves it. Raises ScenarioError when
    the file cannot be read or holds no time.
    """
    now_ns: int | None = None
    waiting: list[bytes] = []
    for line in _lines(path):
        own_ns = stored_ns(line)
        if own_ns is not None and own_ns <= wall_ns + DAY and (now_ns is None or own_ns > now_ns):
            if waiting and now_ns is not None:
                yield Moment(now_ns, tuple(waiting))
                waiting = []
            now_ns = own_ns
        waiting.append(line)
        if now_ns is None and len(waiting) > MAX_UNTIMED:
            break
    if now_ns is None:
        raise ScenarioError(f"{path} holds no entry of Dagster's event log (JSON with a `timestamp`, one a line)")
    yield Moment(now_ns, tuple(waiting))
    yield Moment(now_ns + beyond_ns + 1)


async def ranged(
    records: AsyncGenerator[Rejected, None], what: str, beyond_ns: int = 0
) -> AsyncGenerator[Moment, None]:
    """The same for records of a topic, at the times that they have there; those of one time are one moment. `what`
    names the range. Raises ScenarioError when it is empty, and whatever reading raises."""
    now_ns: int | None = None
    waiting: list[Rejected] = []
    async with aclosing(records):
        async for record in records:
            if now_ns is not None and record.record_ns > now_ns:
                yield Moment(now_ns, tuple(waiting))
                waiting = []
            now_ns = max(now_ns or 0, record.record_ns)
            waiting.append(record)
    if now_ns is None:
        raise ScenarioError(f"{what} holds no record")
    yield Moment(now_ns, tuple(waiting))
    yield Moment(now_ns + beyond_ns + 1)


def _lines(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            while line := file.readline(MAX_LINE + 1):
                if len(line) > MAX_LINE:
                    raise ScenarioError(f"{path} has a line of more than {MAX_LINE} bytes; it is no event log")
                if line.strip():
                    yield line.strip()
    except OSError as error:
        raise ScenarioError(f"{path} cannot be read: {error.strerror or error}") from error


def compared(new: Sequence[Told], old: Sequence[Told] | None) -> list[Change]:
    """Both lists as one, by time; what was to go at one time comes before what comes. Without `old` only the new."""
    if old is None:
        return [Change(told.at_ns, " ", _text(told)) for told in sorted(new, key=lambda told: told.at_ns)]
    here, there = Counter(map(_key, new)), Counter(map(_key, old))
    counts = (((here & there), " "), ((there - here), "-"), ((here - there), "+"))
    marks: list[Change] = []
    for counted, mark in counts:
        for (at_ns, text), count in counted.items():
            marks += [Change(at_ns, mark, text)] * count  # type: ignore[arg-type]  # one of the three
    return sorted(marks, key=lambda change: (change.at_ns, " -+".index(change.mark), change.text))


def _key(told: Told) -> tuple[int, str]:
    return told.at_ns, _text(told)


def _text(told: Told) -> str:
    taken = f" (by {', '.join(told.exporters)})" if told.exporters else " (by nobody)"
    return shown(told) + taken
