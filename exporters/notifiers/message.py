"""An alert in words: what every channel says, each in its own dress. Pure.

The parts are plain text without control characters and of bounded length, but not yet escaped for any channel: that
is the renderer's duty. Words are the seed's: a problem has a title with a mark, a place, an error, an impact.
"""

import re
from datetime import UTC, datetime
from typing import Final
from urllib.parse import quote

import msgspec

from pipeline.alert_json import LAST_NS
from pipeline.clock import DAY, HOUR, MINUTE, SECOND
from pipeline.conditions import KINDS as CONDITIONS
from pipeline.signals import Alert, Links, Member, Severity

_LASTS: Final = ("digest", "escalated", "repeated")
NAME: Final = 300
"""Characters of a name (asset, partition, owner) that are shown."""
ERROR: Final = 1000
ERROR_LINES: Final = 5
MEMBERS: Final = 10
"""Problems of a group that are listed."""
LINK: Final = 2000
"""Characters of a link; a longer one is left out."""
NAMED: Final = 5
"""How many of a list (dashboards, owners, partitions) are named before the rest is counted."""

RESOLVED_COLOUR: Final = "#2EB67D"
COLOURS: Final[dict[Severity, str]] = {
    "INFO": "#0099FF",
    "WARNING": "#FF9900",
    "ERROR": "#FF0000",
    "CRITICAL": "#FF0000",
}
MARKS: Final[dict[Severity, str]] = {"INFO": "ℹ️", "WARNING": "⚠️", "ERROR": "🔴", "CRITICAL": "🔴"}

# Control characters, and those that turn the direction of text: neither has a place in a message.
_CONTROL: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff"
    "\ufff9-\ufffb\U000e0000-\U000e007f\ud800-\udfff]"
)
_URL: Final = re.compile(r"https?://[!#-;=?-\[\]_a-z~%]+", re.IGNORECASE)
_URL_SAFE: Final = "!#$%&'()*+,/:;=?@[]~"
_SPACE: Final = re.compile(r"\s+")


class ErrorText(msgspec.Struct, frozen=True):
    """What went wrong. `label` is "Error", or "Error (consistent)" of a problem that persists.

    `rest` is where the whole text is, where this one is cut and such a place is known.
    """

    label: str
    text: str
    file: str = ""
    line: int = 0
    rest: str = ""


class Action(msgspec.Struct, frozen=True):
    """A button or link. `name` is what it is in data (`run`, `silence`); `looks`: it changes nothing."""

    label: str
    url: str
    name: str = ""
    looks: bool = True


class Message(msgspec.Struct, frozen=True):
    """The parts of a message, in the order in which they are read."""

    mark: str
    title: str
    colour: str
    fields: tuple[tuple[str, str], ...]
    text: tuple[str, ...] = ()
    error: ErrorText | None = None
    members: tuple[str, ...] = ()
    impact: tuple[str, ...] = ()
    escalate_to: tuple[str, ...] = ()
    closing: tuple[str, ...] = ()
    actions: tuple[Action, ...] = ()

    @property
    def heading(self) -> str:
        """Mark and title."""
        return f"{self.mark} {self.title}"

    @property
    def ending(self) -> tuple[str, ...]:
        """Who it escalates to, and what comes next."""
        return (*((f"Escalating to: {', '.join(self.escalate_to)}",) if self.escalate_to else ()), *self.closing)

    @property
    def gist(self) -> str:
        """In a few words, for a phone's screen: where it is, else what is said of it."""
        return self.fields[0][1] if self.fields else self.text[0] if self.text else ""


def message(alert: Alert) -> Message | None:
    """What to say; None for a finding that nobody is told (`recovered`)."""
    if alert.state == "recovered":
        return None
    if alert.state == "resolved":
        return _resolved(alert)
    persists = alert.state in ("escalated", "repeated")
    first = alert.state in ("firing", "failing")
    return Message(
        mark=MARKS[alert.severity],
        title=_title(alert),
        colour=COLOURS[alert.severity],
        fields=_fields(alert) if first else (),
        text=(_summary(alert) if first else _counted(alert)),
        error=_error(alert, "Error (consistent)" if persists else "Error"),
        members=_members(alert),
        impact=_impact(alert),
        escalate_to=_names(alert.escalate_to),
        closing=_closing(alert),
        actions=_actions(alert.links),
    )


def subject(alert: Alert) -> str:
    """What the problem is of, in one name."""
    if alert.check:
        return _line(f"{alert.check} of {alert.asset}")
    if len(alert.assets) > 1:
        return _line(f"{alert.step_key} ({len(alert.assets)} assets)")
    step = f"{alert.step_key} of {alert.job}" if alert.step_key else alert.job
    return _line(alert.asset or step) or _line(alert.title) or _line(alert.kind) or "unknown"


def one_line(text: str, limit: int = NAME) -> str:
    """Text from outside as one harmless line of at most `limit` characters."""
    return cut(_SPACE.sub(" ", _CONTROL.sub(" ", text)).strip(), limit)


def cut(text: str, limit: int) -> str:
    """At most `limit` characters, with an ellipsis where some are missing."""
    return text if len(text) <= limit else text[: max(0, limit - 1)].rstrip() + "…"


def link(url: str) -> str:
    """A link that is only a link: http or https, nothing in it that ends one in any markup; "" for what is none."""
    safe = quote(one_line(url, LINK + 1), safe=_URL_SAFE)
    return safe if len(safe) <= LINK and _URL.fullmatch(safe) else ""


_line = one_line

# --- parts -----------------------------------------------------------------------------------------------------------


def _title(alert: Alert) -> str:
    if alert.kind in CONDITIONS and alert.state in _LASTS:  # nothing failed again
        named = _line(alert.title)
        return f"Still: {named}" if subject(alert) in named else f"Still: {named}: {subject(alert)}"
    if alert.state == "digest":
        return f"Still Failing: {subject(alert)}"
    if alert.state in ("escalated", "repeated"):
        return f"Persistent Failure: {subject(alert)}"
    return _line(alert.title) or f"Failure: {subject(alert)}"


def _resolved(alert: Alert) -> Message:
    span = f"{_moment(alert.first_ns)} to {_moment(alert.last_ns)}" if alert.count > 1 else _moment(alert.first_ns)
    said = f"It failed {_times(alert.count)} ({span}) and has been well since {_moment(alert.now_ns)}."
    if alert.kind in CONDITIONS:
        told = f"told at {_moment(alert.first_ns)}, well since {_moment(alert.now_ns)}."
        said = f"{_line(alert.title) or subject(alert)}: {told}"
    return Message(
        mark="✅",
        title=f"Resolved: {subject(alert)}",
        colour=RESOLVED_COLOUR,
        fields=(),
        text=(said,),
        error=_error(alert, "Error"),
        members=_members(alert),
        actions=_actions(alert.links),
    )


def _fields(alert: Alert) -> tuple[tuple[str, str], ...]:
    several = len(alert.assets) > 1
    named = [
        ("Asset", "" if several else alert.asset),
        ("Assets", _list(alert.assets, len(alert.assets)) if several else ""),
        ("Check", alert.check),
        ("Job", "" if alert.asset else alert.job),
        ("Step", "" if alert.asset and not several else alert.step_key),
        ("Partition", alert.partition or ""),
        ("Run ID", alert.run_id),
        ("Owner", _list(alert.owners)),
    ]
    return tuple((name, shown) for name, value in named if (shown := _line(value)))


def _summary(alert: Alert) -> tuple[str, ...]:
    said = _line(alert.summary, ERROR)
    return (said,) if said else ()


def _counted(alert: Alert) -> tuple[str, ...]:
    if alert.kind in CONDITIONS:
        partitions = _list(alert.partitions[::-1], alert.failing) if alert.failing > 1 else ""
        more = (f"{alert.failing} partitions: {partitions}",) if partitions else ()
        return (*_summary(alert), f"Told first: {_moment(alert.first_ns)}", *more)
    several = len(alert.assets) > 1
    noun = (
        "check"
        if alert.check
        else "step"
        if several
        else "asset"
        if alert.asset
        else "step"
        if alert.step_key
        else "job"
    )
    span = f" in the last {_duration(alert.window_ns, one='')}" if alert.window_ns else ""
    said = (
        f"This {noun} has failed {_times(alert.count)}{span}."
        if alert.count
        else f"This {noun} has not failed again{span}, but it has not succeeded either."
    )
    lines = [said, f"First failure: {_moment(alert.first_ns)}", f"Latest failure: {_moment(alert.last_ns)}"]
    if several:
        lines.append(f"{len(alert.assets)} assets fail: {_list(alert.assets, len(alert.assets))}")
    elif alert.failing > 1:
        names = _list(alert.partitions[::-1], alert.failing)
        known = alert.planned >= alert.failing
        said = (
            f"{alert.failing:,} of {alert.planned:,} partitions failed" if known else f"{alert.failing} partitions fail"
        )
        lines.append(f"{said}: {names}")
    return tuple(lines)


def _error(alert: Alert, label: str) -> ErrorText | None:
    error = alert.error
    if error is None:
        return None
    lines = [line for raw in error.message[: 4 * ERROR].splitlines() if (line := _line(raw, ERROR))]
    text = cut("\n".join(lines[:ERROR_LINES]), ERROR)
    whole = len(error.message) <= 4 * ERROR and len(lines) <= ERROR_LINES and text == "\n".join(lines)
    if not whole and not text.endswith("…"):
        text = cut(f"{text} ", ERROR - 1).rstrip() + "…"
    rest = "" if whole else link(alert.links.run)
    return ErrorText(label, text or _line(error.type), _line(error.file), error.line, rest)


def _members(alert: Alert) -> tuple[str, ...]:
    """The problems of a notification that tells of several, one a line. The one that it is of stands above them."""
    lines = [_member(member) for member in alert.members[:MEMBERS]]
    itself = 1 if alert.asset or alert.job else 0
    more = max(alert.members_total - itself, len(alert.members)) - len(lines)
    return (*lines, f"{more:,} more") if lines and more > 0 else tuple(lines)


def _member(member: Member) -> str:
    place = member.asset or (f"{member.step_key} of {member.job}" if member.step_key else member.job) or member.title
    name = _line(f"{member.check} of {place}" if member.check else place) or _line(member.kind) or "unknown"
    if member.more:
        name += f" and {member.more:,} more"
    if member.partition:
        name += f" [{_line(member.partition)}]"
    if member.state == "resolved":
        return f"✅ {name}"
    times = f", {_times(member.count)}" if member.count > 1 else ""
    said = _line(member.message)
    return f"{MARKS[member.severity]} {name}{times}" + (f": {said}" if said else "")


def _impact(alert: Alert) -> tuple[str, ...]:
    impact = alert.impact
    if impact is None or not (impact.assets or impact.exposures):
        return ()
    lines = []
    if impact.assets:  # a check that fails stops nothing by itself: what is built on the data may be wrong, not old
        effect = "may hold bad data" if alert.check else "will be stale until resolved"
        lines.append(f"{_plural(len(impact.assets), 'asset')} {effect}")
    kinds = impact.exposure_kinds or ("dashboard",) * len(impact.exposures)
    shown = list(zip(impact.exposures, kinds, strict=False))
    lines += [f'{_kind(kind)} "{_line(name)}" affected' for name, kind in shown[:NAMED]]
    if len(shown) > NAMED:
        lines.append(f"{len(shown) - NAMED} more dashboards and reports affected")
    if impact.owners:
        lines.append(f"Owners: {_list(impact.owners)}")
    return tuple(lines)


def _closing(alert: Alert) -> tuple[str, ...]:
    lines = []
    if alert.late:
        lines.append(f"This is told late: it failed at {_moment(alert.last_ns)}, while nobody was listening.")
    if alert.acknowledged_by:
        lines.append(f"Acknowledged by {_line(alert.acknowledged_by)}.")
    if alert.repeat_ns:
        lines.append(f"This alert will repeat every {_duration(alert.repeat_ns, one='')} until resolved.")
    return tuple(lines)


def _actions(links: Links) -> tuple[Action, ...]:
    labelled = [
        ("View Run", links.run, "run", True),
        ("View Trace", links.trace, "trace", True),
        ("View Dashboard", links.dashboard, "dashboard", True),
        ("Retry", links.retry, "retry", False),
        ("Acknowledge", links.acknowledge, "acknowledge", False),
        ("Silence 1h", links.silence, "silence", False),
    ]
    return tuple(Action(label, safe, name, looks) for label, url, name, looks in labelled if (safe := link(url)))


# --- words -----------------------------------------------------------------------------------------------------------


def _list(names: tuple[str, ...], total: int = 0) -> str:
    shown, more = _names(names), max(total, len(names)) - NAMED
    return ", ".join(shown) + (f" and {more} more" if more > 0 and len(shown) == NAMED else "")


def _names(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(_line(name) for name in names[:NAMED])


def _kind(kind: str) -> str:
    """`Dashboard`, `API`."""
    name = _line(kind)
    return name.upper() if len(name) <= 3 else name[:1].upper() + name[1:]


def _times(count: int) -> str:
    return f"{count:,} time" if count == 1 else f"{count:,} times"


def _plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def _duration(ns: int, one: str = "1 ") -> str:
    """`6 hours`; of a single unit `one` says the number ("in the last hour")."""
    for size, noun in ((DAY, "day"), (HOUR, "hour"), (MINUTE, "minute"), (SECOND, "second")):
        if ns >= size and ns % size == 0:
            return f"{one}{noun}" if ns == size else f"{ns // size} {noun}s"
    return f"{ns / SECOND:g} seconds"


def _moment(ns: int) -> str:
    return datetime.fromtimestamp(min(max(ns, 0), LAST_NS) // SECOND, UTC).strftime("%Y-%m-%d %H:%M UTC")
