"""Alerts as people read them in a terminal. Everything that came from events is made inert, and one line."""

import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from shutil import get_terminal_size
from textwrap import wrap
from typing import Final

import msgspec
from rich.table import Table
from rich.text import Text

from pipeline.channels import NOBODY, names
from pipeline.cli.output import inert, paper
from pipeline.cli.times import moment
from pipeline.clock import DAY
from pipeline.store.history import AlertRow, Delivery, Fingerprint, Notification, Occurrence, Reason, Story

_COLOURS: Final = {"CRITICAL": "bold red", "ERROR": "red", "WARNING": "yellow", "INFO": "blue"}
_SHORT_ID: Final = 8
_LONG: Final = 300
"""Characters of a text in one line."""
_OTHERS: Final = 8 + 9 + 6 + 11 + 5 * 2  # columns beside the id and the alert itself, and what is between them
_LEAST: Final = 20
"""Characters that an alert has in the table, however narrow the terminal."""

_OUTCOMES: Final = {
    "delivered": "delivered",
    "refused": "refused, in the dead letters",
    "dead_lettered": "given up, in the dead letters",
    "overtaken": "not sent: a newer message said it all",
}
_REASONS: Final = {
    "first": "the first failure",
    "counted": "failed again: counted, and told later if at all",
    "grouped": "failed with others: told with them",
    "group_wait": "waits for others of its run",
    "group_wait_over": "what failed in its run is told together",
    "window_over": "failed again within the window: one digest",
    "persists": "still fails after `escalate_after`",
    "count_reached": "failed `escalate_after_count` times",
    "not_resolved": "still not resolved after `repeat_every`",
    "chronic": "unchanged for `chronic_after`: goes on in the daily list",
    "recovered": "it is well",
    "resolved_untold": "it is well, and nobody had been told",
    "by_hand": "somebody said that it is well",
    "flapping": "comes and goes: told once",
    "stable": "came and went, and is well for good",
    "still_failing": "came and went, and fails for good",
    "worse": "more severe than what people know: told at once",
    "late": "old news: dagtel had been catching up",
    "catching_up": "dagtel is catching up: told at its end if still open",
    "silenced": "a silence lies over it",
    "silenced_over": "its silence ended, and it still fails",
    "muted": "a mute window is open",
    "muted_over": "its mute window ended, and it still fails",
    "mute_over": "some channels were muted: told now",
    "inhibited": "follows from another problem: folded into that one",
    "inhibited_over": "still broken after its upstream was well",
    "acknowledged": "somebody is at it: no escalation, no repeats",
    "rate_limited": "too many at once: told in one digest with others",
    "no_channel": "its routes name nobody",
    "too_many_open": "more open problems than `max_open`: told each time",
}


class _Error(msgspec.Struct, frozen=True):
    type: str = ""
    message: str = ""
    file: str = ""
    line: int = 0


class _Impact(msgspec.Struct, frozen=True):
    assets: dict[str, int] = {}
    exposures: tuple[str, ...] = ()


class _Told(msgspec.Struct, frozen=True):
    """What a page shows of `pipeline.alert_json`."""

    error: _Error | None = None
    impact: _Impact = _Impact()
    partitions: tuple[str, ...] = ()
    members_total: int = 0
    said_by: dict[str, str] = {}


def print_alerts(rows: Sequence[AlertRow]) -> None:
    """A table of alerts, two lines each."""
    with paper() as console:
        console.print(_table(rows, console.width))


def _table(rows: Sequence[AlertRow], width: int) -> Table:
    ids = max(len(short_id(row)) for row in rows)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("ID", no_wrap=True, min_width=ids)
    table.add_column("SEVERITY", no_wrap=True, min_width=8)
    table.add_column("STATUS", no_wrap=True, min_width=9)
    room = width - ids - _OTHERS  # rich would cut off what stands behind a column that is too wide
    table.add_column("ALERT", no_wrap=True, overflow="ellipsis", max_width=max(room, _LEAST))
    table.add_column("FAILED", no_wrap=True, justify="right", min_width=6)
    table.add_column("LATEST", no_wrap=True, min_width=11)
    now = time.time_ns()
    for row in rows:
        why = inert(row.held) if row.held else "acked" if row.acknowledged_by else ""
        what = f"{inert(what_of(row))}\n{inert(row.message or row.title)[:_LONG]}"
        form = "%m-%d %H:%M" if abs(now - row.last_ns) < 300 * DAY else "%Y-%m-%d"
        colour = _COLOURS.get(row.severity, "") if row.open else "dim"
        table.add_row(
            short_id(row),
            Text(row.severity, colour),
            f"{row.status}\n{why}" if why != row.status else row.status,
            what,
            str(row.failures),
            moment(row.last_ns, form),
        )
    return table


def short_id(row: AlertRow) -> str:
    """What is enough to name it, nearly always: the beginning of its fingerprint, and its number."""
    _, sign, digest = row.fingerprint.partition(":")
    if not sign or not row.fingerprint.startswith("v"):
        return inert(row.key)
    return inert(digest[:_SHORT_ID] + row.key.removeprefix(row.fingerprint))


def what_of(row: AlertRow) -> str:
    """What it is of: an asset, a check of it, a job and step."""
    if row.asset:
        return f"{row.asset} ({row.check})" if row.check else row.asset
    return "/".join(filter(None, (row.job, row.step_key))) or row.title or row.kind


def story_lines(story: Story) -> Iterator[str]:
    """An alert with its life, its failures, and who was told."""
    yield from _head(story)
    yield from _failures(story)
    yield ""
    yield "Notifications:" if story.notifications else "Nobody was told of it."
    for one in story.notifications:
        yield from _notification(one, explain=False)


def explanation(story: Story) -> Iterator[str]:
    """Why it is this problem, why what was done with it, why who was told."""
    row, told = story.alert, _told(story.alert.alert)
    yield from _title(row)
    yield ""
    yield from _fingerprint(row, story.fingerprint)
    yield ""
    yield "Said by:"
    yield from _said_by(row, told.said_by, any(one.state == "escalated" for one in story.notifications))
    yield ""
    yield "Decisions:"
    before = 0
    for reason in story.decisions:
        if reason.number > before + 1:
            yield f"  … {reason.number - before - 1} decisions are no more kept"
        before = reason.number
        yield from _decision(reason)
    yield ""
    yield "Who was told, and why:" if story.notifications else "Nobody was told of it."
    for one in story.notifications:
        yield from _notification(one, explain=True)


# --- parts -----------------------------------------------------------------------------------------------------------


def _title(row: AlertRow) -> Iterator[str]:
    yield f"{inert(row.title or row.kind)}: {inert(what_of(row))}"
    yield f"ID            {inert(row.key)}"
    flags = [name for name, on in (("flapping", row.flapping), ("chronic", row.chronic)) if on]
    yield f"Status        {', '.join([row.status, *flags])}"


def _head(story: Story) -> Iterator[str]:
    row, told = story.alert, _told(story.alert.alert)
    yield from _title(row)
    yield f"Severity      {row.severity}"
    if row.asset:
        yield f"Asset         {inert(row.asset)}" + (f", check {inert(row.check)}" if row.check else "")
    if row.open and told.partitions:
        yield f"Partitions    {row.failing} failing: {_some(told.partitions, row.failing)}"
    if row.job or row.step_key:
        yield f"Job           {inert(row.job)}" + (f", step {inert(row.step_key)}" if row.step_key else "")
    if row.run_id:
        yield f"Latest run    {inert(row.run_id)}"
    if told.error is not None:
        yield f"Error         {_short(': '.join(filter(None, (told.error.type, told.error.message))))}"
        if told.error.file:
            yield f"              {inert(told.error.file)}:{told.error.line}"
    elif row.message:
        yield f"Text          {_short(row.message)}"
    times = f"{row.failures} time{'' if row.failures == 1 else 's'}"
    first, last = moment(row.first_ns), moment(row.last_ns)
    yield f"Failed        {times}, {first}" + (f" to {last}" if first != last else "")
    if row.ended_ns:
        yield f"Resolved      {moment(row.ended_ns)}"
    if row.held:
        until = f" until {moment(row.held_until_ns)}" if row.held_until_ns else ""
        yield f"Held          {inert(row.held)}{until}"
    if row.acknowledged_by:
        yield f"Acknowledged  by {inert(row.acknowledged_by)}"
    if row.owners:
        yield f"Owners        {_some(row.owners)}"
    if told.impact.assets or told.impact.exposures:
        boards = "".join(f", {inert(name)}" for name in told.impact.exposures)
        yield f"Impact        {len(told.impact.assets)} assets downstream{boards}"
    if told.members_total:
        yield f"Told with it  {told.members_total - 1} more problems"
    lines = _wrapped(" " * 14, _some(row.told) or "nobody")
    yield f"Told          {lines[0].lstrip()}"
    yield from lines[1:]


def _failures(story: Story) -> Iterator[str]:
    shown, total = story.occurrences, story.alert.failures
    if not shown:
        return
    yield ""
    kept = f"; {story.kept} are kept" if story.kept < total else ""
    yield f"Failures, the latest {len(shown)} of {total}{kept}:" if len(shown) < total else "Failures:"
    for one in shown:
        yield _occurrence(one, story.alert)


def _occurrence(one: Occurrence, row: AlertRow) -> str:
    where = one.asset or "/".join(filter(None, (one.job, one.step_key)))
    words = [f"  #{one.number:<4} {moment(one.event_ns)}  {one.decision}"]
    words += [f"run {one.run_id}"] if one.run_id else []
    words += [f"partition {one.partition}"] if one.partition else []
    words += [where] if where and where != row.asset and one.fingerprint != row.fingerprint else []
    words += [one.message[:_LONG]] if one.message else []
    return "  ".join([words[0], *(inert(word) for word in words[1:])])


def _notification(one: Notification, explain: bool) -> Iterator[str]:
    number = f"#{one.number:<4}" if one.number else "     "
    count = f"{one.failures} failure{'' if one.failures == 1 else 's'}"
    yield f"  {number} {moment(one.at_ns)}  {one.state:<9}  {one.severity:<8}  {inert(one.reason)}, {count}"
    if one.channels == (NOBODY,):
        yield "        rate limited: told with others in one digest"
    elif explain and one.why:
        for why in dict.fromkeys(one.why.values()):
            yield from _wrapped("        ", f"to {_some(c for c, own in one.why.items() if own == why)}: {inert(why)}")
    else:
        yield from _wrapped("        ", f"to {_some(one.channels) or 'everybody'}")
    for call in one.deliveries:
        yield from _wrapped("        ", _delivery(call))
    silent = [c for c in one.channels if c != NOBODY and not any(names((c,), call.notifier) for call in one.deliveries)]
    if silent and explain:
        yield from _wrapped("        ", f"no delivery on record: {_some(silent)}")


def _delivery(call: Delivery) -> str:
    calls = f" after {call.attempts} calls" if call.attempts > 1 else ""
    answer = f": {_short(call.answer)}" if call.answer else ""
    return f"{inert(call.notifier)} {_OUTCOMES.get(call.outcome, call.outcome)} {moment(call.at_ns)}{calls}{answer}"


def _decision(reason: Reason) -> list[str]:
    times = f" ×{reason.times}" if reason.times > 1 else ""
    detail = f" [{_short(reason.detail)}]" if reason.detail else ""
    meaning = f": {_REASONS[reason.reason]}" if reason.reason in _REASONS else ""
    head = f"  #{reason.number:<4} {moment(reason.at_ns)}  "
    lines = _wrapped(" " * len(head), f"{inert(reason.reason)}{times}{detail}{meaning}")
    return [head + lines[0].lstrip(), *lines[1:]]


def _fingerprint(row: AlertRow, made: Fingerprint | None) -> Iterator[str]:
    yield f"Fingerprint   {inert(row.fingerprint)}"
    if made is None:
        yield "  What it is made of is not known: its source made it, or it is older than this record."
        return
    parts = made.parts
    yield "  It is the same problem as long as all of this is the same:"
    yield f"  kind        {inert(parts.kind)}"
    place = [text for text in parts.place if text]
    yield f"  {'asset' if len(parts.place) == 1 else 'job, step':<11} {_some(place)}"
    if parts.check:
        yield f"  check       {inert(parts.check)}"
    if parts.override:
        yield f"  override    {inert(parts.override)} (in place of its error)"
    if parts.chain:
        yield f"  exceptions  {' ← '.join(inert(name) for name in parts.chain)}"
    for number, frame in enumerate(parts.frames):
        yield f"  {'frames' if not number else '':<11} {inert(frame)}"
    for number, line in enumerate(parts.message):
        yield f"  {'message' if not number else '':<11} {_short(line)}"
    if made.message and parts.message:
        yield f"  unmasked    {_short(made.message)}"
    if parts.deployment:
        yield f"  deployment  {inert(parts.deployment)}"
    yield "  Run, partition, owners, times and line numbers are no part of it."


def _said_by(row: AlertRow, said_by: dict[str, str], escalated: bool) -> Iterator[str]:
    """Who said how severe it is, whose it is, and whom its asset names."""
    raised = ", raised one step by its escalation" if escalated else ""
    yield f"  severity    {row.severity}: {inert(said_by.get('severity', 'the failure itself'))}{raised}"
    owners = f"{_some(row.owners)}: {inert(said_by.get('owners', 'the alert itself'))}" if row.owners else "nobody"
    yield f"  owners      {owners}"
    yield f"  channels    {inert(said_by.get('channels', 'no asset or rule names any: see each message below'))}"


def _told(alert: msgspec.Raw) -> _Told:
    return msgspec.json.decode(alert, type=_Told)


def _wrapped(indent: str, text: str) -> list[str]:
    """As lines of the terminal's width; 80 columns in a pipe."""
    width = max(40, get_terminal_size((80, 24)).columns if sys.stdout.isatty() else 80)
    return wrap(text, width, initial_indent=indent, subsequent_indent=f"{indent}  ", break_on_hyphens=False)


def _some(texts: Iterable[str], total: int = 0) -> str:
    shown = [inert(text) for text in texts]
    more = f" and {total - len(shown)} more" if total > len(shown) else ""
    return ", ".join(shown) + more


def _short(text: str) -> str:
    line = inert(text)
    return line if len(line) <= _LONG else f"{line[: _LONG - 1]}…"
