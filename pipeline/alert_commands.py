"""What people and programs ask of alerts: items of the alerts signal, beside findings. `dedup` obeys them.

A command reaches the alerts stage as an item in order of domain time: `now_ns` is when it takes effect, and it is
applied exactly once, because whoever feeds it commits its own position with the state that came of it. Whatever else
stands in an alerts pipeline passes commands on. What a command names that is not there (any more) changes nothing.

`id` names a command; two of the same id are one, so a link that is followed twice silences once.
"""

from collections.abc import Callable
from typing import TypeAlias

import msgspec


class Silence(msgspec.Struct, frozen=True, gc=False, tag="silence"):
    """Say nothing of what matches until `until_ns`: it is counted, and what then still fails is told.

    `when` is a condition over an alert (`pipeline.expressions`): `asset == "raw/orders"`, `fingerprint == "v1:…"`.
    """

    id: str
    now_ns: int
    when: str
    until_ns: int
    by: str = ""
    why: str = ""


class Expire(msgspec.Struct, frozen=True, gc=False, tag="expire"):
    """End the silence `silence` now."""

    id: str
    now_ns: int
    silence: str
    by: str = ""


class Acknowledge(msgspec.Struct, frozen=True, gc=False, tag="acknowledge"):
    """Somebody is at it: no escalation and no repeats; its digests and its end are told.

    `alert` is a notification's key (`v1:…#2`) or its fingerprint.
    """

    id: str
    now_ns: int
    alert: str
    by: str = ""
    why: str = ""


class Resolve(msgspec.Struct, frozen=True, gc=False, tag="resolve"):
    """It is well, whatever the events say: told as resolved; its next failure is another occurrence."""

    id: str
    now_ns: int
    alert: str
    by: str = ""
    why: str = ""


Command: TypeAlias = Silence | Expire | Acknowledge | Resolve

COMMANDS: tuple[type, ...] = (Silence, Expire, Acknowledge, Resolve)


_decode: Callable[[bytes], Command] = msgspec.json.Decoder(Command).decode


def encode_command(command: Command) -> bytes:
    """As JSON, for a table of commands."""
    return msgspec.json.encode(command)


def decode_command(data: bytes) -> Command:
    """Back from JSON. Raises msgspec.MsgspecError for what is none."""
    return _decode(data)
