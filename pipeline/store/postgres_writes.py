"""Commits to PostgreSQL: one statement a table, each row's columns as arrays, so that a commit is a few round trips."""

from collections.abc import Sequence

import msgspec
from sqlalchemy import Connection

from pipeline.store.records import Commit, StateRow, plain_letter, stored_positions

_encode = msgspec.msgpack.Encoder().encode

_EPOCHS = "SELECT shard, epoch FROM shards WHERE shard = ANY(%b::text[]) ORDER BY shard FOR SHARE"
_POSITIONS = (
    "INSERT INTO positions (source, data) SELECT * FROM unnest(%b::text[], %b::bytea[]) "
    "ON CONFLICT (source) DO UPDATE SET data = excluded.data"
)
_KEPT = (
    'INSERT INTO rows (shard, owner, name, "key", version, value) '
    "SELECT * FROM unnest(%b::text[], %b::text[], %b::text[], %b::bytea[], %b::int[], %b::bytea[]) "
    'ON CONFLICT (shard, owner, name, "key") DO UPDATE SET version = excluded.version, value = excluded.value'
)
_GONE = (
    "DELETE FROM rows USING unnest(%b::text[], %b::text[], %b::text[], %b::bytea[]) AS gone (shard, owner, name, key) "
    "WHERE rows.shard = gone.shard AND rows.owner = gone.owner AND rows.name = gone.name AND rows.key = gone.key"
)
_OUTBOX = (
    "INSERT INTO outbox (id, exporter, size, data, shard, epoch) "
    "SELECT * FROM unnest(%b::bigint[], %b::text[], %b::bigint[], %b::bytea[], %b::text[], %b::bigint[]) "
    "ON CONFLICT (id) DO NOTHING"
)
_ACKS = "DELETE FROM outbox WHERE id = ANY(%b::bigint[])"
_RECEIPTS = (
    "INSERT INTO receipts (exporter, place, data) SELECT * FROM unnest(%b::text[], %b::text[], %b::bytea[]) "
    "ON CONFLICT (exporter, place) DO UPDATE SET data = excluded.data"
)
_DEAD = (
    "INSERT INTO dead_letters (id, at_ns, component, reason, detail, origin, size, body, kind, shard, again) "
    "SELECT * FROM unnest(%b::bigint[], %b::bigint[], %b::text[], %b::text[], %b::text[], %b::text[], %b::bigint[], "
    "%b::bytea[], %b::text[], %b::text[], %b::bytea[]) "
    "ON CONFLICT (id) DO NOTHING"
)
_REPLAYED = "DELETE FROM dead_letters WHERE id = ANY(%b::bigint[])"
_WISHES = "DELETE FROM commands WHERE kind = 'dlq.replay' AND target = ANY(%b::bigint[])"
# What a commit inserts may be there: the connection was lost after the server had committed, and it is tried again.


def write(connection: Connection, commit: Commit) -> str | None:
    """Write all of it, in the transaction that has begun. Gives the name of a shard that has another owner by now."""
    if commit.epochs:
        found = {row.shard: row.epoch for row in connection.exec_driver_sql(_EPOCHS, (list(commit.epochs),))}
        for shard, epoch in commit.epochs.items():
            if found.get(shard) != epoch:
                return shard
    _run(connection, _POSITIONS, [(source, _encode(position)) for source, position in stored_positions(commit)])
    rows = list(commit.rows)  # each time they are asked for they are made anew
    _run(connection, _KEPT, [(r.shard, r.owner, r.name, r.key, r.version, r.value) for r in rows if _is_kept(r)])
    _run(connection, _GONE, [(r.shard, r.owner, r.name, r.key) for r in rows if not _is_kept(r)])
    outbox = [
        (r.id, r.exporter, len(r.payload.body), _encode(r.payload), r.shard, commit.epochs.get(r.shard, 0))
        for r in commit.outbox
    ]
    _run(connection, _OUTBOX, outbox)
    _run(connection, _ACKS, [(ack.id,) for ack in commit.acks])
    receipts = {(ack.exporter, ack.place): ack.receipt for ack in commit.acks if ack.receipt is not None}
    _run(connection, _RECEIPTS, [(*place, receipt) for place, receipt in receipts.items()])
    _run(connection, _DEAD, [plain_letter(letter) for letter in commit.dead])
    _run(connection, _REPLAYED, [(id,) for id in commit.replayed])
    _run(connection, _WISHES, [(id,) for id in commit.replayed])
    return None


def _is_kept(row: StateRow) -> bool:
    return row.value is not None


def _run(connection: Connection, statement: str, rows: Sequence[tuple[object, ...]]) -> None:
    if rows:
        connection.exec_driver_sql(statement, tuple(list(column) for column in zip(*rows, strict=True)))
