"""What the state store takes and gives: the rows of one commit, and a shard as it was stored."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import msgspec

from pipeline.alert_records import Delivered
from pipeline.batch import WHOLE
from pipeline.components import Payload, Position, Receipt

SCHEMA: Final = 4
"""The version of the schema that this program knows."""

ALERT: Final = "alert"
RETRY: Final = "retry"
REPLAY: Final = "dlq.replay"
"""Kinds of rows in the table `commands`."""

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
    """A payload that waits to be sent. Ids grow in the order of building.

    It goes with its shard: whoever takes the shard on sends it, exactly as it is.
    """

    id: int
    exporter: str
    payload: Payload
    shard: str = WHOLE


class Waiting(msgspec.Struct, frozen=True, gc=False):
    """An outbox row without its bytes."""

    id: int
    exporter: str
    size: int
    shard: str = WHOLE


NO_PAYLOAD: Final = 0
"""The id of an `Ack` that brings a receipt alone."""


class Ack(msgspec.Struct, frozen=True, gc=False):
    """A payload that needs no more sending, and what its exporter wants to be given back.

    `place` tells the receipts of one exporter apart where several processes have it; "" where there is one. `told` is
    for the exporters that keep records: it leaves in the commit that holds the acknowledgement.
    """

    id: int
    exporter: str
    receipt: Receipt | None = None
    shard: str = WHOLE
    place: str = ""
    told: Delivered | None = None


class DeadLetter(msgspec.Struct, frozen=True, gc=False):
    """Input, an item or a payload that could not be used: why, by which component, where it came from, its bytes.

    `kind`, `shard` and `again` are for a replay: what it is ("input", "item", "payload", "part" of a payload; "" for
    what cannot be replayed), where it belongs, and what is needed beside `body`; see `pipeline.runtime.replay`.
    """

    id: int
    at_ns: int
    component: str
    reason: str
    detail: str
    origin: str
    body: bytes
    kind: str = ""
    shard: str = ""
    again: bytes = b""


PlainLetter = tuple[int, int, str, str, str, str, int, bytes, str, str, bytes]
"""A dead letter as the columns of its table: id, time, four texts, size, body, kind, shard, again."""


def plain_letter(letter: DeadLetter) -> PlainLetter:
    """Its texts come from anywhere, and no database takes a NUL or half a surrogate pair."""
    texts = (letter.component, letter.reason, letter.detail, letter.origin, letter.shard)
    component, reason, detail, origin, shard = (
        text.replace("\0", "\ufffd").encode("utf-8", "replace").decode() for text in texts
    )
    size = len(letter.body) + len(letter.again)
    head = (letter.id, letter.at_ns, component, reason, detail, origin)
    return (*head, size, letter.body, letter.kind, shard, letter.again)


class Commit(msgspec.Struct, frozen=True):
    """What one transaction holds. `epochs` are those under which its shards were taken on; `times` the domain times
    that shards have come to (Unix ns), where these are not told by their positions; `replayed` the dead letters whose
    effects are in it, so that they go."""

    epochs: Mapping[str, int] = {}
    positions: Mapping[str, Position] = {}
    times: Mapping[str, int] = {}
    rows: Sequence[StateRow] = ()
    outbox: list[OutboxRow] = []
    acks: Sequence[Ack] = ()
    dead: Sequence[DeadLetter] = ()
    replayed: Sequence[int] = ()


class StoredPosition(Position, frozen=True, omit_defaults=True):
    """A position as it is stored: with the domain time that its shard has come to (Unix ns), 0 where nobody says."""

    time_ns: int = 0


def stored_positions(commit: Commit) -> Iterator[tuple[str, StoredPosition]]:
    """The positions that it moves, by source, each with its time; a time without a position stands at 0."""
    for source in {**commit.positions, **commit.times}:
        at = commit.positions.get(source) or Position(0)
        yield source, StoredPosition(at.next, at.at_ns, at.crc, at.note, commit.times.get(source, 0))


class ShardState(msgspec.Struct, frozen=True):
    """A shard as it was stored: its new epoch, the rows of each (owner, table), the position of the source of this
    name, the payloads that wait to be sent, in the order of building, and the domain time that it had come to (Unix ns,
    0: that of its position)."""

    epoch: int
    rows: Mapping[tuple[str, str], Sequence[StoredRow]]
    position: Position | None = None
    waiting: Sequence[Waiting] = ()
    time_ns: int = 0
