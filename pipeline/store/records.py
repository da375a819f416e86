"""What the state store takes and gives: the rows of one commit, and a shard as it was stored."""

from collections.abc import Mapping, Sequence

import msgspec

from pipeline.components import Payload, Position, Receipt

StoredRow = tuple[bytes, int, bytes]
"""Key, version and value of a state row, encoded."""


class StateRow(msgspec.Struct, frozen=True, gc=False):
    """A changed row of one component's table in one shard; `value` None deletes it."""

    shard: str
    owner: str
    name: str
    key: bytes
    version: int
    value: bytes | None


class OutboxRow(msgspec.Struct, frozen=True, gc=False):
    """A payload that waits to be sent. Ids grow in the order of building."""

    id: int
    exporter: str
    payload: Payload


class Waiting(msgspec.Struct, frozen=True, gc=False):
    """An outbox row without its bytes."""

    id: int
    exporter: str
    size: int


class Ack(msgspec.Struct, frozen=True, gc=False):
    """A payload that needs no more sending, and what its exporter wants to be given back."""

    id: int
    exporter: str
    receipt: Receipt | None = None


class DeadLetter(msgspec.Struct, frozen=True, gc=False):
    """Input, an item or a payload that could not be used: why, by which component, where it came from, its bytes."""

    id: int
    at_ns: int
    component: str
    reason: str
    detail: str
    origin: str
    body: bytes


class Commit(msgspec.Struct, frozen=True):
    """What one transaction holds. `epochs` are those under which its shards were taken on."""

    epochs: Mapping[str, int] = {}
    positions: Mapping[str, Position] = {}
    rows: Sequence[StateRow] = ()
    outbox: Sequence[OutboxRow] = ()
    acks: Sequence[Ack] = ()
    dead: Sequence[DeadLetter] = ()


class ShardState(msgspec.Struct, frozen=True):
    """A shard as it was stored: its new epoch, and the rows of each (owner, table)."""

    epoch: int
    rows: Mapping[tuple[str, str], Sequence[StoredRow]]
