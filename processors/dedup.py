"""One message a problem: findings in, notifications out.

What is to be said of a problem is `processors.alert_life`'s to decide, whether it may be said now `alert_holds`', whom
to tell `alert_routes`', and how many a channel can bear `alert_rate`'s; `alert_voice` asks them in turn. Here is what
comes in: which life a finding or command is of, and what it does to it.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Literal

import msgspec

from pipeline.alert_commands import Acknowledge, Command, Expire, Resolve, Silence
from pipeline.alert_records import Record
from pipeline.batch import Batch
from pipeline.clock import MINUTE
from pipeline.components import Context, Processor, ProcessorSpec
from pipeline.facts import Parts
from pipeline.signals import Alert, Edges, Signal
from processors import alert_finding, alert_life, alert_timers
from processors.alert_book import Book
from processors.alert_holds import Holds
from processors.alert_recorder import Recorder
from processors.alert_state import Life
from processors.alert_voice import Voice
from processors.dedup_options import DedupConfig

Item = Alert | Edges | Command | Record

COMPLAINTS = 100
"""Different complaints that are logged."""

PATIENCE = 30 * MINUTE
"""How long catching up may keep anybody from being told."""

_NEVER_LATE = ("pipeline_silent",)
"""Kinds of alerts that are of now, whatever time it is in the log: who catches up can stand still, too."""


class Dedup:
    """Whole-scoped. `_lagging`: domain time is far behind the wall's; None until the runtime has said."""

    lead_ns = 0
    obeys_commands: Literal[True] = True

    def __init__(self, config: DedupConfig, context: Context) -> None:
        self._config, self._context, self._policy = config, context, config.policy()
        self._recorder = Recorder(context.recorded, self._policy)
        self._book = Book(context.state, self._policy, config.max_remembered, self._recorder)
        self._holds = Holds(config, context.state, self._book)
        self._voice = Voice(config, context, self._book, self._holds, self._recorder, self._complain)
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
        times = (self._book.due(), self._voice.due())
        return min([time for time in times if time is not None], default=None)

    async def on_time(self, now_ns: int) -> Sequence[Alert]:
        """What is due at or before `now_ns`, in order of time."""
        due = self.due()
        if due is None or due > now_ns:
            return ()
        self._book.begin()
        told: list[Alert] = []
        while (life := self._book.take_due(now_ns)) is not None:
            at = alert_timers.due(life, self._policy) or now_ns
            owed = not life.held and at == life.owed_ns
            told += self._voice.say(life, alert_timers.on_due(life, now_ns, self._policy), now_ns, owed)
        told += self._voice.on_time(now_ns)
        self._book.done()
        return [self._context.with_links(alert) for alert in told]

    async def finish(self, now_ns: int) -> Sequence[Alert]:
        """The end of `--once`: what is due at this very time, and what waits for its group or for room, is told.

        Elsewhere a timer of time t fires once an event or the clock is beyond t; here there is nothing beyond.
        """
        told = list(await self.on_time(now_ns))
        self._book.begin()
        waiting = [life for _, life in self._book.lives.items() if life.held in ("group_wait", "catching_up")]
        for life in sorted(waiting, key=lambda life: (life.began_ns, life.fingerprint)):
            now = max(now_ns, life.latest_ns)
            told += self._voice.say(life, alert_timers.released(life, now, self._policy), now)
        told += self._voice.finish(now_ns)
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
            # Both raise here if it is not whole: it is kept encoded, which leaves that out. `parts` are for the record;
            # a life is kept as long as it is open.
            finding, parts = item, item.parts
            if parts is not None:
                finding = msgspec.structs.replace(item, parts=None)
            else:
                msgspec.structs.astuple(item)
            return self._fail(self._voice.graded(finding), parts)
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
        if finding.assets and alert_finding.same_failure(before, finding):
            self._book.keep(alert_life.wider(life, finding, fresh))
            return ()
        after = alert_life.again(life, finding, fresh, self._policy, "counted", life.held)
        more = fresh and not set(before.assets).issuperset(finding.assets)
        reason = "worse" if after.severity != life.severity else "more_assets" if more else ""
        if reason and (life.held or not life.told or self._lagging):
            reason = ""
        self._recorder.occurred(after, finding, reason or life.held or "counted", parts)
        if not reason:
            self._book.keep(after)
            return ()
        return self._voice.say(after, alert_life.worse(after, after.latest_ns, reason, self._policy), after.latest_ns)

    def _begin(self, finding: Alert, parts: Parts | None) -> Sequence[Alert]:
        past, now = self._book.past(finding.fingerprint), finding.now_ns
        life = alert_life.begin(finding, past.occurrences + 1, self._policy, past.starts)
        if len(self._book.lives) >= self._config.max_open:
            self._say_once("Too many open problems, further ones are told each time.", max_open=self._config.max_open)
            _, alert = alert_life.first_word(life, now, "too_many_open", self._policy)
            return self._voice.say_alone(alert, now)
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
        return self._voice.say(life, alert_timers.released(life, now, self._policy), now)

    def _recover(self, recovery: Alert) -> Sequence[Alert]:
        life = self._book.life(recovery.fingerprint)
        if life is None or not self._book.heals(recovery):
            return ()
        elsewhere = bool(recovery.partition) and self._book.partition_fails(recovery, life.finding.assets)
        after, alert = alert_life.healed(life, recovery, elsewhere, self._policy)
        if after is not None:
            self._book.keep(after)
            return ()
        return self._voice.end(life, alert, recovery.now_ns, life.starts)

    # --- groups ---

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

    def _join(self, leader: Life, finding: Alert, parts: Parts | None) -> None:
        fresh = self._book.fails(finding)
        self._book.join(finding.fingerprint, leader.fingerprint)
        after = alert_life.again(leader, finding, fresh, self._policy, "grouped", finding.asset or finding.step_key)
        after = alert_life.with_member(after, finding, "failing", joins=True)
        self._recorder.occurred(after, finding, "grouped", parts)
        self._book.keep(after)

    # --- commands ---

    def _obey(self, command: Command) -> Sequence[Alert]:
        now = command.now_ns
        if isinstance(command, Silence):
            self._holds.silence(command)
        elif isinstance(command, Expire):
            self._holds.expire(command)
        elif isinstance(command, Acknowledge):
            known = self._book.named(command.alert)
            if known is not None:
                self._book.keep(alert_life.acknowledge(known, command.by, now))
        elif isinstance(command, Resolve):
            known = self._book.named(command.alert)
            if known is not None:
                self._book.forget_failing(known)
                return self._voice.end(known, alert_life.ended(known, now, "by_hand", self._policy), now, ())
        return ()

    # --- catching up ---

    def _caught_up(self, now_ns: int) -> None:
        """What is still open is told, as late; what failed last long ago is only listed."""
        for life in [life for _, life in self._book.lives.items()]:
            due = alert_timers.due(life, self._policy)
            if life.held == "catching_up" and not life.held_until_ns:
                old = bool(self._policy.chronic_ns) and now_ns - life.latest_ns > self._policy.chronic_ns
                late = msgspec.structs.replace(life, late=True, chronic=old, held_until_ns=now_ns)
                if old:
                    late = alert_life.noted(msgspec.structs.replace(late, held="", held_until_ns=0), now_ns, "chronic")
                self._book.keep(late)
                self._voice.listed(late, now_ns)
            elif not life.held and due is not None and due < now_ns:
                self._book.keep(alert_life.hold(life, "catching_up", now_ns, now_ns))

    # --- what is logged ---

    def _complain(self, why: str) -> None:
        self._say_once("Routing goes another way.", why=why)

    def _say_once(self, what: str, **facts: object) -> None:
        said = f"{what} {facts}"
        if said not in self._said and len(self._said) < COMPLAINTS:
            self._said.add(said)
            self._context.log.warning(what, extra=facts)


@asynccontextmanager
async def build(config: DedupConfig, context: Context) -> AsyncIterator[Processor[Item]]:
    yield Dedup(config, context)


SPEC = ProcessorSpec("dedup", DedupConfig, build, takes=frozenset({Signal.ALERTS}), scope="whole")
