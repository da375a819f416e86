"""The `silence` connector: the pipeline's own silence, noticed from inside and from outside.

Inside: no event of Dagster's for longer than expected. Outside: a heartbeat now and then, that somebody else misses
when it stops (the daemon is down, its input stuck, its notifiers cut off). It travels the alerts' own way, so that it
proves that way; the `ping` exporter makes a call of it.
"""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

import msgspec

from pipeline.batch import Batch
from pipeline.clock import MINUTE
from pipeline.components import Connector, ConnectorSpec, Context, Table
from pipeline.conditions import Conditions, Of, moment, span
from pipeline.events import Event
from pipeline.options import Duration
from pipeline.signals import Alert, Severity, Signal

_ROW: Final = "input"


class SilenceConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Tells when no event comes for longer than expected (`pipeline_silent`), and sends heartbeats.

    Stands at the end of an events pipeline and begins an alerts pipeline. docs/sources.md explains it.
    """

    expect: Duration = Duration("1h")
    """An event comes at least this often. 0: nothing is expected."""
    severity: Severity = "ERROR"
    """Of the silence."""
    again: Duration = Duration("6h")
    """Silence that lasts is found again this often: by that it persists, and `dedup` escalates it. 0: never."""
    heartbeat: Duration = Duration(0)
    """An alert of kind `heartbeat` goes out this often, for `ping` or a channel of `heartbeat_channels`. 0: none."""
    heartbeat_channels: tuple[str, ...] = ("ping",)
    """Who gets heartbeats: names of notifiers, as in routes."""
    deployment: str = ""
    """Name of the deployment (`prod`): part of fingerprints, and named in messages."""

    def problems(self) -> Iterator[tuple[str, str]]:
        """Path and message of each fault."""
        for name in ("expect", "again"):
            if 0 < getattr(self, name) < 60:
                yield name, "must be at least a minute, or 0 for never"
        if 0 < self.heartbeat < 1:
            yield "heartbeat", "must be at least `1s`, or 0 for none"
        if self.heartbeat and not self.heartbeat_channels:
            yield "heartbeat_channels", "names nobody; heartbeats would go to all notifiers"


class Heard(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """What was heard. Domain times; `told_ns` 0: the silence is not told."""

    last_ns: int  # of the last event, or since anybody listens
    any: bool = False  # an event was heard at all
    told_ns: int = 0
    beat_ns: int = 0  # of the last heartbeat


class Silence:
    """Whole-scoped: one event of any shard ends it."""

    def __init__(self, config: SilenceConfig, context: Context) -> None:
        self._table: Table[str, Heard] = context.state.table("heard", str, Heard, version=1)
        self._config, self._once = config, context.once
        self._findings = Conditions(config.deployment)
        spans = [span for span in (config.expect.ns, config.again.ns, config.heartbeat.ns) if span]
        self.lead_ns = min(spans, default=0)
        self._behind = False

    async def process(self, batch: Batch[Event], /) -> Sequence[Alert]:
        """An event ends the silence."""
        given: list[Alert] = []
        heard = self._table.get(_ROW)
        for event in batch.items:
            if not event.raw:
                continue  # our own, made for want of any
            if heard is not None and heard.told_ns:
                given.append(self._findings.recovered("pipeline_silent", self._of(), event.now_ns))
            heard = Heard(event.now_ns, True, 0, heard.beat_ns if heard is not None else event.now_ns)
        if heard is not None and heard != self._table.get(_ROW):
            self._table.put(_ROW, heard)
        return given

    def due(self) -> int | None:
        """When it has been silent for too long, or a heartbeat is to go out."""
        heard = self._table.get(_ROW)
        if heard is None:
            return None
        times = [time for time in (self._silent_at(heard), self._beat_at(heard)) if time]
        return min(times, default=None)

    async def on_time(self, now_ns: int) -> Sequence[Alert]:
        """The silence, and the heartbeat, whichever is due."""
        heard, given = self._table.get(_ROW), list[Alert]()
        if heard is None:
            return given
        if 0 < self._silent_at(heard) <= now_ns:
            heard = msgspec.structs.replace(heard, told_ns=now_ns)
            given.append(self._silent(heard, now_ns))
        if 0 < self._beat_at(heard) <= now_ns:
            heard = msgspec.structs.replace(heard, beat_ns=now_ns)
            given.append(self._beat(heard, now_ns))
        if heard != self._table.get(_ROW):
            self._table.put(_ROW, heard)
        return given

    async def flush(self, now_ns: int) -> Sequence[Alert]:
        """Listening begins with the first checkpoint, so that an input that never says anything is noticed."""
        if now_ns and not self._once and self._table.get(_ROW) is None:
            self._table.put(_ROW, Heard(now_ns, beat_ns=now_ns))
        return ()

    def lags(self, behind_ns: int, now_ns: int) -> None:
        """While it reads what is old it is not well, and a heartbeat for each past minute would say that it was."""
        behind = behind_ns > max(MINUTE, self._config.heartbeat.ns)
        heard = self._table.get(_ROW)
        if self._behind and not behind and heard is not None and self._config.heartbeat:
            next_ns = max(heard.beat_ns, now_ns - self._config.heartbeat.ns)
            self._table.put(_ROW, msgspec.structs.replace(heard, beat_ns=next_ns))
        self._behind = behind

    def _silent_at(self, heard: Heard) -> int:
        if heard.told_ns:
            return heard.told_ns + self._config.again.ns if self._config.again else 0
        return heard.last_ns + self._config.expect.ns if self._config.expect else 0

    def _beat_at(self, heard: Heard) -> int:
        return heard.beat_ns + self._config.heartbeat.ns if self._config.heartbeat and not self._behind else 0

    def _silent(self, heard: Heard, now_ns: int) -> Alert:
        quiet = f"No event of Dagster's for {span(now_ns - heard.last_ns)} (since {moment(heard.last_ns)})"
        if not heard.any:
            quiet = f"No event of Dagster's at all since {moment(heard.last_ns)} ({span(now_ns - heard.last_ns)})"
        said = (
            f"{quiet}; one is expected every {span(self._config.expect.ns)}. Failures cannot be seen: is Dagster "
            "running, is the bridge, is the broker there?"
        )
        severity, title = self._config.severity, "Pipeline Silent"
        return self._findings.failing("pipeline_silent", severity, title, said, self._of(), now_ns, heard.last_ns)

    def _beat(self, heard: Heard, now_ns: int) -> Alert:
        """No finding: nothing begins or ends, so `dedup` hands it on as it is."""
        deployment = f" of {self._config.deployment}" if self._config.deployment else ""
        last = f"the last event came at {moment(heard.last_ns)}" if heard.any else "no event has come yet"
        of = Of(thing="heartbeat")
        alert = self._findings.failing(
            "heartbeat", "INFO", f"Heartbeat{deployment}", f"dagtel is here; {last}.", of, now_ns
        )
        key = f"{alert.fingerprint}#{now_ns}"
        return msgspec.structs.replace(alert, state="firing", key=key, channels=self._config.heartbeat_channels)

    def _of(self) -> Of:
        return Of(thing="events")


@asynccontextmanager
async def build(config: SilenceConfig, context: Context) -> AsyncIterator[Connector[Event, Alert]]:
    yield Silence(config, context)


SPEC = ConnectorSpec("silence", SilenceConfig, build, takes=Signal.EVENTS, gives=Signal.ALERTS, scope="whole")
