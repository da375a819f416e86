"""Commits to SQLite in as few steps as can be.

Python lets go of its lock for every step of a statement and, beside a busy loop, gets it back only after 5 ms: 6,500
rows written one by one took 0.04 s alone and 11 s beside it. So a statement takes hundreds of rows, and a commit is
few statements. Their texts come in powers of two (what is missing is filled up with zeros that match nothing), so that
the driver keeps all of them prepared. The driver looks for an adapter of each value that is no int, float, str or
bytearray and finds none, which takes 0.3 µs: so keys and values are bytearrays, and zeros fill up.
"""

import sqlite3
from collections.abc import Collection, Sequence
from functools import cache
from typing import Final, TypeAlias

import msgspec

from pipeline.store.records import Commit, plain_letter, stored_positions
from pipeline.store.transaction import Value, marks

MOST_ROWS: Final = 512
"""Of one statement, a power of two. Preparing one takes a time that grows with the square of its rows, and what it may
have to take back, a copy of each page that it changes, is in memory."""

PAYLOADS: Final = 1 << 20
"""Bytes of payloads that one statement takes, or little more."""

_Table: TypeAlias = tuple[str, str, str]
"""Shard, owner and name."""

_NOTHING: Final = 0
"""No id, text or key that is stored."""

_encode = msgspec.msgpack.Encoder().encode


class _Rows:
    """A statement on many rows at once; `{rows}` in its text stands for `(?,?),(?,?)…`."""

    def __init__(self, text: str, width: int) -> None:
        self._text, self._width = text, width
        self.most = MOST_ROWS * width
        """Values of one statement."""
        self.sized = cache(self._of_size)

    def run(self, connection: sqlite3.Connection, values: list[Value], before: Sequence[Value] = ()) -> None:
        """Run it on rows laid one behind another, `before` them what stands before `{rows}`. The list is used up."""
        for start in range(0, len(values), self.most):
            part = values[start : start + self.most] if len(values) > self.most else values
            count = len(part) // self._width
            size = 1 << (count - 1).bit_length()
            part.extend([_NOTHING] * ((size - count) * self._width))
            connection.execute(self.sized(size), [*before, *part] if before else part)

    def _of_size(self, size: int) -> str:
        one = f"({','.join('?' * self._width)})"
        return self._text.replace("{rows}", ",".join([one] * size))


def _insert(table: str, columns: Sequence[str], conflict: str) -> _Rows:
    """A statement that fails leaves what it has done: the transaction is rolled back as a whole, and SQLite need not
    keep a copy of each page that it changes."""
    names = ", ".join(f'"{name}"' for name in columns)
    numbered = ", ".join(f"column{n}" for n in range(1, len(columns) + 1))
    rows = f"SELECT {numbered} FROM (VALUES {{rows}}) WHERE column1 <> {_NOTHING}"  # noqa: S608  # our own names
    return _Rows(f"INSERT OR FAIL INTO {table} ({names}) {rows} {conflict}", len(columns))


_POSITIONS = _insert("positions", ("source", "data"), "ON CONFLICT (source) DO UPDATE SET data = excluded.data")
_KEPT = _insert(
    "state_rows",
    ("state_table", "key", "version", "value"),
    'ON CONFLICT (state_table, "key") DO UPDATE SET version = excluded.version, value = excluded.value',
)
GONE = _Rows('DELETE FROM state_rows WHERE state_table = ? AND "key" IN (VALUES {rows})', 1)
"""Of one table at a time: several columns `IN (VALUES …)` are not looked up but searched for, in all of the state."""
_OUTBOX = _insert("outbox", ("id", "exporter", "size", "data", "shard", "epoch"), "ON CONFLICT (id) DO NOTHING")
_ACKS = _Rows("DELETE FROM outbox WHERE id IN (VALUES {rows})", 1)
_RECEIPTS = _insert(
    "receipts", ("exporter", "place", "data"), "ON CONFLICT (exporter, place) DO UPDATE SET data = excluded.data"
)
_DEAD = _insert(
    "dead_letters",
    ("id", "at_ns", "component", "reason", "detail", "origin", "size", "body", "kind", "shard", "again"),
    "ON CONFLICT (id) DO NOTHING",
)
_REPLAYED = _Rows("DELETE FROM dead_letters WHERE id IN (VALUES {rows})", 1)
_WISHES = _Rows("DELETE FROM commands WHERE kind = 'dlq.replay' AND target IN (VALUES {rows})", 1)


def write(connection: sqlite3.Connection, commit: Commit) -> str | None:
    """Write all of it or nothing, in a transaction of its own (the connection is in autocommit mode).

    Gives the name of a shard that has another owner by now; then nothing is written.
    """
    if _is_one_delete(commit):
        _write_acks(connection, commit)
        return None
    connection.execute("BEGIN IMMEDIATE")
    try:
        taken = _taken_over(connection, commit)
        if taken is None:
            _write_all(connection, commit)
        connection.execute("ROLLBACK" if taken is not None else "COMMIT")
    except BaseException:
        if connection.in_transaction:  # a full disk ends the transaction by itself
            connection.execute("ROLLBACK")
        raise
    return taken


def _is_one_delete(commit: Commit) -> bool:
    """An acknowledgement or some, and nothing else: one statement is a transaction by itself."""
    moved = commit.epochs or commit.positions or commit.times
    others = moved or commit.rows or commit.outbox or commit.dead or commit.replayed
    return not others and all(ack.receipt is None for ack in commit.acks)


def _taken_over(connection: sqlite3.Connection, commit: Commit) -> str | None:
    if not commit.epochs:
        return None
    marks = ",".join("?" * len(commit.epochs))
    found = dict(connection.execute(f"SELECT shard, epoch FROM shards WHERE shard IN ({marks})", list(commit.epochs)))  # noqa: S608  # marks alone
    return next((shard for shard, epoch in commit.epochs.items() if found.get(shard) != epoch), None)


def _write_all(connection: sqlite3.Connection, commit: Commit) -> None:
    if commit.positions or commit.times:
        _POSITIONS.run(
            connection, [v for source, position in stored_positions(commit) for v in (source, _encode(position))]
        )
    if commit.rows:
        _write_rows(connection, commit)
    if commit.outbox:
        _write_outbox(connection, commit)
    if commit.acks:
        _write_acks(connection, commit)
    if commit.dead:
        _DEAD.run(
            connection,
            [v for d in commit.dead for v in plain_letter(d)],
        )
    if commit.replayed:
        _REPLAYED.run(connection, list(commit.replayed))
        _WISHES.run(connection, list(commit.replayed))


def _write_outbox(connection: sqlite3.Connection, commit: Commit) -> None:
    """A payload's bytes are copied on their way into the file: of as many at once as PAYLOADS have."""
    values: list[Value] = []
    size = 0
    for row in commit.outbox:
        data = _encode(row.payload)
        values += (row.id, row.exporter, len(row.payload.body), data, row.shard, commit.epochs.get(row.shard, 0))
        size += len(data)
        if size >= PAYLOADS:
            _OUTBOX.run(connection, values)
            values, size = [], 0
    if values:
        _OUTBOX.run(connection, values)


def _write_rows(connection: sqlite3.Connection, commit: Commit) -> None:
    """As many at once as a statement takes: see `StateRows`."""
    kept: list[Value] = []
    gone: dict[int, list[Value]] = {}
    shards = set(commit.epochs)
    numbers = _numbers(connection, shards)
    for row in commit.rows:
        if row.shard not in shards:
            shards.add(row.shard)
            numbers |= _numbers(connection, {row.shard})
        table = row.shard, row.owner, row.name
        number = numbers.get(table)
        if number is None:
            number = numbers[table] = _new_number(connection, table)
        if row.value is not None:
            kept += (number, bytearray(row.key), row.version, bytearray(row.value))
            if len(kept) >= _KEPT.most:
                _KEPT.run(connection, kept)
                kept = []
            continue
        keys = gone.setdefault(number, [])
        keys.append(bytearray(row.key))
        if len(keys) >= GONE.most:
            GONE.run(connection, gone.pop(number), (number,))
    if kept:
        _KEPT.run(connection, kept)
    for number, keys in gone.items():
        GONE.run(connection, keys, (number,))


def _numbers(connection: sqlite3.Connection, shards: Collection[str]) -> dict[_Table, int]:
    """By what the rows of these shards name their tables."""
    chosen = f"SELECT shard, owner, name, id FROM state_tables WHERE shard IN ({marks(shards)})"  # noqa: S608  # marks
    return {(shard, owner, name): id for shard, owner, name, id in connection.execute(chosen, list(shards))}


def _new_number(connection: sqlite3.Connection, table: _Table) -> int:
    added = "INSERT INTO state_tables (shard, owner, name) VALUES (?, ?, ?) RETURNING id"
    return int(connection.execute(added, table).fetchall()[0][0])


def _write_acks(connection: sqlite3.Connection, commit: Commit) -> None:
    if commit.acks:
        _ACKS.run(connection, [ack.id for ack in commit.acks])
    receipts = {(ack.exporter, ack.place): ack.receipt for ack in commit.acks if ack.receipt is not None}
    if receipts:
        _RECEIPTS.run(connection, [v for place, receipt in receipts.items() for v in (*place, receipt)])
