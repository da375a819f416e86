"""What becomes of alerts, as records: items of the alerts signal beside notifications, for exporters that keep them.

`dedup` says what it counted and decided, the runtime what became of each notification's calls. Only exporters whose
spec says `records` ever see them (`pipeline.components.ExporterSpec`), and where there is none nobody makes any.

A record is made once, travels as part of a payload (committed with what it tells of, sent until it is acknowledged),
and is named by what it says of itself, so that writing it twice is writing it once. A life (one occurrence of a
problem) is named by `key` and `began_ns`, the domain time of its first failure: `key` alone counts from 1 again once
`dedup` has forgotten the problem. Times are Unix ns; those of `dedup` are domain times.
"""

from collections.abc import Callable, Sequence
from typing import Literal, Protocol, TypeAlias

import msgspec

from pipeline.facts import Parts
from pipeline.signals import Alert, Severity

Outcome = Literal["delivered", "refused", "dead_lettered", "overtaken"]
"""`refused`: the backend said no, for good; `dead_lettered`: given up, or the notifier raised. The payloads of both are
in the dead letters. `overtaken`: never sent, as a newer message said all there was to say."""

Status = Literal["held", "firing", "escalated", "resolved"]
"""How an alert stands; `held`: nobody has been told of it yet."""


class Occurred(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, tag="occurred"):
    """A failure, the `number`-th of its life. `at_ns` is its domain time, `event_ns` the event's own.

    `fingerprint` is its own, which differs from that of `key` where it is told with another problem.
    """

    key: str
    began_ns: int
    number: int
    at_ns: int
    event_ns: int
    fingerprint: str
    severity: Severity
    decision: str = ""
    asset: str = ""
    check: str = ""
    job: str = ""
    step_key: str = ""
    run_id: str = ""
    partition: str | None = None
    error_type: str = ""
    message: str = ""
    file: str = ""
    line: int = 0


class Decided(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, tag="decided"):
    """The `number`-th decision of a life; see `pipeline.signals.Decision`."""

    key: str
    began_ns: int
    number: int
    at_ns: int
    reason: str
    times: int = 1
    detail: str = ""


class Standing(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, tag="standing"):
    """A life as it is at `as_of_ns`; the latest counts. `alert` is what a notification would say now.

    `held` says why nothing is told of it now. `told` are the channels that know of it.
    """

    key: str
    began_ns: int
    as_of_ns: int
    status: Status
    alert: Alert
    held: str = ""
    held_until_ns: int = 0
    told: tuple[str, ...] = ()
    flapping: bool = False
    chronic: bool = False
    ended_ns: int = 0


class Made(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, tag="made"):
    """What a fingerprint is made of. `message` is the text before it was masked."""

    fingerprint: str
    at_ns: int
    parts: Parts
    message: str = ""


class Notified(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, tag="notified"):
    """A notification, by `notification_id`."""

    id: str
    alert: Alert


class Routed(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, tag="routed"):
    """Why a notification went where it went: each channel, and what named it."""

    notification: str
    at_ns: int
    channels: tuple[tuple[str, str], ...]


class Delivered(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, tag="delivered"):
    """What became of a notifier's call for these notifications, at `at_ns` of the wall's clock.

    `answer` is what the backend said of it; of one that was delivered after all, what it had said before.
    """

    notifications: tuple[str, ...]
    notifier: str
    outcome: Outcome
    at_ns: int
    attempts: int = 0
    answer: str = ""


Record: TypeAlias = Occurred | Decided | Standing | Made | Notified | Routed | Delivered
RECORDS: tuple[type, ...] = (Occurred, Decided, Standing, Made, Notified, Routed, Delivered)

_encode = msgspec.msgpack.Encoder().encode
_decode: Callable[[bytes], list[Record]] = msgspec.msgpack.Decoder(list[Record]).decode


def encode_records(records: Sequence[Record]) -> bytes:
    """As the body of a payload."""
    return _encode(records)


def decode_records(data: bytes) -> list[Record]:
    """Back from a payload. Raises msgspec.MsgspecError for what another version wrote and this one cannot read."""
    return _decode(data)


def notification_id(alert: Alert) -> str:
    """Names a notification for good: its life, its number in it, its domain time."""
    return f"{alert.key or alert.fingerprint}/{alert.began_ns}/{alert.number}/{alert.now_ns}"


class Keeper(Protocol):
    """Where records are kept (`pipeline.store.history_writes`). All methods block."""

    def write(self, records: Sequence[Record], at_ns: int) -> None:
        """Keep these, which came at `at_ns` of the wall's clock; those that are there already change nothing.

        Raises RetryableError: locked, full, damaged, of a newer program; in any case nothing of them is kept.
        """
        ...

    def expire(self, before_ns: int) -> int:
        """Forget what was written before then, but what is still open; gives how many rows went."""
        ...

    def close(self) -> None: ...
