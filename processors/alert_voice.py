"""What a life wants to say becomes a notification, if it may be said now: held or not, routed, muted, limited.

If it may not, the life stays as it was, held, and is asked again when that is over.
"""

from collections.abc import Callable, Sequence

import msgspec

from pipeline.channels import NOBODY
from pipeline.components import Context
from pipeline.cron import Cron, zone_of
from pipeline.signals import Alert
from processors import alert_life
from processors.alert_book import Book
from processors.alert_holds import Holds
from processors.alert_list import DailyList
from processors.alert_rate import RateLimit
from processors.alert_recorder import Recorder
from processors.alert_routes import Router
from processors.alert_state import Life
from processors.dedup_options import DedupConfig

Step = tuple[Life | None, Alert | None]
"""The life afterwards, None if it is over; and what is to be said of it."""


class Voice:
    """`complain` hears why routing went another way than the configuration says."""

    def __init__(
        self,
        config: DedupConfig,
        context: Context,
        book: Book,
        holds: Holds,
        recorder: Recorder,
        complain: Callable[[str], None],
    ) -> None:
        self._book, self._holds, self._recorder = book, holds, recorder
        self._rate = RateLimit(context.state, config.rate_limit.messages, config.rate_limit.per.ns)
        self._list = DailyList(context.state, Cron(config.daily_list, zone_of(config.timezone)))
        self._router = Router(
            config.routes,
            config.owners,
            config.severities,
            config.mute_windows,
            config.mute,
            config.escalate_to,
            config.escalate_channels,
            context.exporters,
            complain,
        )

    def graded(self, finding: Alert) -> Alert:
        """The finding with the severity that routes give it."""
        return self._router.graded(finding)

    def say(self, before: Life, step: Step, now_ns: int, owed: bool = False) -> Sequence[Alert]:
        """What the step from `before` says, if it may be said now; else `before` is held."""
        after, alert = step
        if after is None:
            return self.end(before, alert, now_ns, ())
        if alert is None:
            self._book.keep(after)
            return ()
        held = self._holds.held(before, now_ns)
        if held is not None:
            self._book.keep(held)
            return ()
        routed = self._router.routed(alert, now_ns)
        open, later = routed.open, routed.later
        if owed:
            open, later = _of(open, before.owed), _of(later, before.owed)
        elif later and not open:
            self._book.keep(alert_life.hold(before, "muted", routed.until_ns, now_ns, routed.mute))
            return ()
        missed = later if owed or alert.state == "escalated" else tuple(c for c in later if c not in before.told)
        if not open:
            after = alert_life.noted(after, now_ns, "muted" if later else "no_channel", ", ".join(later))
        after = alert_life.told_to(after, open, missed, routed.until_ns if missed else 0, alert)
        self._book.keep(after)
        self._list.watch(after, now_ns)
        if not open:
            return ()
        escalate_to = routed.escalate_to if after.escalated_ns else ()
        said = msgspec.structs.replace(
            alert, channels=open, urgency=routed.urgency, escalate_to=escalate_to, decisions=after.decisions
        )
        self._recorder.routed(said, [(channel, routed.why[channel]) for channel in open])
        return self._limited(said, before.told, after)

    def say_alone(self, alert: Alert, now_ns: int) -> Sequence[Alert]:
        """Told by itself: no life of ours stands behind it."""
        routed = self._router.routed(alert, now_ns)
        said = msgspec.structs.replace(alert, channels=routed.open or routed.later, number=0)
        self._recorder.routed(said, [(channel, routed.why[channel]) for channel in said.channels])
        return self._rate.take(said, ())

    def end(self, life: Life, alert: Alert | None, now_ns: int, starts: tuple[int, ...]) -> Sequence[Alert]:
        """A life is over; `alert` says it to those who know of it."""
        reason, detail = (alert.reason, alert.state) if alert else ("resolved_untold", life.held)
        over = alert_life.noted(life, now_ns, reason, detail)
        self._holds.end(over, now_ns, starts)
        if alert is None:
            return ()
        said = msgspec.structs.replace(alert, channels=life.told)
        self._recorder.routed(said, [(channel, "was told of it") for channel in said.channels])
        return self._rate.take(said, life.told)

    def listed(self, life: Life, now_ns: int) -> None:
        """Nothing is said of a life now; one that is chronic is named in the daily list."""
        self._list.watch(life, now_ns)

    # --- what waits for its time ---

    def due(self) -> int | None:
        """The next digest of a channel, or daily list."""
        return min([time for time in (self._rate.due(), self._list.due()) if time is not None], default=None)

    def on_time(self, now_ns: int) -> Sequence[Alert]:
        """Those of them that are due."""
        told = list(self._rate.on_time(now_ns))
        at = self._list.due()
        if at is not None and at <= now_ns:
            alert = self._list.on_time(self._book.lives.items(), now_ns)
            if alert is not None:
                told += self.say_alone(alert, now_ns)
        return told

    def finish(self, now_ns: int) -> Sequence[Alert]:
        """The end of `--once`: what waits for room is told."""
        return self._rate.finish(now_ns)

    def _limited(self, said: Alert, known: tuple[str, ...], life: Life) -> Sequence[Alert]:
        """What the rate limit makes of it; that it has to wait is a decision, too."""
        given = self._rate.take(said, known)
        if given and given[0].channels == (NOBODY,):
            self._book.keep(alert_life.noted(life, said.now_ns, "rate_limited", ", ".join(said.channels)))
        return given


def _of(channels: tuple[str, ...], some: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(channel for channel in channels if channel in some)
