"""The files of an event log in SQLite: which there are, when they were written last, and the rows in one.

A plain read-only connection to a database with a write-ahead log leaves a `-shm` of 32 KB and an empty `-wal` beside
it when it was the last to close: one pair for every run of a long history. So a file at rest is read as immutable,
which touches nothing, and the rows count only if it is still at rest afterwards. A write cannot hide from that: it
sets the file's time, and the file was last written at least `REST_NS` before, which is more than the file system's
clock is coarse. A file that is being written is read over the writer's own `-wal`; what that leaves behind goes
when the writer closes the next time.
"""

import os
import sqlite3
from pathlib import Path
from typing import Final

import msgspec

from pipeline.dagster_sql import open_immutable, open_sqlite
from receivers.dagster_page import StoredEvent

REST_NS: Final = 100_000_000
INDEX: Final = "index"  # repeats some events of all runs
TOGETHER: Final = "event_log"  # one file for all runs: Dagster's ConsolidatedSqliteEventLogStorage
RUNLESS: Final = ""

_ROWS: Final = "SELECT id, run_id, CAST(event AS BLOB) FROM event_logs WHERE id > ? ORDER BY id LIMIT ?"


class Stamp(msgspec.Struct, frozen=True, gc=False):
    """The state of a file: two equal ones with the same content, unless it was written a moment ago."""

    written_ns: int
    size: int
    wal: int


def stamp_of(file: Path | str) -> Stamp | None:
    """The stamp of a database and its write-ahead log; None when it is not there. An empty log says nothing."""
    try:
        status = os.stat(file)  # noqa: PTH116  # called for every run there ever was
    except FileNotFoundError:
        return None
    try:
        wal = os.stat(f"{file}-wal")  # noqa: PTH116
    except FileNotFoundError:
        return Stamp(status.st_mtime_ns, status.st_size, 0)
    written = max(status.st_mtime_ns, wal.st_mtime_ns) if wal.st_size else status.st_mtime_ns
    return Stamp(written, status.st_size, wal.st_size)


def shards_in(folder: Path) -> dict[str, Stamp]:
    """All shards of an event log with their stamps; none while the folder is not there."""
    if not folder.is_dir():
        return {}
    with os.scandir(folder) as entries:
        files = [entry.name for entry in entries if entry.name.endswith(".db")]
    stamps = {name[:-3]: stamp_of(f"{folder}/{name}") for name in files if name[:-3] != INDEX}
    return {shard: stamp for shard, stamp in stamps.items() if stamp is not None}


class Found(msgspec.Struct, frozen=True):
    """New rows of a shard, and the id that they follow: less than asked for where rows were deleted."""

    rows: list[StoredEvent]
    after: int


def read_shard(file: Path, after: int, rows: int, size: int, now_ns: int, *, insist: bool) -> Found | None:
    """Rows with ids above `after`, at most `rows` of them and (but for the first) `size` bytes.

    None while the file is being written, unless `insist`. Where the last id is below `after`, rows were deleted, and
    SQLite hands their ids out again: what follows the last id counts as new. Raises sqlite3.Error.
    """
    stamp = stamp_of(file)
    if stamp is None:
        return None
    if not stamp.wal and now_ns - stamp.written_ns > REST_NS:
        with open_immutable(file) as database:
            found = _found(database, after, rows, size)
        if stamp_of(file) == stamp:
            return found
    if not (insist or stamp.wal):
        return None
    with open_sqlite(file) as database:
        return _found(database, after, rows, size)


def last_id(file: Path) -> int:
    """The highest id in a shard, 0 in an empty one. Raises sqlite3.Error."""
    with open_sqlite(file) as database:
        return _last(database)


def _last(database: sqlite3.Connection) -> int:
    return int(database.execute("SELECT coalesce(max(id), 0) FROM event_logs").fetchone()[0])


def _found(database: sqlite3.Connection, after: int, rows: int, size: int) -> Found:
    after = min(after, _last(database))
    found: list[StoredEvent] = []
    for id, run_id, event in database.execute(_ROWS, (after, rows)):
        found.append(StoredEvent(id, run_id or "", event))
        size -= len(event)
        if size <= 0:
            break
    return Found(found, after)
