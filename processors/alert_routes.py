"""Who is told, how loud: an alert and a time in, channels out. Pure but for complaints about the configuration.

In the order of their word: the routes that match, the asset's own `alert_channels`, its owners' channels, the table by
severity. Escalation channels are added to all of them. Channels within a mute window are told when it ends.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Final

import msgspec

from pipeline.channels import ALL, names
from pipeline.expressions import Condition, ExpressionError
from pipeline.signals import Alert, Severity, Signal, Urgency
from processors.alert_mutes import MuteWindow, Window, muted

_ALWAYS: Final = ("slack", "webhook", "alertmanager", "apprise")
BY_SEVERITY: Final[dict[Severity, tuple[str, ...]]] = {
    "INFO": _ALWAYS,
    "WARNING": (*_ALWAYS, "email"),
    "ERROR": (*_ALWAYS, "email", "pagerduty"),
    "CRITICAL": ("*",),
}
"""The default table; `*` is every notifier."""


class RouteOption(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename={"continue_": "continue"}
):
    """What becomes of the alerts that a condition holds of. The first that matches decides, unless it says `continue`.

    With `continue`, the channels of the next one that matches are added, and it decides what this one leaves open.
    """

    when: str = ""
    """A condition over the alert (docs/filter.md): `group == "finance" && severity == "ERROR"`. Empty: any."""
    channels: tuple[str, ...] | None = None
    """Who is told: `slack`, `slack/finance`, `*`. An empty list: nobody, it is counted only."""
    severity: Severity | None = None
    """In place of the finding's own."""
    urgency: Urgency = ""
    """PagerDuty's: `low` or `high`; empty: high for CRITICAL, else low."""
    mute: tuple[str, ...] = ()
    """Names of `mute_windows` in which this route's channels are not told."""
    escalate_to: tuple[str, ...] | None = None
    """Who is named in an escalation."""
    escalate_channels: tuple[str, ...] | None = None
    """Channels that are told of escalations and what follows them, too."""
    continue_: bool = False
    """Go on to the next route."""


class Routed(msgspec.Struct, frozen=True):
    """`open`: channels to be told now; `later`: those that are muted, until `until_ns` at the earliest, by `mute`.

    `why` says of each of them what named it.
    """

    open: tuple[str, ...]
    later: tuple[str, ...] = ()
    until_ns: int = 0
    mute: str = ""
    urgency: Urgency = ""
    escalate_to: tuple[str, ...] = ()
    why: Mapping[str, str] = MappingProxyType({})


class Router:
    """A configuration's routes. `failed` hears of conditions that could not be evaluated: they do not hold."""

    def __init__(
        self,
        routes: Iterable[RouteOption],
        owners: Mapping[str, tuple[str, ...]],
        severities: Mapping[Severity, tuple[str, ...]],
        windows: Iterable[MuteWindow],
        mute: Iterable[str],
        escalate_to: tuple[str, ...],
        escalate_channels: tuple[str, ...],
        exporters: Sequence[str],
        complain: Callable[[str], None],
    ) -> None:
        self._exporters, self._complain = exporters, complain
        self._routes = [(Condition(r.when, Signal.ALERTS) if r.when else None, r) for r in routes]
        self._owners, self._table = owners, {**BY_SEVERITY, **severities}
        known = {window.name: Window(window) for window in windows}
        self._windows = known
        self._mute = tuple(mute)
        self._escalate_to, self._escalate_channels = escalate_to, escalate_channels
        self._maps = any(r.severity for _, r in self._routes)

    def graded(self, finding: Alert) -> Alert:
        """The finding with the severity that routes give it."""
        if not self._maps:
            return finding
        number, said = next(((n, r.severity) for n, r in self._matching(finding) if r.severity), (0, None))
        if said is None or said == finding.severity:
            return finding
        said_by = {**finding.said_by, "severity": f"route {number} of dedup"}
        return msgspec.structs.replace(finding, severity=said, said_by=said_by)

    def routed(self, alert: Alert, now_ns: int) -> Routed:
        """Who is to be told of a notification at this time."""
        numbered = list(self._matching(alert))
        matched = [route for _, route in numbered]
        wanted: dict[str, tuple[str, ...]] = {}  # channel → the names of its mute windows
        why: dict[str, str] = {}
        for number, route in numbered:
            for channel in self._known(route.channels or ()):
                wanted.setdefault(channel, (*self._mute, *route.mute))
                why.setdefault(channel, _of_route(number, route))
        if not wanted and not any(route.channels == () for route in matched):
            mutes = (*self._mute, *(name for route in matched for name in route.mute))
            why = self._unrouted(alert)
            wanted = dict.fromkeys(why, mutes)
        if alert.repeat_ns or alert.state in ("escalated", "repeated"):
            more = next((r.escalate_channels for r in matched if r.escalate_channels is not None), None)
            for channel in self._escalate_channels if more is None else more:
                wanted[channel] = ()  # an escalation is what the night is disturbed for
                why.setdefault(channel, "escalate_channels")
        return self._sorted(wanted, why, matched, now_ns)

    def _unrouted(self, alert: Alert) -> dict[str, str]:
        if alert.channels and (own := self._known(alert.channels)):
            return dict.fromkeys(own, alert.said_by.get("channels") or "the alert's own channels")
        owned = {c: f"owner {owner}" for owner in reversed(alert.owners) for c in self._owners.get(owner, ())}
        known = self._known(tuple(dict.fromkeys(c for owner in alert.owners for c in self._owners.get(owner, ()))))
        if known:
            return {channel: owned[channel] for channel in known}
        return dict.fromkeys(self._table[alert.severity], f"severity {alert.severity}")

    def _sorted(
        self, wanted: dict[str, tuple[str, ...]], why: dict[str, str], matched: list[RouteOption], now_ns: int
    ) -> Routed:
        ends: dict[str, tuple[int, str]] = {}
        for channel, mutes in wanted.items():
            until, name = muted([self._windows[name] for name in mutes], now_ns) if mutes else (0, "")
            if until:
                ends[channel] = (until, name)
        until, name = min(ends.values(), default=(0, ""))
        return Routed(
            open=tuple(channel for channel in wanted if channel not in ends),
            later=tuple(ends),
            until_ns=until,
            mute=name,
            urgency=next((route.urgency for route in matched if route.urgency), ""),
            escalate_to=next((r.escalate_to for r in matched if r.escalate_to is not None), self._escalate_to),
            why=why,
        )

    def _matching(self, alert: Alert) -> Iterator[tuple[int, RouteOption]]:
        """Those that hold, with their numbers."""
        for number, (condition, route) in enumerate(self._routes, 1):
            if condition is None or self._holds(condition, alert):
                yield number, route
                if not route.continue_:
                    return

    def _holds(self, condition: Condition, alert: Alert) -> bool:
        try:
            return condition.holds(alert, Signal.ALERTS)
        except ExpressionError as error:
            self._complain(f"the condition of a route could not be evaluated and does not hold: {error}")
            return False

    def _known(self, channels: tuple[str, ...]) -> tuple[str, ...]:
        """Without those that name nobody: a typing error must not keep an alert from being told."""
        known = tuple(c for c in channels if c == ALL or any(names((c,), id) for id in self._exporters))
        if self._exporters and len(known) < len(channels):
            missing = ", ".join(repr(channel) for channel in channels if channel not in known)
            self._complain(f"there is no notifier {missing}: told by what comes next, severity at last")
        return known if self._exporters else channels


def _of_route(number: int, route: RouteOption) -> str:
    return f"route {number}" + (f" ({route.when})" if route.when else "")


def route_faults(routes: Iterable[RouteOption], windows: Iterable[MuteWindow]) -> Iterator[tuple[str, str]]:
    """Path and message of each route that cannot be used."""
    known = {window.name for window in windows}
    for number, route in enumerate(routes, 1):
        if route.when:
            try:
                Condition(route.when, Signal.ALERTS)
            except ExpressionError as error:
                yield "routes", f"route {number}: {error}"
        for name in route.mute:
            if name not in known:
                yield "routes", f"route {number}: there is no mute window {name!r} in `mute_windows`"
