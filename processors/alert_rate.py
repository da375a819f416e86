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

MEMBERS: Final = 1000
"""Notifications in one digest; more wait for the next."""


class Bucket(msgspec.Struct, frozen=True, gc=False):
    """A channel's interval: when it began, how many have passed in it; and how many digests it ever had."""

    began_ns: int
    passed: int
    digests: int = 0
    waiting: int = 0


class Waiting(msgspec.Struct, frozen=True, gc=False):
    """The latest notification of one life that did not pass. `known`: the channel was told of that life before."""

    member: Member
    at_ns: int
    first_ns: int
    known: bool


class RateLimit:
    """`most` notifications a channel in each `per_ns`; 0: no limit."""

    def __init__(self, state: State, most: int, per_ns: int) -> None:
        self._most, self._per = most, per_ns
        self._buckets: Table[str, Bucket] = state.table("buckets", str, Bucket, version=1)
        self._waiting: Table[tuple[str, str], Waiting] = state.table("waiting", tuple[str, str], Waiting, version=1)
        self._storm_of: Table[tuple[str, str], str] = state.table("storm_of", tuple[str, str], str, version=1)
        self._storms: Table[str, int] = state.table("storms", str, int, version=1)

    def take(self, alert: Alert, known: Sequence[str]) -> list[Alert]:
        """The notification for those channels that have room. For none it is for nobody: records of it are kept.

        `known` are the channels that were told of this life before.
        """
        if not self._most:
            return [alert]
        given: list[Alert] = []
        passed = [channel for channel in alert.channels if self._passes(channel, alert, channel in known, given)]
        whole = tuple(passed) == alert.channels
        return [alert if whole else msgspec.structs.replace(alert, channels=tuple(passed) or (NOBODY,)), *given]

    def due(self) -> int | None:
        """When the next digest is due."""
        return min((b.began_ns + self._per for _, b in self._buckets.items() if b.waiting), default=None)

    def on_time(self, now_ns: int) -> list[Alert]:
        """The digests that are due at or before `now_ns`."""
        channels = sorted(c for c, b in self._buckets.items() if b.waiting and b.began_ns + self._per <= now_ns)
        return [self._digest(channel, now_ns) for channel in channels]

    def finish(self, now_ns: int) -> list[Alert]:
        """All that waits."""
        given = []
        while channels := sorted(channel for channel, bucket in self._buckets.items() if bucket.waiting):
            given += [self._digest(channel, now_ns) for channel in channels]
        return given

    def _passes(self, channel: str, alert: Alert, known: bool, given: list[Alert]) -> bool:
        place, now = (channel, alert.key), alert.now_ns
        if alert.state == "resolved" and self._leaves(place, alert, given):
            return False
        bucket = self._buckets.get(channel) or Bucket(now, 0)
        waiting = self._waiting.get(place)
        if waiting is not None:  # overtaken: the latest word is enough, and none if nobody has heard of it
            if alert.state == "resolved" and not waiting.known:
                self._waiting.delete(place)
                self._buckets.put(channel, msgspec.structs.replace(bucket, waiting=bucket.waiting - 1))
            else:
                self._waiting.put(place, msgspec.structs.replace(waiting, member=_member(alert), at_ns=now))
            return False
        if now >= bucket.began_ns + self._per and not bucket.waiting:
            bucket = msgspec.structs.replace(bucket, began_ns=now, passed=0)
        if bucket.passed < self._most:
            self._buckets.put(channel, msgspec.structs.replace(bucket, passed=bucket.passed + 1))
            self._leaves(place, alert, given)
            return True
        self._waiting.put(place, Waiting(_member(alert), now, alert.first_ns, known and place not in self._storm_of))
        self._buckets.put(channel, msgspec.structs.replace(bucket, waiting=bucket.waiting + 1))
        return False

    def _leaves(self, place: tuple[str, str], alert: Alert, given: list[Alert]) -> bool:
        """The life has a word of its own, or its end: its storm is over with the last one. False: it is in none."""
        storm = self._storm_of.get(place)
        if storm is None:
            return False
        self._storm_of.delete(place)
        left = (self._storms.get(storm) or 1) - 1
        if left:
            self._storms.put(storm, left)
            return True
        self._storms.delete(storm)
        given.append(_overflow(storm, place[0], "resolved", "recovered", alert.now_ns, alert.first_ns, (), 0))
        return True

    def _digest(self, channel: str, now_ns: int) -> Alert:
        rows = [(w.at_ns, key, w) for (name, key), w in self._waiting.items() if name == channel]
        taken = sorted(rows, key=lambda row: row[:2])[:MEMBERS]
        bucket = self._buckets.get(channel) or Bucket(now_ns, 0)
        storm = f"overflow:{channel}#{bucket.digests + 1}"
        fresh = 0
        for _, key, waiting in taken:
            self._waiting.delete((channel, key))
            if not waiting.known and waiting.member.state != "resolved" and (channel, key) not in self._storm_of:
                self._storm_of.put((channel, key), storm)
                fresh += 1
        if fresh:
            self._storms.put(storm, fresh)
        self._buckets.put(channel, Bucket(now_ns, 1, bucket.digests + 1, len(rows) - len(taken)))
        members = tuple(waiting.member for _, _, waiting in taken)
        first = min((waiting.first_ns for _, _, waiting in taken), default=now_ns)
        state: AlertState = "digest" if fresh or any(m.state != "resolved" for m in members) else "resolved"
        return _overflow(storm, channel, state, "rate_limited", now_ns, first, members, len(taken))


def _overflow(
    storm: str,
    channel: str,
    state: AlertState,
    reason: str,
    now_ns: int,
    first_ns: int,
    members: tuple[Member, ...],
    count: int,
) -> Alert:
    failing = [member.severity for member in members if member.state != "resolved"]
    severity: Severity = max(failing, key=RANK.__getitem__, default="INFO")
    states = Counter(member.state for member in members)
    return Alert(
        kind="overflow",
        state=state,
        severity=severity,
        fingerprint=f"overflow:{channel}",
        now_ns=now_ns,
        first_ns=first_ns,
        last_ns=now_ns,
        title=f"{count} more notifications" if count else "The problems of an overflow",
        summary=", ".join(f"{number} {name}" for name, number in sorted(states.items())),
        count=count or 1,
        key=storm,
        reason=reason,
        channels=(channel,),
        members=members,
        members_total=count,
    )


def _member(alert: Alert) -> Member:
    error = alert.error
    lines = ((error.message if error else "") or alert.summary).strip().splitlines()
    return Member(
        key=alert.key,
        state=alert.state,
        kind=alert.kind,
        severity=alert.severity,
        title=alert.title,
        asset=alert.asset,
        check=alert.check,
        job=alert.job,
        step_key=alert.step_key,
        partition=alert.partition,
        message=lines[0][:200] if lines else "",
        count=alert.count,
    )
