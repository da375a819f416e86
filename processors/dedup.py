"""One message a problem: findings in, notifications out.

The decisions are `processors.alert_life`'s; here are the tables, the timers' order, and the bounds.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from heapq import heapify, heappop, heappush

import msgspec

from pipeline.batch import Batch
from pipeline.components import Context, Processor, ProcessorSpec, Table
from pipeline.options import Duration
from pipeline.signals import Alert, Edges, Signal
from processors import alert_life
from processors.alert_life import Life, Policy

Item = Alert | Edges


class DedupConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Makes one notification of many findings of the same problem, and says when it is over.

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
    escalate_to: tuple[str, ...] = ()
    """Who is named in an escalation (`@oncall-data`, `pagerduty`)."""
    max_open: int = 100_000
    """Open problems at the same time. Failures of further ones are told each time (reason `too_many_open`)."""
    max_remembered: int = 100_000
    """Resolved problems whose number of occurrences is remembered; the oldest are forgotten and count from 1 again."""

    def __post_init__(self) -> None:
        if self.escalate_after_count in (1, -1) or min(self.escalate_after_count, self.max_open) < 0:
            raise ValueError("escalate_after_count is 0 (off) or at least 2, and max_open is not negative")
        if self.flapping_count in (1, -1) or min(self.flapping_count, self.flapping_window) < 0:
            raise ValueError("flapping_count is 0 (off) or at least 2, and flapping_window is not negative")


class Past(msgspec.Struct, frozen=True, gc=False):
    """A resolved problem: how often it has occurred, when it was resolved last and when it began (domain times)."""

    occurrences: int
    ended_ns: int
    starts: tuple[int, ...] = ()


class Dedup:
    """Whole-scoped. `_timers` orders the lives by when they are due; an entry counts only while the life says the same
    time. It is taken out during a call and put back at its end, so a call that raises leaves it to be built anew.
    """

    lead_ns = 0

    def __init__(self, config: DedupConfig, context: Context) -> None:
        self._policy = Policy(
            config.window.ns,
            config.escalate_after.ns,
            config.escalate_after_count,
            config.repeat_every.ns,
            config.escalate_to,
            config.flapping_count,
            config.flapping_window.ns,
        )
        # Version 1 had no flapping: what its rows lack has defaults that say so.
        self._lives: Table[str, Life] = context.state.table("lives", str, Life, 2, {1: _as_it_is})
        self._failing: Table[tuple[str, str], int] = context.state.table("failing", tuple[str, str], int, version=1)
        self._past: Table[str, Past] = context.state.table("past", str, Past, 2, {1: _as_it_is})
        self._config, self._log = config, context.log
        self._timers: list[tuple[int, str]] | None = None
        self._full_said = False

    async def process(self, batch: Batch[Item], /) -> Batch[Item]:
        """Notifications of the batch's findings; what is no finding passes, what is no alert ends here."""
        timers = self._order()
        self._timers = None
        told: list[Item] = []
        for item in batch.items:
            if isinstance(item, Alert):
                alert = self._take(item, timers)
                if alert is not None:
                    told.append(alert)
        self._timers = timers
        return batch.carrying(told)

    def due(self) -> int | None:
        """The next digest, escalation or repeat."""
        timers = self._timers = self._order()
        while timers and self._due(timers[0][1]) != timers[0][0]:
            heappop(timers)
        return timers[0][0] if timers else None

    async def on_time(self, now_ns: int) -> Sequence[Alert]:
        """What is due at or before `now_ns`, in order of time."""
        timers = self._order()
        self._timers = None
        told: list[Alert] = []
        while timers and timers[0][0] <= now_ns:
            at, fingerprint = heappop(timers)
            life = self._lives.get(fingerprint)
            if life is None or alert_life.due(life, self._policy) != at:
                continue
            after, alert = alert_life.on_due(life, self._policy)
            if after is not None:
                self._keep(fingerprint, after, at, timers)
            else:
                self._end(life, at, ())
            if alert is not None:
                told.append(alert)
        self._timers = timers
        return told

    # --- one item ---

    def _take(self, item: Alert, timers: list[tuple[int, str]]) -> Alert | None:
        if item.state == "failing":
            return self._fail(item, timers)
        if item.state == "recovered":
            return self._recover(item, timers)
        return item

    def _fail(self, finding: Alert, timers: list[tuple[int, str]]) -> Alert | None:
        fingerprint = finding.fingerprint
        life = self._lives.get(fingerprint)
        if life is None:
            return self._begin(finding, timers)
        key = _partition_key(finding)
        fresh = key not in self._failing
        if fresh:
            self._failing.put(key, finding.now_ns)
        before = alert_life.due(life, self._policy)
        self._keep(fingerprint, alert_life.again(life, finding, fresh, self._policy), before, timers)
        return None

    def _begin(self, finding: Alert, timers: list[tuple[int, str]]) -> Alert:
        past = self._past.get(finding.fingerprint)
        before = past or Past(0, 0)
        life, alert = alert_life.begin(finding, before.occurrences + 1, self._policy, before.starts)
        if len(self._lives) >= self._config.max_open:
            self._say_full()
            return msgspec.structs.replace(alert, reason="too_many_open")
        self._failing.put(_partition_key(finding), finding.now_ns)
        self._keep(finding.fingerprint, life, None, timers)
        return alert

    def _recover(self, recovery: Alert, timers: list[tuple[int, str]]) -> Alert | None:
        key = _partition_key(recovery)
        life = self._lives.get(recovery.fingerprint)
        if life is None or key not in self._failing:
            return None
        self._failing.delete(key)
        after, alert = alert_life.healed(life, recovery, self._policy)
        if after is not None:
            self._keep(recovery.fingerprint, after, alert_life.due(life, self._policy), timers)
        else:
            self._end(life, recovery.now_ns, life.starts)
        return alert

    # --- tables and timers ---

    def _keep(self, fingerprint: str, life: Life, before: int | None, timers: list[tuple[int, str]]) -> None:
        """Store a life, and its next timer where that has moved from `before`."""
        self._lives.put(fingerprint, life)
        at = alert_life.due(life, self._policy)
        if at is not None and at != before:
            heappush(timers, (at, fingerprint))

    def _end(self, life: Life, now_ns: int, starts: tuple[int, ...]) -> None:
        fingerprint = life.finding.fingerprint
        self._lives.delete(fingerprint)
        self._remember(fingerprint, Past(life.occurrence, now_ns, starts))

    def _due(self, fingerprint: str) -> int | None:
        life = self._lives.get(fingerprint)
        return alert_life.due(life, self._policy) if life else None

    def _order(self) -> list[tuple[int, str]]:
        """The timers; built from the lives after a start, an undone call, or when most entries have lapsed."""
        timers = self._timers
        if timers is None or len(timers) > 2 * len(self._lives) + 1000:
            timers = [(at, key) for key, life in self._lives.items() if (at := alert_life.due(life, self._policy))]
            heapify(timers)
        return timers

    def _remember(self, fingerprint: str, past: Past) -> None:
        self._past.put(fingerprint, past)
        excess = len(self._past) - self._config.max_remembered
        if excess > 0:  # a tenth at once, so that the search is not made each time
            oldest = sorted(self._past.items(), key=lambda item: (item[1].ended_ns, item[0]))
            for key, _ in oldest[: excess + self._config.max_remembered // 10]:
                self._past.delete(key)

    def _say_full(self) -> None:
        if not self._full_said:
            self._full_said = True
            self._log.warning(
                "Too many open problems, further ones are told each time.", extra={"max_open": self._config.max_open}
            )


def _as_it_is(value: object) -> object:
    return value


def _partition_key(alert: Alert) -> tuple[str, str]:
    """What fails and heals by itself. Only assets have partitions: a job is well at its next success of any."""
    return alert.fingerprint, (alert.partition or "") if alert.asset else ""


@asynccontextmanager
async def build(config: DedupConfig, context: Context) -> AsyncIterator[Processor[Item]]:
    yield Dedup(config, context)


SPEC = ProcessorSpec("dedup", DedupConfig, build, takes=frozenset({Signal.ALERTS}), scope="whole")
