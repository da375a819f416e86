"""Domain time: the time that timers live in, one clock a source and one for the whole.

With `system`, a source that is behind lives in the time of its records (a daemon that was down for seven hours reads
the success before it escalates) and, once caught up, in the wall's. With `events` it is the highest event time. The
whole takes the least of the sources that are behind. No clock ever goes back.

At a start nothing has been read yet, and the wall's time is the future of what is to be read: until every receiver has
put its first read, or for a minute where one does not come, no timer of the whole fires.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import Final, Literal

import msgspec

from pipeline.batch import WHOLE
from pipeline.clock import DAY, MINUTE
from pipeline.events import Event
from pipeline.native import HAS_NATIVE, native
from pipeline.signals import Alert, Sample

Mode = Literal["system", "events"]


START_WAIT_NS = MINUTE
_TWIN: Final = native.Stamps(Event) if HAS_NATIVE else None


class _SourceTime:
    __slots__ = ("behind", "leads", "now_ns")

    def __init__(self, now_ns: int, leads: bool) -> None:
        self.now_ns = now_ns
        self.behind = True
        self.leads = leads


class DomainTime:
    """The clocks of all sources of one process."""

    def __init__(self, mode: Mode) -> None:
        self.mode = mode
        self.absurd = 0
        """Event times that were ignored: more than a day ahead of the wall."""
        self._sources: dict[str, _SourceTime] = {}
        self._whole_ns = 0
        self._missing: set[str] = set()
        self._waits_until_ns = 0

    def wait_for(self, receivers: Iterable[str], wall_ns: int) -> None:
        """A start: these are to put a read before time goes on."""
        if self.mode == "system":
            self._missing, self._waits_until_ns = set(receivers), wall_ns + START_WAIT_NS

    def waits(self, wall_ns: int) -> bool:
        """Whether a receiver is still to come."""
        if self._missing and wall_ns >= self._waits_until_ns:
            self._missing.clear()
        return bool(self._missing)

    def came(self, receiver: str) -> None:
        """A receiver has put a read."""
        self._missing.discard(receiver)

    def add(self, source: str, now_ns: int = 0, leads: bool = True, stored_ns: int = 0) -> None:
        """A source is taken on; `now_ns` is the time of its last record, `stored_ns` what `to_store` gave, else 0.
        It counts as behind until its first read. `leads`: it leads to the whole, which follows it."""
        events = self.mode == "events"  # else what is stored is of a run with the other clock
        self._sources[source] = _SourceTime((stored_ns if events else 0) or now_ns, leads)

    def remove(self, source: str) -> None:
        """A source is given up and holds nobody back."""
        self._sources.pop(source, None)

    def stamp(self, source: str, items: Sequence[object], wall_ns: int) -> None:
        """Set `now_ns` of each event to its domain time, in order; of an alert or sample, where it has no time."""
        clock = self._sources[source]
        now = clock.now_ns
        ahead = wall_ns + DAY if self.mode == "events" else wall_ns
        if _TWIN is not None:
            done, now = _TWIN.stamp(items, now, ahead, self.mode == "events")
            items = items[done:]
        for item in items:
            if isinstance(item, Event):
                at = item.at_ns if self.mode == "events" else item.record_ns
                if at > now:
                    if at <= ahead:
                        now = at
                    elif self.mode == "events":
                        self.absurd += 1
                    else:
                        now = max(now, wall_ns)
                item.now_ns = now
            elif isinstance(item, Alert | Sample):
                now = self._arrived(item, now, ahead, wall_ns)
        clock.now_ns = now

    def _arrived(self, item: Alert | Sample, now_ns: int, ahead_ns: int, wall_ns: int) -> int:
        """The time of something that a receiver found rather than read; it is given to those that have none.

        Nothing carries it, so it is of the wall's time, or with `events` of its own.
        """
        own = item.last_ns if isinstance(item, Alert) else item.at_ns
        at = wall_ns if self.mode == "system" else own
        now = max(now_ns, at) if at <= ahead_ns else now_ns
        if isinstance(item, Alert) and not item.now_ns:
            msgspec.structs.force_setattr(item, "now_ns", now or own)  # nobody else has it yet
        elif isinstance(item, Sample) and not item.at_ns:
            msgspec.structs.force_setattr(item, "at_ns", now)
        return now

    def to_store(self, shards: Collection[str]) -> dict[str, int]:
        """The times that these shards have come to, where their positions do not tell: with `events` the last record
        may be older than one before it (or absurdly ahead), and a restart that began at it would take time back."""
        if self.mode == "system":
            return {}
        times = {source: clock.now_ns for source, clock in self._sources.items() if source in shards}
        return {**times, WHOLE: self._whole_ns} if WHOLE in shards else times

    def add_whole(self, stored_ns: int) -> None:
        """The whole is taken on; `stored_ns` as for a source."""
        if self.mode == "events":
            self._whole_ns = max(self._whole_ns, stored_ns)

    def read(self, source: str, behind: bool, wall_ns: int) -> None:
        """A read was processed: is the source still behind? If not it lives in the wall's time from now on."""
        clock = self._sources[source]
        clock.behind = behind
        if not behind and self.mode == "system":
            clock.now_ns = max(clock.now_ns, wall_ns)

    def of(self, source: str, wall_ns: int) -> int:
        """The time in one source."""
        clock = self._sources[source]
        if self.mode == "system" and not clock.behind:
            clock.now_ns = max(clock.now_ns, wall_ns)
        return clock.now_ns

    def whole(self, wall_ns: int) -> int:
        """The time of the whole."""
        if self.waits(wall_ns):
            return max(self._whole_ns, wall_ns)  # to say when something was written; it is not kept, and fires nothing
        leading = [clock for clock in self._sources.values() if clock.leads]
        held = [clock.now_ns for clock in leading if clock.behind]
        if held:
            now = min(held)
        elif self.mode == "system":
            now = wall_ns
        else:
            now = max((clock.now_ns for clock in leading), default=0)
        self._whole_ns = max(self._whole_ns, now)
        return self._whole_ns

    def limit(self, source: str) -> int | None:
        """How far the whole may go while this source is read: the least time of the others that are behind."""
        if self._missing:
            return self._whole_ns
        others = (c.now_ns for s, c in self._sources.items() if c.behind and c.leads and s != source)
        return min(others, default=None)
