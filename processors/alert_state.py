"""What is known of one open problem, and the policy by which it is told. Values; `processors.alert_life` and
`alert_timers` move them.
"""

from collections.abc import Callable

import msgspec

from pipeline.signals import Alert, Decision, Member, Severity


class Policy(msgspec.Struct, frozen=True):
    """When to say what, in ns; 0 switches an escalation, the repeats, their end or the watch for flapping off."""

    window_ns: int
    escalate_after_ns: int
    escalate_after_count: int
    repeat_every_ns: int
    escalate_to: tuple[str, ...] = ()
    flapping_count: int = 0
    flapping_ns: int = 0
    chronic_ns: int = 0


class Life(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One occurrence of a problem. Its `finding` is the latest failure, of the highest severity that it ever had.

    Of a group it is the one that failed first; `folded` are the fingerprints of the others. The finding is kept
    encoded: it is asked for when something is said, and a hundred thousand are to fit in 200 MB (1.9 → 1.3 KB each).
    """

    raw: bytes
    fingerprint: str
    kind: str
    asset: str
    severity: Severity
    occurrence: int
    began_ns: int  # domain time of the first failure
    latest_ns: int  # domain time of the latest
    first_ns: int  # the events' own times
    last_ns: int
    total: int = 1
    at_start: int = 1  # failures at `began_ns` itself
    persists_ns: int = 0  # domain time of the first failure after `began_ns`; 0: there was none
    window_ends_ns: int = 0  # 0: no window is open
    since: int = 0  # failures that were counted since the last notification
    escalated_ns: int = 0
    told_ns: int = 0  # when it was escalated or repeated last
    failing: int = 1  # partitions that fail now; 0 only while it flaps
    partitions: tuple[str, ...] = ()  # the latest SHOWN of them
    planned: int = 0  # partitions that their backfill is to make
    starts: tuple[int, ...] = ()  # domain times at which the latest occurrences began, this one the last
    flaps_ns: int = 0  # while it flaps: when it last failed after being well, or the other way round
    changed_ns: int = 0  # when what fails changed last
    held: str = ""  # why nothing is told of it now
    held_until_ns: int = 0  # 0: until somebody releases it
    held_by: str = ""  # the fingerprint of the problem that it is a part of
    channels: str = ""  # those that know of it, with commas between: one text for many lives, and short in state
    owed: tuple[str, ...] = ()  # channels that were muted when it was told
    owed_ns: int = 0  # when they are to be told
    acknowledged_by: str = ""
    late: bool = False
    chronic: bool = False
    group: str = ""  # the key that its group shares
    members: tuple[Member, ...] = ()  # problems that are told with it, at most SHOWN
    members_total: int = 0
    folded: tuple[str, ...] = ()
    decisions: tuple[Decision, ...] = ()
    decided: int = 0  # decisions that were ever made of it; equal ones in a row are one
    notified: int = 0  # notifications of it

    @property
    def finding(self) -> Alert:
        """What failed."""
        return msgspec.structs.replace(decode(self.raw), severity=self.severity)

    @property
    def told(self) -> tuple[str, ...]:
        """The channels that know of it."""
        return tuple(self.channels.split(",")) if self.channels else ()

    @property
    def key(self) -> str:
        """What its notifications are called."""
        return f"{self.fingerprint}#{self.occurrence}"


encode = msgspec.msgpack.Encoder().encode
decode: Callable[[bytes], Alert] = msgspec.msgpack.Decoder(Alert).decode
