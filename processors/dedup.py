"""One message a problem: findings in, notifications out.

What is to be said of a problem is `processors.alert_life`'s to decide, whom to tell `alert_routes`', and how many a
channel can bear `alert_rate`'s. Here they meet: whatever a life wants to say goes through `_say`, which finds out
whether it may be said now. If not, the life stays as it was, held, and is asked again when that is over.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Literal

import msgspec

from pipeline.alert_commands import Acknowledge, Command, Expire, Resolve, Silence
from pipeline.alert_records import Record
from pipeline.batch import Batch
from pipeline.channels import NOBODY
from pipeline.clock import MINUTE
from pipeline.components import Context, Processor, ProcessorSpec
from pipeline.cron import Cron, zone_of
from pipeline.facts import Parts
from pipeline.signals import Alert, Edges, Signal
from processors import alert_life
from processors.alert_book import Book
from processors.alert_list import DailyList
from processors.alert_rate import RateLimit
from processors.alert_recorder import Recorder
from processors.alert_routes import Router
from processors.alert_silences import Silences
from processors.alert_state import Life
from processors.dedup_options import DedupConfig

Item = Alert | Edges | Command | Record
Step = tuple[Life | None, Alert | None]

COMPLAINTS = 100
"""Different complaints that are logged."""

PATIENCE = 30 * MINUTE
"""How long catching up may keep anybody from being told."""

_NEVER_LATE = ("pipeline_silent",)
"""Kinds of alerts that are of now, whatever time it is in the log: who catches up can stand still, too."""

_CAUSES = ("asset_failure", "check_failure")
"""Kinds of alerts that others follow from."""


class Dedup:
    """Whole-scoped. `_lagging`: domain time is far behind the wall's; None until the runtime has said."""

    lead_ns = 0
    obeys_commands: Literal[True] = True

    def __init__(self, config: DedupConfig, context: Context) -> None:
        self._config, self._context, self._policy = config, context, config.policy()
        self._recorder = Recorder(context.recorded, self._policy)
        self._book = Book(context.state, self._policy, config.max_remembered, self._recorder)
        self._silences = Silences(context.state, config.max_silences)
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
            self._complain,
        )
        self._lagging: bool | None = None
        self._lags_since: int | None = None
        self._said: set[str] = set()

    async def process(self, batch: Batch[Item], /) -> Batch[Item]:
        """Notifications of the batch's findings; others and records pass; commands and edges end here."""
        if not batch.items:
            return batch
        self._book.begin()
        told: list[Item] = []
        for item in batch.items:
            if isinstance(item, Alert):
                told += self._take(item)
            elif isinstance(item, Silence | Expire | Acknowledge | Resolve):
                told += self._obey(item)
            elif not isinstance(item, Edges):
                told.append(item)
        self._book.done()
        return batch.carrying([self._context.with_links(item) if isinstance(item, Alert) else item for item in told])

    def due(self) -> int | None:
        """The next thing that is to be said or decided; nothing while it is catching up."""
        if self._lagging:
            return None
        times = (self._book.due(), self._rate.due(), self._list.due())
        return min((time for time in times if time is not None), default=None)

    async def on_time(self, now_ns: int) -> Sequence[Alert]:
        """What is due at or before `now_ns`, in order of time."""
        due = self.due()
        if due is None or due > now_ns:
            return ()
        self._book.begin()
        told: list[Alert] = []
        while (life := self._book.take_due(now_ns)) is not None:
            at = alert_life.due(life, self._policy) or now_ns
            owed = not life.held and at == life.owed_ns
            told += self._say(life, alert_life.on_due(life, now_ns, self._policy), now_ns, owed)
        told += self._rate.on_time(now_ns)
        if (at_list := self._list.due()) is not None and at_list <= now_ns:
            told += self._still_broken(now_ns)
        self._book.done()
        return [self._context.with_links(alert) for alert in told]

    async def finish(self, now_ns: int) -> Sequence[Alert]:
        """The end of `--once`: what is due at this very time, and what waits for its group or for room, is told.

        Elsewhere a timer of time t fires once an event or the clock is beyond t; here there is nothing beyond.
        """
        told = list(await self.on_time(now_ns))
        self._book.begin()
        waiting = [life for _, life in self._book.lives.all() if life.held in ("group_wait", "catching_up")]
        for life in sorted(waiting, key=lambda life: (life.began_ns, life.fingerprint)):
            now = max(now_ns, life.latest_ns)
            told += self._say(life, alert_life.released(life, now, self._policy), now)
        told += self._rate.finish(now_ns)
        self._book.done()
        return [self._context.with_links(alert) for alert in told]

    async def flush(self, now_ns: int) -> Sequence[Item]:
        """What was decided since the last barrier, for those who keep records."""
        return self._recorder.take(now_ns)

    def lags(self, behind_ns: int, now_ns: int) -> None:
        """How far domain time is behind the wall's. What was held while catching up is told at its end."""
        limit = 0 if self._context.once else self._config.catch_up_after.ns
        wall = now_ns + behind_ns
        lagging = bool(limit) and behind_ns > limit
        if not lagging:
            self._lags_since = None
        elif self._lags_since is None:
            self._lags_since = wall
        elif wall - self._lags_since > PATIENCE:
            lagging = False  # it does not catch up: told late is better than not told
        if lagging == self._lagging:
            return
        self._lagging = lagging
        if not lagging:
            self._book.begin()
            self._caught_up(now_ns)
            self._book.done()

    # --- one item ---

    def _take(self, item: Alert) -> Sequence[Alert]:
        if item.state == "failing":
            msgspec.structs.astuple(item)  # raises here if it is not whole: it is kept encoded, which leaves that out
            parts, finding = item.parts, item
            if parts is not None:  # for the record; a life is kept as long as it is open
                finding = msgspec.structs.replace(finding, parts=None)
            return self._fail(self._router.graded(finding), parts)
        if item.state == "recovered":
            return self._recover(item)
        return (item,)

    def _fail(self, finding: Alert, parts: Parts | None) -> Sequence[Alert]:
        life = self._book.life(finding.fingerprint)
        if life is not None:
            return self._fail_again(life, finding, parts)
        leader = self._leader(finding)
        if leader is not None:
            self._join(leader, finding, parts)
            return ()
        return self._begin(finding, parts)

    def _fail_again(self, life: Life, finding: Alert, parts: Parts | None) -> Sequence[Alert]:
        before = life.finding if finding.assets else finding
        fresh = self._book.fails(finding)
        if finding.assets and alert_life.same_failure(before, finding):
            self._book.keep(alert_life.wider(life, finding, fresh))
            return ()
        after = alert_life.again(life, finding, fresh, self._policy)
        after = alert_life.noted(after, finding.now_ns, "counted", life.held)
        more = fresh and not set(before.assets).issuperset(finding.assets)
        reason = "worse" if after.severity != life.severity else "more_assets" if more else ""
        if life.held or not life.told or self._lagging:
            reason = ""
        self._recorder.occurred(after, finding, reason or life.held or "counted", parts)
        if not reason:
            self._book.keep(after)
            return ()
        return self._say(after, alert_life.worse(after, after.latest_ns, reason, self._policy), after.latest_ns)

    def _begin(self, finding: Alert, parts: Parts | None) -> Sequence[Alert]:
        past, now = self._book.past(finding.fingerprint), finding.now_ns
        life = alert_life.begin(finding, past.occurrences + 1, self._policy, past.starts)
        if len(self._book.lives) >= self._config.max_open:
            self._say_once("Too many open problems, further ones are told each time.", max_open=self._config.max_open)
            _, alert = alert_life.first_word(life, now, "too_many_open", self._policy)
            return self._unkept(alert, now)
        self._book.fails(finding)
        self._recorder.occurred(life, finding, "first", parts)
        group = self._group(finding)
        if group:
            life = msgspec.structs.replace(life, group=group)
            self._book.lead(group, finding.fingerprint)
        if self._lagging and finding.kind not in _NEVER_LATE:
            self._book.keep(alert_life.hold(life, "catching_up", 0, now))
            return ()
        if group and self._config.group_wait.ns:
            self._book.keep(alert_life.hold(life, "group_wait", now + self._config.group_wait.ns, now))
            return ()
        return self._say(life, alert_life.released(life, now, self._policy), now)

    def _recover(self, recovery: Alert) -> Sequence[Alert]:
        life = self._book.life(recovery.fingerprint)
        if life is None or not self._book.heals(recovery):
            return ()
        elsewhere = bool(recovery.partition) and self._book.partition_fails(recovery, life.finding.assets)
        after, alert = alert_life.healed(life, recovery, elsewhere, self._policy)
        if after is not None:
            self._book.keep(after)
            return ()
        return self._end(life, alert, recovery.now_ns, life.starts)

    # --- groups, and what follows from others ---

    def _group(self, finding: Alert) -> str:
        """The key of what it is told with; "" for a failure that has no company."""
        for name in self._config.group_by:
            value = finding.run_id if name == "run" else finding.tags.get("dagster/backfill", "")
            if value and (name == "backfill" or self._config.group_wait.ns):
                return f"{name}:{value}"
        return ""

    def _leader(self, finding: Alert) -> Life | None:
        group = self._group(finding)
        life = self._book.leader(group) if group else None
        open = life is not None and (life.held in ("group_wait", "catching_up") or group.startswith("backfill:"))
        return life if open and life is not None and len(life.folded) < self._config.max_group else None

    def _unkept(self, alert: Alert, now_ns: int) -> Sequence[Alert]:
        """Told by itself: no life of ours stands behind it."""
        routed = self._router.routed(alert, now_ns)
        said = msgspec.structs.replace(alert, channels=routed.open or routed.later, number=0)
        self._recorder.routed(said, [(channel, routed.why[channel]) for channel in said.channels])
        return self._rate.take(said, ())

    def _join(self, leader: Life, finding: Alert, parts: Parts | None) -> None:
        fresh = self._book.fails(finding)
        self._book.join(finding.fingerprint, leader.fingerprint)
        after = alert_life.with_member(
            alert_life.again(leader, finding, fresh, self._policy), finding, "failing", joins=True
        )
        self._recorder.occurred(after, finding, "grouped", parts)
        self._book.keep(alert_life.noted(after, finding.now_ns, "grouped", finding.asset or finding.step_key))

    def _cause(self, finding: Alert) -> Life | None:
        """The open problem that this one follows from, nearest first."""
        if finding.kind not in self._config.inhibit or not finding.asset:
            return None
        for asset in (finding.asset, *finding.upstream):
            for life in self._book.failing_at(asset):
                if life.kind in _CAUSES and life.fingerprint != finding.fingerprint:
                    return life
        return None

    # --- saying it ---

    def _say(self, before: Life, step: Step, now_ns: int, owed: bool = False) -> Sequence[Alert]:
        """What the step from `before` says, if it may be said now; else `before` is held."""
        after, alert = step
        if after is None:
            return self._end(before, alert, now_ns, ())
        if alert is None:
            self._book.keep(after)
            return ()
        held = self._held(before, now_ns)
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

    def _limited(self, said: Alert, known: tuple[str, ...], life: Life | None) -> Sequence[Alert]:
        """What the rate limit makes of it; that it has to wait is a decision, too."""
        given = self._rate.take(said, known)
        if life is not None and given and given[0].channels == (NOBODY,):
            self._book.keep(alert_life.noted(life, said.now_ns, "rate_limited", ", ".join(said.channels)))
        return given

    def _held(self, life: Life, now_ns: int) -> Life | None:
        """The life held, if something keeps it from being told."""
        if not len(self._silences) and life.kind not in self._config.inhibit:
            return None
        finding = life.finding
        cause = self._cause(finding)
        if cause is not None:
            if life.held_by != cause.fingerprint:
                self._book.keep(alert_life.with_member(cause, finding, "failing", joins=False))
            held = msgspec.structs.replace(life, held_by=cause.fingerprint)
            return alert_life.hold(held, "inhibited", 0, now_ns, f"{cause.asset} {cause.fingerprint}")
        silence = self._silences.over(finding, now_ns)
        if silence is not None:
            return alert_life.hold(life, "silenced", silence.until_ns, now_ns, f"{silence.id} by {silence.by}")
        return None

    def _end(self, life: Life, alert: Alert | None, now_ns: int, starts: tuple[int, ...]) -> Sequence[Alert]:
        reason, detail = (alert.reason, alert.state) if alert else ("resolved_untold", life.held)
        over = alert_life.noted(life, now_ns, reason, detail)
        waiting = self._book.held_by(life.fingerprint)
        self._book.end(over, now_ns, starts)
        for held in waiting:
            until = now_ns + self._config.inhibit_grace.ns
            self._book.keep(msgspec.structs.replace(held, held_until_ns=until, held_by=""))
        if alert is None:
            return ()
        said = msgspec.structs.replace(alert, channels=life.told)
        self._recorder.routed(said, [(channel, "was told of it") for channel in said.channels])
        return self._rate.take(said, life.told)

    # --- commands ---

    def _obey(self, command: Command) -> Sequence[Alert]:
        now = command.now_ns
        if isinstance(command, Silence):
            if self._silences.add(command):
                for life in [life for _, life in self._book.lives.all() if not life.held]:
                    if self._silences.matches(command, life.finding):
                        detail = f"{command.id} by {command.by}"
                        self._book.keep(alert_life.hold(life, "silenced", command.until_ns, now, detail))
        elif isinstance(command, Expire):
            if self._silences.expire(command.silence):
                for life in [life for _, life in self._book.lives.all() if life.held == "silenced"]:
                    self._book.keep(msgspec.structs.replace(life, held_until_ns=now))
        elif isinstance(command, Acknowledge):
            known = self._book.named(command.alert)
            if known is not None:
                self._book.keep(alert_life.acknowledge(known, command.by, now))
        elif isinstance(command, Resolve):
            known = self._book.named(command.alert)
            if known is not None:
                self._book.forget_failing(known)
                return self._end(known, alert_life.ended(known, now, "by_hand", self._policy), now, ())
        return ()

    # --- catching up, and what is chronic ---

    def _caught_up(self, now_ns: int) -> None:
        """What is still open is told, as late; what failed last long ago is only listed."""
        for life in [life for _, life in self._book.lives.all()]:
            due = alert_life.due(life, self._policy)
            if life.held == "catching_up" and not life.held_until_ns:
                old = bool(self._policy.chronic_ns) and now_ns - life.latest_ns > self._policy.chronic_ns
                late = msgspec.structs.replace(life, late=True, chronic=old, held_until_ns=now_ns)
                if old:
                    late = alert_life.noted(msgspec.structs.replace(late, held="", held_until_ns=0), now_ns, "chronic")
                self._book.keep(late)
                self._list.watch(late, now_ns)
            elif not life.held and due is not None and due < now_ns:
                self._book.keep(alert_life.hold(life, "catching_up", now_ns, now_ns))

    def _still_broken(self, now_ns: int) -> Sequence[Alert]:
        alert = self._list.on_time(self._book.lives.all(), now_ns)
        if alert is None:
            return ()
        return self._unkept(alert, now_ns)

    # --- what is logged ---

    def _complain(self, why: str) -> None:
        self._say_once("Routing goes another way.", why=why)

    def _say_once(self, what: str, **facts: object) -> None:
        said = f"{what} {facts}"
        if said not in self._said and len(self._said) < COMPLAINTS:
            self._said.add(said)
            self._context.log.warning(what, extra=facts)


def _of(channels: tuple[str, ...], some: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(channel for channel in channels if channel in some)


@asynccontextmanager
async def build(config: DedupConfig, context: Context) -> AsyncIterator[Processor[Item]]:
    yield Dedup(config, context)


SPEC = ProcessorSpec("dedup", DedupConfig, build, takes=frozenset({Signal.ALERTS}), scope="whole")
