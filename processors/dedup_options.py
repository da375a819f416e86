"""The options of `dedup`, and what is wrong with them."""

from collections.abc import Iterator
from typing import Literal

import msgspec

from pipeline.cron import Cron, zone_of
from pipeline.options import Duration
from pipeline.signals import Severity
from processors.alert_mutes import MuteWindow
from processors.alert_routes import RouteOption, route_faults
from processors.alert_state import Policy

GroupBy = Literal["run", "backfill"]


class RateOption(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many notifications a channel gets one by one."""

    messages: int = 10
    """As many in each interval; what is beyond is told in one digest at its end. 0: no limit."""
    per: Duration = Duration("1m")
    """The interval."""


class DedupConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Makes one notification of many findings of the same problem, says whom to tell, and when it is over.

    The first failure is told at once (`firing`). Repeats are counted and told as one `digest` at the window's end. A
    problem that persists is `escalated`, then `repeated` until it is `resolved`. All of it survives a restart. Problems
    are the same when their fingerprints are: see docs/alerts.md.
    """

    window: Duration = Duration("1h")
    """Repeats within it become one digest."""
    escalate_after: Duration = Duration("6h")
    """A problem that persists this long, with at least one repeat, is escalated. 0: never by time."""
    escalate_after_count: int = 0
    """A problem is escalated once it has failed this many times. 0: never by count."""
    repeat_every: Duration = Duration("2h")
    """After the escalation the problem is told again this often until it is resolved. 0: never."""
    flapping_count: int = 3
    """A problem that has come and gone and come again this many times within `flapping_window` flaps: that is told
    once, then it is counted until it has been stable for the window. 0: each time is told; else at least 2."""
    flapping_window: Duration = Duration("1h")
    """See `flapping_count`."""
    chronic_after: Duration = Duration("24h")
    """What has been repeated this long and has not changed is no more repeated, but named in a daily list of what is
    still broken; also what failed last longer ago than this when dagtel first reads of it. 0: repeated for good."""
    daily_list: str = "0 9 * * *"
    """When the list of what is still broken is told, as cron says it."""
    timezone: str = "UTC"
    """The time zone of `daily_list`."""
    group_wait: Duration = Duration("5s")
    """How long the first failure of a run waits for others of it, to be told with them in one notification. 0: each is
    told by itself, at once."""
    group_by: tuple[GroupBy, ...] = ("run",)
    """What is told together: `run`: what fails in one run within `group_wait`; `backfill`: all that fails in one
    backfill, as long as it is not resolved. Of several the first that a failure has."""
    inhibit: tuple[str, ...] = ("sla_breach",)
    """Kinds of alerts that are folded into that of a failing asset upstream, or of the asset itself."""
    inhibit_grace: Duration = Duration("1h")
    """How long after the upstream is well such an alert waits before it comes out on its own."""
    catch_up_after: Duration = Duration("10m")
    """Reading further behind than this is catching up: nothing is told before its end, and then what is still open.
    0: all is told as it is read."""
    escalate_to: tuple[str, ...] = ()
    """Who is named in an escalation (`@oncall-data`, `pagerduty`)."""
    escalate_channels: tuple[str, ...] = ()
    """Channels that are told of escalations and their repeats, too; mute windows do not hold them."""
    routes: tuple[RouteOption, ...] = ()
    """Who is told, by conditions; what none matches goes by the asset's `alert_channels`, its owners, its severity."""
    owners: dict[str, tuple[str, ...]] = {}
    """Owner → channels that are told of its assets: `"team:sales": [slack/sales]`."""
    severities: dict[Severity, tuple[str, ...]] = {}
    """Severity → channels, over the default table (docs/alerts.md)."""
    mute_windows: tuple[MuteWindow, ...] = ()
    """Times at which channels are not told."""
    mute: tuple[str, ...] = ()
    """Names of mute windows that hold for all channels."""
    rate_limit: RateOption = RateOption()
    """A limit for each channel."""
    max_open: int = 100_000
    """Open problems at the same time. Failures of further ones are told each time (reason `too_many_open`)."""
    max_remembered: int = 100_000
    """Resolved problems whose number of occurrences is remembered; the oldest are forgotten and count from 1 again."""
    max_group: int = 1000
    """Problems in one group; further ones make another."""
    max_silences: int = 1000
    """Silences at the same time."""

    def __post_init__(self) -> None:
        if self.escalate_after_count in (1, -1) or min(self.escalate_after_count, self.max_open) < 0:
            raise ValueError("escalate_after_count is 0 (off) or at least 2, and max_open is not negative")
        if self.flapping_count in (1, -1) or min(self.flapping_count, self.flapping_window) < 0:
            raise ValueError("flapping_count is 0 (off) or at least 2, and flapping_window is not negative")

    def problems(self) -> Iterator[tuple[str, str]]:
        """Path and message of each fault."""
        for option, check in (
            ("timezone", lambda: zone_of(self.timezone)),
            ("daily_list", lambda: Cron(self.daily_list, zone_of("UTC"))),
        ):
            try:
                check()
            except ValueError as error:
                yield option, str(error)
        names = [window.name for window in self.mute_windows]
        for name in sorted({name for name in names if names.count(name) > 1}):
            yield "mute_windows", f"there are two windows named {name!r}"
        for name in self.mute:
            if name not in names:
                yield "mute", f"there is no mute window {name!r} in `mute_windows`"
        yield from route_faults(self.routes, self.mute_windows)
        if self.rate_limit.messages < 0 or self.rate_limit.per <= 0:
            yield "rate_limit", "messages is not negative, and per is more than 0"

    def policy(self) -> Policy:
        """The options of a life."""
        return Policy(
            self.window.ns,
            self.escalate_after.ns,
            self.escalate_after_count,
            self.repeat_every.ns,
            self.escalate_to,
            self.flapping_count,
            self.flapping_window.ns,
            self.chronic_after.ns,
        )
