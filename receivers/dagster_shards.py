"""The files of an event log in SQLite: which there are, and the rows in one."""

import os
import sqlite3
from pathlib import Path
from typing import Final

import msgspec

from pipeline.dagster_files import Stamp, ask, stamp_of
from receivers.dagster_page import StoredEvent

INDEX: Final = "index"  # repeats some events of all runs
TOGETHER: Final = "event_log"  # one file for all runs: Dagster's ConsolidatedSqliteEventLogStorage
RUNLESS: Final = ""

_ROWS: Final = "SELECT id, run_id, CAST(event AS BLOB) FROM event_logs WHERE id > ? ORDER BY id LIMIT ?"


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
    return ask(file, lambda database: _found(database, after, rows, size), now_ns, insist=insist)


def last_id(file: Path, now_ns: int) -> int:
    """The highest id in a shard, 0 in an empty one or one that is being made. Raises sqlite3.Error."""
    return ask(file, _last, now_ns, insist=True) or 0


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
