"""So many notifications a channel and interval; what is beyond is told in one at its end. In state.

A problem that a channel knows only from such a digest is not resolved by itself there: the digest is, with the last of
them. So a thousand failures are a handful of messages, and their end is one more.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Final

import msgspec

from pipeline.channels import NOBODY
from pipeline.components import State, Table
from pipeline.signals import Alert, AlertState, Member, Severity
from processors.alert_life import RANK
from processors.alert_members import member

MEMBERS: Final = 500
"""Problems that one digest names; further failures are counted, further ends wait for the next."""

_PREFIX: Final = "overflow:"


class Bucket(msgspec.Struct, frozen=True, gc=False):
    """A channel's interval: when it began, and how many have passed in it."""

    began_ns: int
    passed: int


class Crowd(msgspec.Struct, frozen=True, gc=False):
    """What waits for one set of channels: how many, until when; and how many digests they ever had."""

    due_ns: int
    waiting: int
    digests: int = 0


class Waiting(msgspec.Struct, frozen=True, gc=False):
    """The latest notification of one life that did not pass. `known`: it is not the first that these channels get."""

    channels: tuple[str, ...]
    member: Member
    at_ns: int
    first_ns: int
    known: bool


class RateLimit:
    """`most` notifications a channel in each `per_ns`, 0: no limit. One passes if all its channels have room.

    `storm_of` is by the key of a life: the digest by which it was told of. `storms` counts those that are open.
    """

    def __init__(self, state: State, most: int, per_ns: int) -> None:
        self._most, self._per = most, per_ns
        self._buckets: Table[str, Bucket] = state.table("buckets", str, Bucket, version=1)
        self._crowds: Table[str, Crowd] = state.table("crowds", str, Crowd, version=1)
        self._waiting: Table[str, Waiting] = state.table("waiting", str, Waiting, version=1)
        self._storm_of: Table[str, str] = state.table("storm_of", str, str, version=1)
        self._storms: Table[str, int] = state.table("storms", str, int, version=1)

    def take(self, alert: Alert, known: Sequence[str]) -> list[Alert]:
        """The notification if there is room; else it is for nobody, so that records of it are kept.

        `known` are the channels that were told of this life before.
        """
        if not self._most:
            return [alert]
        ended = self._leaves(alert) if alert.state == "resolved" else None
        if ended is not None:
            return [_unheard(alert), *ended]
        waiting = self._waiting.get(alert.key)
        if waiting is not None:
            self._overtake(waiting, alert)
            return [_unheard(alert)]
        full = [channel for channel in alert.channels if not self._has_room(channel, alert.now_ns)]
        if full:
            self._wait(alert, full, bool(known) and alert.key not in self._storm_of)
            return [_unheard(alert)]
        for channel in alert.channels:
            bucket = self._buckets.get(channel) or Bucket(alert.now_ns, 0)
            self._buckets.put(channel, msgspec.structs.replace(bucket, passed=bucket.passed + 1))
        return [alert, *(self._leaves(alert) or ())]

    def due(self) -> int | None:
        """When the next digest is due."""
        return min([crowd.due_ns for _, crowd in self._crowds.items() if crowd.waiting], default=None)

    def on_time(self, now_ns: int) -> list[Alert]:
        """The digests that are due at or before `now_ns`."""
        names = sorted(name for name, crowd in self._crowds.items() if crowd.waiting and crowd.due_ns <= now_ns)
        return [self._digest(name, now_ns) for name in names]

    def finish(self, now_ns: int) -> list[Alert]:
        """All that waits."""
        given = []
        while names := sorted(name for name, crowd in self._crowds.items() if crowd.waiting):
            given += [self._digest(name, now_ns) for name in names]
        return given

    def _has_room(self, channel: str, now_ns: int) -> bool:
        bucket = self._buckets.get(channel)
        if bucket is None or now_ns >= bucket.began_ns + self._per:
            self._buckets.put(channel, Bucket(now_ns, 0))
            return True
        return bucket.passed < self._most

    def _wait(self, alert: Alert, full: list[str], known: bool) -> None:
        name = ",".join(alert.channels)
        crowd = self._crowds.get(name) or Crowd(0, 0)
        ends = [bucket.began_ns + self._per for c in full if (bucket := self._buckets.get(c)) is not None]
        due = crowd.due_ns if crowd.waiting else max(ends)
        self._crowds.put(name, Crowd(due, crowd.waiting + 1, crowd.digests))
        self._waiting.put(
            alert.key,
            Waiting(
                alert.channels, member(alert, alert.key, alert.state, alert.count), alert.now_ns, alert.first_ns, known
            ),
        )

    def _overtake(self, waiting: Waiting, alert: Alert) -> None:
        """The latest word is enough; and none, if it is over and nobody has heard of it."""
        if alert.state != "resolved" or waiting.known:
            self._waiting.put(
                alert.key,
                msgspec.structs.replace(
                    waiting, member=member(alert, alert.key, alert.state, alert.count), at_ns=alert.now_ns
                ),
            )
            return
        name = ",".join(waiting.channels)
        crowd = self._crowds.get(name) or Crowd(alert.now_ns, 1)
        self._waiting.delete(alert.key)
        self._crowds.put(name, msgspec.structs.replace(crowd, waiting=crowd.waiting - 1))

    def _leaves(self, alert: Alert) -> list[Alert] | None:
        """The life has its end, or a word of its own: its storm is over with the last one. None: it is in none."""
        storm = self._storm_of.get(alert.key)
        if storm is None:
            return None
        self._storm_of.delete(alert.key)
        left = (self._storms.get(storm) or 1) - 1
        if left:
            self._storms.put(storm, left)
            return []
        self._storms.delete(storm)
        channels = tuple(storm.removeprefix(_PREFIX).rpartition("#")[0].split(","))
        return [_overflow(storm, channels, "resolved", "recovered", alert.now_ns, alert.first_ns, (), 0)]

    def _digest(self, name: str, now_ns: int) -> Alert:
        """All that fails is told of, and named as far as there is room; all ends that are told of are named."""
        channels = tuple(name.split(","))
        mine = sorted((w.at_ns, key) for key, w in self._waiting.items() if w.channels == channels)
        rows = [(key, waiting) for _, key in mine if (waiting := self._waiting.get(key)) is not None]
        ends = [row for row in rows if row[1].member.state == "resolved"][:MEMBERS]
        fails = [row for row in rows if row[1].member.state != "resolved"]
        crowd = self._crowds.get(name) or Crowd(now_ns, 0)
        storm, fresh = f"{_PREFIX}{name}#{crowd.digests + 1}", 0
        for key, waiting in (*fails, *ends):
            self._waiting.delete(key)
            if not waiting.known and waiting.member.state != "resolved" and key not in self._storm_of:
                self._storm_of.put(key, storm)
                fresh += 1
        if fresh:
            self._storms.put(storm, fresh)
        left = len(rows) - len(fails) - len(ends)
        self._crowds.put(name, Crowd(now_ns + self._per, left, crowd.digests + 1))
        for channel in channels:
            self._buckets.put(channel, Bucket(now_ns, 1))
        members = tuple(waiting.member for _, waiting in (*fails[:MEMBERS], *ends))
        first = min((waiting.first_ns for _, waiting in (*fails, *ends)), default=now_ns)
        state: AlertState = "digest" if fails else "resolved"
        return _overflow(storm, channels, state, "rate_limited", now_ns, first, members, len(fails) + len(ends))


def _unheard(alert: Alert) -> Alert:
    return msgspec.structs.replace(alert, channels=(NOBODY,))


def _overflow(
    storm: str,
    channels: tuple[str, ...],
    state: AlertState,
    reason: str,
    now_ns: int,
    first_ns: int,
    members: tuple[Member, ...],
    count: int,
) -> Alert:
    failing = [one.severity for one in members if one.state != "resolved"]
    severity: Severity = max(failing, key=RANK.__getitem__, default="INFO")
    states = Counter(one.state for one in members)
    return Alert(
        kind="overflow",
        state=state,
        severity=severity,
        fingerprint=storm.rpartition("#")[0],
        now_ns=now_ns,
        first_ns=first_ns,
        last_ns=now_ns,
        title=f"{count} more notifications" if count else "The problems of an overflow",
        summary=", ".join(f"{number} {name}" for name, number in sorted(states.items())),
        count=count or 1,
        key=storm,
        reason=reason,
        channels=channels,
        members=members,
        members_total=count,
    )
