"""What was told beside what was expected. Pure."""

from collections.abc import Iterator, Sequence
from typing import Final, Literal

import msgspec

from pipeline.clock import SECOND
from pipeline.options import Duration
from pipeline.scenario.capture import Told
from pipeline.scenario.machine import Played
from pipeline.scenario.model import Expected, repeats
from pipeline.scenario.reading import Ready

Mark = Literal[" ", "-", "+", "!"]
"""As expected; expected and not told; told and not expected; told and forbidden."""

_PLAIN: Final = ("state", "kind", "severity", "asset", "check", "job", "reason")
_NEAR: Final = 2
"""Differences up to which a notification is likely the one that was meant."""


class Row(msgspec.Struct, frozen=True):
    """One line of the verdict. `at_ns` is since the start; None where an expectation names no time."""

    mark: Mark
    at_ns: int | None
    text: str
    notes: tuple[str, ...] = ()


class Verdict(msgspec.Struct, frozen=True):
    """What came of a scenario: rows by time, and what is wrong beside them."""

    ready: Ready
    rows: tuple[Row, ...]
    problems: tuple[str, ...]
    told: int

    @property
    def passed(self) -> bool:
        return not self.problems and all(row.mark == " " for row in self.rows)


class _Wanted(msgspec.Struct, frozen=True, eq=False):
    expected: Expected
    at_ns: int | None  # since the start
    line: int


def verdict(ready: Ready, played: Played) -> Verdict:
    """Each notification meets the first expectation that it fulfils; each expectation is one notification."""
    scenario = ready.scenario
    wanted, rows = _wanted(scenario.expect, ready.expected_at), []
    left: list[Told] = []
    for told in played.told:
        at_ns = told.at_ns - ready.start_ns
        met = next((w for w in wanted if not any(_differences(w, told, at_ns))), None)
        forbidden = [w for w in _wanted(scenario.never, ready.never_at) if not any(_differences(w, told, at_ns))]
        if met is not None:
            wanted.remove(met)
        if forbidden:
            rows.append(Row("!", at_ns, shown(told), tuple(f"forbidden in line {w.line}" for w in forbidden)))
        elif met is not None or not scenario.strict:
            rows.append(Row(" ", at_ns, shown(told)))
            left += [told] if met is None else []
        else:
            rows.append(Row("+", at_ns, shown(told)))
            left.append(told)
    rows += [
        Row("-", w.at_ns, _said(w.expected), (f"expected in line {w.line}", *_nearest(w, left, ready))) for w in wanted
    ]
    rows.sort(key=lambda row: (row.at_ns is None, row.at_ns or 0, row.mark != "-" if row.mark in "-+" else False))
    return Verdict(ready, tuple(rows), tuple(_problems(ready, played)), len(played.told))


def _problems(ready: Ready, played: Played) -> Iterator[str]:
    allowed = ready.scenario.dead_letters
    if len(played.dead) != allowed:
        yield f"{len(played.dead)} dead letters, expected {allowed}"
        yield from (f"dead letter: {reason}" for reason in played.dead[:10])
    for at_ns in played.unanswered:
        yield f"at {clock(at_ns - ready.start_ns)} nothing had been told that could be answered"


def _wanted(expected: Sequence[Expected], lines: Sequence[int]) -> list[_Wanted]:
    return [
        _Wanted(each, None if each.at is None else each.at.ns + after, line)
        for each, line in zip(expected, lines, strict=True)
        for after in repeats(each.every, each.for_, each.times)
    ]


def _differences(wanted: _Wanted, told: Told, at_ns: int) -> Iterator[str]:
    """What the notification has otherwise than it is expected."""
    expected, alert = wanted.expected, told.alert
    if wanted.at_ns is not None and not wanted.at_ns <= at_ns <= wanted.at_ns + expected.within.ns:
        yield f"at is {clock(at_ns)}"
    for name in _PLAIN:
        if getattr(expected, name) and getattr(expected, name) != getattr(alert, name):
            yield f"{name} is {getattr(alert, name) or 'not said'}"
    if expected.step and expected.step != alert.step_key:
        yield f"step is {alert.step_key or 'not said'}"
    if expected.run and expected.run != alert.run_id:
        yield f"run is {alert.run_id or 'not said'}"
    if expected.partition is not None and expected.partition != alert.partition:
        yield f"partition is {alert.partition or 'not said'}"
    if expected.count is not None and expected.count != alert.count:
        yield f"count is {alert.count}"
    for name, here in (("channels", alert.channels), ("exporters", told.exporters), ("escalate_to", alert.escalate_to)):
        there = getattr(expected, name)
        if there is not None and sorted(there) != sorted(here):
            yield f"{name} are {', '.join(here) or 'none'}"
    said = _texts(told)
    yield from (f"text has no {text!r}; it says {said[:200]!r}" for text in expected.text if text not in said)


def _texts(told: Told) -> str:
    alert = told.alert
    error = f"{alert.error.type}: {alert.error.message}" if alert.error else ""
    return "\n".join((alert.title, alert.summary, error, *told.texts))


def _nearest(wanted: _Wanted, left: Sequence[Told], ready: Ready) -> Iterator[str]:
    """The notification that was likely meant, by its differences."""
    found = [(list(_differences(wanted, told, told.at_ns - ready.start_ns)), told) for told in left]
    found.sort(key=lambda pair: (len(pair[0]), abs(pair[1].at_ns - ready.start_ns - (wanted.at_ns or 0))))
    if found and len(found[0][0]) <= _NEAR:
        differences, told = found[0]
        yield f"nearest, at {clock(told.at_ns - ready.start_ns)}: {'; '.join(differences)}"


def shown(told: Told) -> str:
    """A notification in one line."""
    alert = told.alert
    subject = alert.asset or alert.step_key or alert.job
    words = [alert.state, alert.severity, alert.kind, f"{subject}:{alert.check}" if alert.check else subject]
    words += [f"[{alert.partition}]"] if alert.partition else []
    words += [f"count {alert.count}"]
    words += [f"→ {', '.join(alert.channels)}"] if alert.channels else []
    return " ".join(word for word in words if word)


def _said(expected: Expected) -> str:
    """An expectation in one line."""
    words = [expected.state or "any state", expected.severity, expected.kind, expected.asset]
    words += [f"{n} {v}" for n in ("check", "step", "job", "run", "partition", "reason") if (v := getattr(expected, n))]
    words += [f"count {expected.count}"] if expected.count is not None else []
    words += [f"→ {', '.join(expected.channels) or 'nobody'}"] if expected.channels is not None else []
    words += [f"text {text!r}" for text in expected.text]
    return " ".join(word for word in words if word)


def clock(ns: int | None) -> str:
    """Time since the start as people write it."""
    if ns is None:
        return "any time"
    return f"-{Duration(-ns / SECOND)}" if ns < 0 else str(Duration(round(ns / SECOND, 6)))
