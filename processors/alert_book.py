"""All open problems: their tables, and the orders in which they are looked up.

`lives` is by the fingerprint that a group is led by, `homes` leads the others there. The orders (timers, assets, who
is held by whom) are made of the tables: they are not trusted after a call that raised, and made anew.
"""

from collections.abc import Iterable, Iterator
from heapq import heapify, heappop, heappush

import msgspec

from pipeline.components import State, Table
from pipeline.encoded_rows import EncodedRows
from pipeline.signals import Alert, Decision
from processors import alert_timers
from processors.alert_recorder import Recorder
from processors.alert_state import Life, Policy

Order = list[tuple[int, str]]


class Past(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """A resolved problem: how often it has occurred, when it was resolved last and when it began (domain times)."""

    occurrences: int
    ended_ns: int
    starts: tuple[int, ...] = ()
    decisions: tuple[Decision, ...] = ()


class Book:
    """A call of the component stands between `begin` and `done`."""

    def __init__(self, state: State, policy: Policy, max_remembered: int, recorder: Recorder) -> None:
        self._policy, self._max_remembered, self._recorder = policy, max_remembered, recorder
        # A hundred thousand take 150 MB (as objects 200, and 260 once they were read back, when they share nothing).
        # Version 1 had no flapping, holds, channels and groups: what its rows lack has defaults that say so.
        self.lives = EncodedRows(state, "lives", Life, 2, {1: _second_life}, alike=0)
        self._failing: Table[tuple[str, str], int] = state.table("failing", tuple[str, str], int, version=1)
        self._past: Table[str, Past] = state.table("past", str, Past, 2, {1: _as_it_is})
        self._homes: Table[str, str] = state.table("homes", str, str, version=1)
        self._groups: Table[str, str] = state.table("groups", str, str, version=1)
        self._whole = False
        self._timers: Order = []
        self._first: tuple[int, str] | None = None  # a timer that a life has, as was seen when it was asked for
        self._taken = ""
        # Of a step's assets with the row that says that it fails: it may be well before the others are.
        self._by_asset: dict[str, set[tuple[str, str | None]]] | None = None
        self._held_by: dict[str, set[str]] = {}

    def begin(self) -> None:
        """A call begins: until `done` the orders may be wrong."""
        self._ready()
        self._whole = False
        self._recorder.begin()

    def done(self) -> None:
        """The call has come to its end."""
        self._whole = True
        self._recorder.done()

    # --- looking up ---

    def home(self, fingerprint: str) -> str:
        """The fingerprint that leads its life."""
        return self._homes.get(fingerprint) or fingerprint

    def life(self, fingerprint: str) -> Life | None:
        """The open life that the problem is of."""
        return self.lives.get(self.home(fingerprint))

    def named(self, alert: str) -> Life | None:
        """By a notification's key or a fingerprint."""
        fingerprint, _, number = alert.partition("#")
        life = self.life(fingerprint)
        return life if life is not None and number in ("", str(life.occurrence)) else None

    def past(self, fingerprint: str) -> Past:
        """What there was before."""
        return self._past.get(fingerprint) or Past(0, 0)

    def leader(self, group: str) -> Life | None:
        """The life that a group has now."""
        fingerprint = self._groups.get(group)
        return self.lives.get(fingerprint) if fingerprint else None

    def failing_at(self, asset: str) -> Iterator[Life]:
        """Open lives of the asset."""
        if self._by_asset is None:
            self._by_asset = {}
            for fingerprint, life in self.lives.items():
                if life.asset:
                    self._by_asset.setdefault(life.asset, set()).add((fingerprint, None))
            for (fingerprint, part), _ in self._failing.items():
                if "\0" in part:
                    self._by_asset.setdefault(part.partition("\0")[0], set()).add((fingerprint, part))
        at = self._by_asset.get(asset, ())
        fail = {self.home(print_) for print_, part in at if part is None or (print_, part) in self._failing}
        for fingerprint in sorted(fail):
            found = self.lives.get(fingerprint)
            if found is not None and found.failing:
                yield found

    def held_by(self, fingerprint: str) -> list[Life]:
        """Lives that wait for this one's end."""
        found = (self.lives.get(held) for held in sorted(self._held_by.get(fingerprint, ())))
        return [life for life in found if life is not None and life.held_by == fingerprint]

    # --- changing ---

    def fails(self, finding: Alert) -> int:
        """One more failure: how many of its parts (partitions, assets of a step) were well."""
        fresh = [key for key in _parts(finding) if key not in self._failing]
        for key in fresh:
            self._failing.put(key, finding.now_ns)
            if self._by_asset is not None and "\0" in key[1]:
                self._by_asset.setdefault(key[1].partition("\0")[0], set()).add(key)
        return len(fresh)

    def heals(self, recovery: Alert) -> bool:
        """A part is well. True if it was failing."""
        known = False
        for key in (_part(recovery), _part(recovery, recovery.asset)):
            known = known or key in self._failing
            self._failing.delete(key)
        return known

    def partition_fails(self, recovery: Alert, assets: Iterable[str]) -> bool:
        """Whether one of a step's assets fails in the partition in which another is well."""
        return any(_part(recovery, asset) in self._failing for asset in assets)

    def keep(self, life: Life) -> None:
        """Store a life, and its next timer."""
        fingerprint = life.fingerprint
        before = self.lives.get(fingerprint)
        self._recorder.kept(before, life)
        self.lives.put(fingerprint, life)
        at = alert_timers.due(life, self._policy)
        self._doubt(fingerprint)
        if at is not None and (
            before is None or fingerprint == self._taken or at != alert_timers.due(before, self._policy)
        ):
            heappush(self._timers, (at, fingerprint))
        if fingerprint == self._taken:
            self._taken = ""
        if before is None and self._by_asset is not None and life.asset:
            self._by_asset.setdefault(life.asset, set()).add((fingerprint, None))
        if life.held_by:
            self._held_by.setdefault(life.held_by, set()).add(fingerprint)

    def join(self, fingerprint: str, leader: str) -> None:
        """The problem is told with another one's."""
        self._homes.put(fingerprint, leader)

    def lead(self, group: str, fingerprint: str) -> None:
        """This life is the group's now."""
        self._groups.put(group, fingerprint)

    def disband(self, group: str) -> None:
        """What fails next is another group."""
        self._groups.delete(group)

    def end(self, life: Life, now_ns: int, starts: tuple[int, ...]) -> None:
        """It is over. What was told with it has occurred, too."""
        leader = life.fingerprint
        self._recorder.kept(self.lives.get(leader), life)
        self._recorder.ended(life, now_ns)
        self.lives.delete(leader)
        self._doubt(leader)
        if life.group and self._groups.get(life.group) == leader:
            self._groups.delete(life.group)
        if self._by_asset is not None:
            self._by_asset.get(life.asset, set()).discard((leader, None))
        self._held_by.pop(leader, None)
        self._remember(leader, Past(life.occurrence, now_ns, starts, life.decisions[-3:]))
        for fingerprint in life.folded:
            self._homes.delete(fingerprint)
            before = self.past(fingerprint)
            joined = (*before.starts, *starts[-1:])[-max(1, self._policy.flapping_count) :]
            self._remember(fingerprint, Past(before.occurrences + 1, now_ns, joined))

    def forget_failing(self, life: Life) -> None:
        """Nothing of it fails any more, whatever was said."""
        mine = {life.fingerprint, *life.folded}
        for key in [key for key, _ in self._failing.items() if key[0] in mine]:
            self._failing.delete(key)

    # --- timers ---

    def due(self) -> int | None:
        """The next timer of any life."""
        self._ready()
        timers = self._timers
        while timers and timers[0] is not self._first:
            if self._holds(timers[0]):
                self._first = timers[0]
            else:
                heappop(timers)
        return timers[0][0] if timers else None

    def take_due(self, now_ns: int) -> Life | None:
        """The life that is due next, at or before `now_ns`."""
        while self._timers and self._timers[0][0] <= now_ns:
            entry = heappop(self._timers)
            if self._holds(entry):
                self._taken = entry[1]  # its timer is gone: it may be due at the same time for something else
                return self.lives.get(entry[1])
        return None

    def _doubt(self, fingerprint: str) -> None:
        """The life has changed: its timer may be another one."""
        if self._first is not None and self._first[1] == fingerprint:
            self._first = None

    def _holds(self, entry: tuple[int, str]) -> bool:
        life = self.lives.get(entry[1])
        return life is not None and alert_timers.due(life, self._policy) == entry[0]

    def _ready(self) -> None:
        """The orders, as the tables say it: after a start, an undone call, or when most timers have lapsed."""
        if self._whole and len(self._timers) <= 2 * len(self.lives) + 1000:
            return
        self._taken, due = "", alert_timers.due
        self._timers = [(at, key) for key, life in self.lives.items() if (at := due(life, self._policy)) is not None]
        heapify(self._timers)
        self._by_asset = None
        self._held_by = {}
        for key, life in self.lives.items():
            if life.held_by:
                self._held_by.setdefault(life.held_by, set()).add(key)
        self._whole = True

    def _remember(self, fingerprint: str, past: Past) -> None:
        self._past.put(fingerprint, past)
        excess = len(self._past) - self._max_remembered
        if excess > 0:  # a tenth at once, so that the search is not made each time
            oldest = sorted(self._past.items(), key=lambda item: (item[1].ended_ns, item[0]))
            for key, _ in oldest[: excess + self._max_remembered // 10]:
                self._past.delete(key)


def _parts(alert: Alert) -> list[tuple[str, str]]:
    """What fails and heals by itself: a partition; of a step that makes several assets, a partition of each."""
    return [_part(alert, asset) for asset in alert.assets] if alert.assets else [_part(alert)]


def _part(alert: Alert, asset: str = "") -> tuple[str, str]:
    """Only assets have partitions: a job is well at its next success of any."""
    partition = (alert.partition or "") if alert.asset else ""
    return alert.fingerprint, f"{asset}\0{partition}" if asset else partition


def _second_life(value: object) -> object:
    """Version 1 kept the finding as it was, and not who was told: everybody."""
    if not isinstance(value, dict):
        return value
    finding = msgspec.convert(value.pop("finding"), Alert)
    known = {name: getattr(finding, name) for name in ("fingerprint", "kind", "asset", "severity")}
    return msgspec.msgpack.encode({**value, **known, "raw": msgspec.msgpack.encode(finding), "channels": "*"})


def _as_it_is(value: object) -> object:
    return value
