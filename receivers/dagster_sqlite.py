"""The event log in SQLite, followed shard by shard: one file a run, cursors as `receivers.dagster_cursors` keeps them.

A read goes over the shards that have a cursor and were written, oldest write first, then begins runs that were never
read, in the order in which Dagster made them. Whether a file was written is told by its stamp; because stamps are
coarse, a shard is asked again for `HOT_NS` after it was written. All files are looked at, for shards that woke up, only
as often as that takes a thirtieth of the time: with 100,000 runs a look takes a third of a second.
"""

import logging
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, TypeAlias, cast

import anyio.to_thread
import msgspec

from pipeline.clock import SECOND, Clock
from pipeline.components import Position
from pipeline.dagster_files import Stamp, ask, stamp_of
from pipeline.dagster_home import SqliteStorage
from pipeline.errors import RetryableError
from receivers.dagster_cursors import QUIET, Cursor, Cursors, decode_note, encode_note
from receivers.dagster_page import Limits, Page, StoredEvent
from receivers.dagster_shards import RUNLESS, TOGETHER, Found, last_id, read_shard, shards_in

Log: TypeAlias = logging.LoggerAdapter[logging.Logger]

HOT_NS: Final = 2 * SECOND
_LOOK_SHARE: Final = 30
_PATIENCE_S: Final = 0.5  # a shard that never rests is read while it is written
_UNREADABLE_S: Final = 2.0
_FILE_WAIT_S: Final = 60.0
_KEPT: Final = (RUNLESS, TOGETHER)  # not of one run: always awake
_RUNS_AT_ONCE: Final = 200

_NEXT_RUNS: Final = "SELECT id, run_id FROM runs WHERE id > ? ORDER BY id LIMIT ?"
_NUMBERS: Final = "SELECT run_id, id FROM runs WHERE run_id IN (SELECT value FROM json_each(?))"
_LAST_RUN: Final = "SELECT coalesce(max(id), 0) FROM runs"


class _Watch:
    """What is known of a shard in memory only: its stamp when it was read to its end, and since when it cannot be."""

    __slots__ = ("read", "unread_since")

    def __init__(self) -> None:
        self.read: Stamp | None = None
        self.unread_since: float | None = None

    def unread_for(self, now: float) -> float:
        """Seconds for which it could not be read."""
        if self.unread_since is None:
            self.unread_since = now
        return now - self.unread_since


class _Room:
    """The rows of one page, and what still fits."""

    __slots__ = ("bytes", "rows", "taken")

    def __init__(self, limits: Limits) -> None:
        self.rows, self.bytes = limits.rows, limits.bytes
        self.taken: list[StoredEvent] = []

    def full(self) -> bool:
        return self.rows <= 0 or self.bytes <= 0

    def add(self, rows: list[StoredEvent], skip_until_ns: int) -> None:
        self.taken += [msgspec.structs.replace(r, skip_until_ns=skip_until_ns) for r in rows] if skip_until_ns else rows
        self.rows -= len(rows)
        self.bytes -= sum(len(row.raw) for row in rows)


class SqliteTail:
    """Follows the shards of one event log. Blocking work runs in a thread; calls never overlap."""

    def __init__(self, storage: SqliteStorage, limits: Limits, clock: Clock, log: Log, cursors: Cursors) -> None:
        self._storage, self._limits, self._cursors = storage, limits, cursors
        self._clock, self._log = clock, log
        self._watched: dict[str, _Watch] = {}
        self._next_look = float("-inf")
        self._goal: int | None = None  # the last run there was at the start
        self._left: set[str] = set()  # shards of the start that are not read to their end

    async def read(self) -> Page:
        return await anyio.to_thread.run_sync(self._read)

    def ended(self) -> bool:
        return self._goal is not None and self._cursors.begun >= self._goal and not self._left

    def position(self, at_ns: int) -> Position:
        return Position(self._cursors.read, at_ns, 0, encode_note(self._cursors))

    # --- one read, in a thread ---

    def _read(self) -> Page:
        began_ns, now = self._clock.wall_ns(), self._clock.monotonic()
        looked = now >= self._next_look
        if looked:
            self._look()
            self._next_look = now + _LOOK_SHARE * (self._clock.monotonic() - now)
        room = _Room(self._limits)
        behind = self._take_all(room, self._written(began_ns)) or self._begin_runs(room)
        self._cursors.read += len(room.taken)
        if looked:
            for shard in self._cursors.settle(began_ns, self._finished()):
                self._watched.pop(shard, None)
        return Page(room.taken, behind, moved=bool(room.taken))

    def _look(self) -> None:
        """Wake shards without a cursor that were written; on the very first look, those of no known run."""
        cursors = self._cursors
        unknown = [
            shard
            for shard, stamp in shards_in(self._storage.events).items()
            if shard not in cursors.shards and cursors.woken(stamp.written_ns)
        ]
        numbers = self._numbers(unknown) if unknown else {}
        for shard in unknown:
            if numbers.get(shard, 0) <= cursors.begun:
                cursors.wake(shard)
        if self._goal is None:
            self._goal = self._last_run()
            self._left = set(cursors.shards)

    def _written(self, now_ns: int) -> Iterator[str]:
        """Shards with a cursor that may have something new, oldest write first."""
        waiting: list[tuple[int, str]] = []
        for shard in self._cursors.shards:
            stamp = stamp_of(self._file(shard))
            if stamp is None:
                self._left.discard(shard)
            elif stamp != self._watch(shard).read or now_ns - stamp.written_ns < HOT_NS:
                waiting.append((stamp.written_ns, shard))
        return (shard for _, shard in sorted(waiting))

    def _take_all(self, room: _Room, shards: Iterator[str]) -> bool:
        """Add the new rows of these shards; whether the page was full before all were read."""
        return any(not self._take(room, shard) for shard in shards)

    def _take(self, room: _Room, shard: str) -> bool:
        """Add the new rows of one shard; False if it may have more than there was room for."""
        if room.full():
            return False
        watch, cursor = self._watch(shard), self._cursors.shards[shard]
        stamp = stamp_of(self._file(shard))
        found = self._found(shard, cursor, watch, room)
        if found is None:
            return True  # it is asked again with the next read
        room.add(found.rows, cursor.skip_until_ns)
        last = found.rows[-1].id if found.rows else found.after
        self._cursors.shards[shard] = Cursor(last, cursor.skip_until_ns)
        if room.full():
            return False
        watch.read = stamp
        self._left.discard(shard)
        return True

    def _found(self, shard: str, cursor: Cursor, watch: _Watch, room: _Room) -> Found | None:
        """What is new in a shard; None if it cannot be read right now."""
        now, now_ns, file = self._clock.monotonic(), self._clock.wall_ns(), self._file(shard)
        insist = watch.unread_since is not None and watch.unread_for(now) >= _PATIENCE_S
        error = ""
        try:
            found = read_shard(file, cursor.id, room.rows, room.bytes, now_ns, insist=insist)
        except sqlite3.Error as failure:  # it is being made, or locked; or it is no database
            found, error = None, str(failure)
        if found is None:
            if watch.unread_for(now) < _UNREADABLE_S:
                return None
            self._log.warning("A run's events cannot be read.", extra={"file": str(file), "error": error})
            found = Found([], cursor.id)  # asked again once it changes
        watch.unread_since = None
        return found

    def _begin_runs(self, room: _Room) -> bool:
        """Read runs that were never read, in the order in which Dagster made them; whether there are more."""
        while True:
            runs = self._next_runs()
            for number, shard in runs:
                if stamp_of(self._file(shard)) is None:
                    self._begin_without_file(number, shard, newest=len(runs) < _RUNS_AT_ONCE)
                    continue
                self._cursors.begin(number, shard)
                if self._goal is not None and number <= self._goal:
                    self._left.add(shard)
                if not self._take(room, shard):
                    return True
            if len(runs) < _RUNS_AT_ONCE:
                return False

    def _begin_without_file(self, number: int, shard: str, *, newest: bool) -> None:
        """A new run's file comes a moment after its row, and is waited for; one that comes later wakes."""
        if newest:
            self._cursors.begin(number, shard)
        else:
            self._cursors.begun = number

    def _finished(self) -> list[tuple[str, int]]:
        """Shards that are read to their end, and when they were written last."""
        finished: list[tuple[str, int]] = []
        for shard in self._cursors.shards:
            stamp, watch = stamp_of(self._file(shard)), self._watch(shard)
            if shard in _KEPT:
                continue
            if stamp is None:
                if watch.unread_for(self._clock.monotonic()) > _FILE_WAIT_S:
                    finished.append((shard, 0))
            elif stamp == watch.read:
                finished.append((shard, stamp.written_ns))
        return finished

    # --- files and rows ---

    def _watch(self, shard: str) -> _Watch:
        return self._watched.setdefault(shard, _Watch())

    def _file(self, shard: str) -> Path:
        return self._storage.events / f"{shard}.db"

    def _next_runs(self) -> list[tuple[int, str]]:
        return cast("list[tuple[int, str]]", self._ask(_NEXT_RUNS, (self._cursors.begun, _RUNS_AT_ONCE)))

    def _numbers(self, shards: Sequence[str]) -> dict[str, int]:
        """Dagster's numbers of those runs that it has a row of."""
        return dict(cast("list[tuple[str, int]]", self._ask(_NUMBERS, (msgspec.json.encode(shards).decode(),))))

    def _last_run(self) -> int:
        rows = cast("list[tuple[int]]", self._ask(_LAST_RUN, ()))
        return rows[0][0] if rows else 0

    def _ask(self, query: str, parameters: Sequence[int | str]) -> list[tuple[object, ...]]:
        """Rows of `runs.db`; none while it is not there or just being made. Raises RetryableError."""
        file = self._storage.runs
        try:
            rows = ask(file, lambda d: d.execute(query, parameters).fetchall(), self._clock.wall_ns(), insist=True)
        except sqlite3.Error as error:
            if "no such table" in str(error):
                return []
            raise RetryableError(f"{file} cannot be read: {error}") from error
        return rows or []

    # --- the start ---

    def begin_now(self) -> None:
        """Everything that is there counts as read. Blocking."""
        cursors = self._cursors
        cursors.begun, cursors.quiet_ns = self._last_run(), self._clock.wall_ns() - QUIET
        for shard, stamp in shards_in(self._storage.events).items():
            if shard in _KEPT or cursors.woken(stamp.written_ns):
                try:
                    cursors.shards[shard] = Cursor(last_id(self._file(shard), self._clock.wall_ns()))
                except sqlite3.Error as error:
                    raise RetryableError(f"{self._file(shard)} cannot be read: {error}") from error


async def open_sqlite_tail(
    storage: SqliteStorage, limits: Limits, clock: Clock, log: Log, stored: Position | None, *, from_now: bool
) -> SqliteTail:
    """A tail that goes on at the stored position, else at the first event or after the last."""
    tail = SqliteTail(storage, limits, clock, log, decode_note(stored.note) if stored else Cursors(shards={}))
    if stored is None and from_now:
        await anyio.to_thread.run_sync(tail.begin_now)
    return tail
