"""Dagster's SQLite files, read without getting in the way of who writes them.

A plain read-only connection takes a lock, which can make a file that Dagster is just making fail (it turns on the
write-ahead log without waiting); and where it is the last to close, it leaves a `-shm` of 32 KB and an empty `-wal`
beside the database: one pair for every run of a long history. So a file at rest is read as immutable, which takes no
lock and leaves nothing, and the answer, or the error, counts only if the file is still at rest afterwards. A write
cannot hide from that: it sets the file's time, which was `REST_NS` ago before, more than a file system's clock is
coarse. A file that is being written is read over the writer's own write-ahead log; what that leaves behind goes with
the next write.
"""

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final, TypeVar

import msgspec

T = TypeVar("T")

REST_NS: Final = 100_000_000
_WAL_MODE: Final = b"\x02\x02"  # bytes 18 and 19: https://sqlite.org/fileformat2.html


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


def ask(file: Path, question: Callable[[sqlite3.Connection], T], now_ns: int, *, insist: bool) -> T | None:
    """What `question` finds in a database; blocking. None: it is not there, or it is being written.

    `insist`: read it while it is being written, too, if it has a write-ahead log, so that nobody is held up.
    Raises sqlite3.Error.
    """
    stamp = stamp_of(file)
    if stamp is None or not stamp.size:
        return None
    if not stamp.wal and now_ns - stamp.written_ns > REST_NS:
        try:
            with _open(file, "mode=ro&immutable=1") as database:
                answer = question(database)
        except sqlite3.DatabaseError:  # "malformed", where it was written meanwhile
            if stamp_of(file) == stamp:
                raise
        else:
            if stamp_of(file) == stamp:
                return answer
    if (insist or stamp.wal) and _has_log(file):
        with _open(file, "mode=ro") as database:
            return question(database)
    return None


def _has_log(file: Path) -> bool:
    with file.open("rb") as content:
        return content.read(20)[18:] == _WAL_MODE


@contextmanager
def _open(file: Path, mode: str) -> Iterator[sqlite3.Connection]:
    uri = f"{file.absolute().as_uri()}?{mode}"
    with closing(sqlite3.connect(uri, uri=True, timeout=2, isolation_level=None)) as database:
        yield database
