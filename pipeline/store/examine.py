"""Looks at a SQLite file before it is opened for work, and changes nothing.

SQLite takes an empty file for a new database, a `-wal` that it cannot read for none, and removes it when it closes what
it could not use. So what would be lost in silence is found here, on a connection that cannot write.
"""

import sqlite3
import struct
from pathlib import Path
from typing import Final
from urllib.parse import quote

import msgspec

from pipeline.errors import StateError
from pipeline.store.database import damaged, translating

_MAGIC: Final = b"SQLite format 3\0"
_LOG_MAGIC: Final = 0x377F0682


class Witness(msgspec.Struct, frozen=True):
    """What is known of the store that was here: its generation, 0 for none; whether it was closed."""

    generation: int
    closed: bool = True


def examine(path: Path, witness: Witness) -> None:
    """Raises StateError for a file that is no sound database, or not the one that the witness saw, or a later one."""
    if not path.exists():
        if witness.generation or Path(f"{path}-wal").exists():
            raise StateError(damaged(path, "the file is gone, and what stood beside it is still there"))
        return
    if not path.is_file():
        raise StateError(f"the state store {path} is no file: set service.state.path")
    with path.open("rb") as file:
        header = file.read(len(_MAGIC))
    if header != _MAGIC:
        raise StateError(damaged(path, "its header is none of SQLite's" if header else "it is empty"))
    if not witness.closed and not _has_log(path):
        raise StateError(damaged(path, f"it was not closed, and `{path.name}-wal` is gone or cut"))
    with translating(path):
        connection = sqlite3.connect(f"file:{quote(str(path.absolute()))}?mode=ro", uri=True)
        try:
            answer = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
            if answer != "ok":
                raise StateError(damaged(path, str(answer)))
            generation = generation_of(connection)
        finally:
            connection.close()
    if generation < witness.generation:
        what = f"it is of start {generation}, and the last one here was start {witness.generation}"
        raise StateError(damaged(path, what))


def _has_log(path: Path) -> bool:
    """Whether there is a `-wal` with a header that counts and room for a commit: SQLite takes any other for none.

    Source: https://www.sqlite.org/walformat.html, 2.1.
    """
    log = Path(f"{path}-wal")
    if not log.exists():
        return False
    with log.open("rb") as file:
        header = file.read(32)
    magic, _, page_size = struct.unpack(">3I", header[:12]) if len(header) == 32 else (0, 0, 0)
    if magic not in (_LOG_MAGIC, _LOG_MAGIC | 1) or log.stat().st_size < 32 + 24 + page_size:
        return False
    order = ">" if magic & 1 else "<"
    a = b = 0
    for x, y in struct.iter_unpack(f"{order}2I", header[:24]):
        a = (a + x + b) & 0xFFFFFFFF
        b = (b + y + a) & 0xFFFFFFFF
    return bool((a, b) == struct.unpack(">2I", header[24:]))


def generation_of(connection: sqlite3.Connection) -> int:
    """The generation that is stored; 0 for a database without tables."""
    return _number(connection, "generation")


def version_of(connection: sqlite3.Connection) -> int:
    """The version of the schema that is there; 0 for a database without tables."""
    return _number(connection, "schema_version")


def _number(connection: sqlite3.Connection, key: str) -> int:
    if not connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'meta'").fetchone():
        return 0
    found = connection.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
    return int(found[0]) if found else 0
