"""The event log in PostgreSQL, followed by id without losing a row.

Invariant: every id up to the cursor was either handed on, or is a known gap, or was given up as one (counted). Two
questions: the next page after the cursor, back to back while there is more, and, once a poll, whether gaps have
filled. A page ends at `Limits.bytes`, because one row can be 200 KB and a page has a thousand rows.
"""

import zlib
from collections.abc import Sequence
from typing import Literal, cast

import msgspec

from pipeline.clock import Clock
from pipeline.components import Position
from pipeline.dagster_sql import Postgres, Row
from pipeline.errors import PermanentError
from receivers.dagster_gaps import GapMetrics, Gaps
from receivers.dagster_page import Limits, Page, StoredEvent

OnRecreated = Literal["fail", "accept"]

# The inner LIMIT goes by the primary key alone: with `OR id = ANY(gaps)` in it PostgreSQL may walk the whole index.
_PAGE = (
    "SELECT id, run_id, event FROM ("
    " SELECT id, run_id, event, sum(octet_length(event)) OVER (ORDER BY id) AS upto FROM ("
    "  SELECT id, run_id, event FROM event_logs WHERE id > %s ORDER BY id LIMIT %s) AS page) AS sized"
    " WHERE upto - octet_length(event) < %s ORDER BY id"
)
_GAPS = "SELECT id, run_id, event FROM event_logs WHERE id = ANY(%s::bigint[]) ORDER BY id"
_ENDS = "SELECT coalesce(min(id), 1), coalesce(max(id), 0) FROM event_logs"
_BEFORE = "SELECT id FROM event_logs WHERE id BETWEEN %s AND %s"
_ONE = "SELECT id, run_id, event FROM event_logs WHERE id = %s"
_SEQUENCE = (  # NULL: not ours to ask
    "SELECT CASE WHEN has_sequence_privilege(s, 'SELECT') THEN coalesce(pg_sequence_last_value(s), 0) END"
    " FROM (SELECT pg_get_serial_sequence('event_logs', 'id')::regclass::oid AS s) AS sequence"
)


_UNDER_WAY = 1000


class _Note(msgspec.Struct, array_like=True):
    gaps: list[int]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Note).decode


class PostgresTail:
    """Follows `event_logs` over one connection. Build it with `open_postgres_tail`."""

    def __init__(
        self,
        database: Postgres,
        limits: Limits,
        clock: Clock,
        metrics: GapMetrics,
        *,
        cursor: int,
        crc: int,
        end: int,
        gaps: Gaps,
    ) -> None:
        self._database, self._limits, self._clock, self._metrics = database, limits, clock, metrics
        self._cursor, self._crc, self._end = cursor, crc, end
        self.gaps = gaps
        self._asked = float("-inf")  # when gaps were asked for last

    async def read(self) -> Page:
        late, gave_up = await self._fill_gaps()
        limits = self._limits
        rows = _events(await self._database.fetch(_PAGE, (self._cursor, limits.rows, limits.bytes)))
        if rows:
            self.gaps.passed(self._cursor, (row.id for row in rows), self._clock.monotonic())
            self._cursor, self._crc = rows[-1].id, _crc(rows[-1])
        self._metrics.tell(self.gaps)
        full = len(rows) == limits.rows or sum(len(row.raw) for row in rows) >= limits.bytes
        return Page([*late, *rows], behind=full, moved=bool(late or rows or gave_up))

    async def _fill_gaps(self) -> tuple[list[StoredEvent], bool]:
        """Rows that showed late, and whether any gap was given up."""
        now = self._clock.monotonic()
        if not self.gaps or now - self._asked < self._limits.poll_s:
            return [], False
        self._asked = now
        late = _events(await self._database.fetch(_GAPS, (self.gaps.ids(),)))
        self.gaps.filled(row.id for row in late)
        return late, self.gaps.expire(now)

    def ended(self) -> bool:
        return self._cursor >= self._end

    def position(self, at_ns: int) -> Position:
        return Position(self._cursor + 1, at_ns, self._crc, _encode(_Note(self.gaps.ids())))


async def open_postgres_tail(
    database: Postgres,
    limits: Limits,
    clock: Clock,
    metrics: GapMetrics,
    stored: Position | None,
    *,
    from_now: bool,
    on_recreated: OnRecreated,
) -> PostgresTail:
    """A tail that goes on at the stored position, else at the first row or after the last.

    Raises PermanentError when the table is not the one that was read before, unless that is accepted.
    """
    first, last = cast("tuple[int, int]", (await database.fetch(_ENDS))[0])
    why = await _made_anew(database, stored, last) if stored else ""
    if why and on_recreated == "fail":
        raise PermanentError(f"{database.place}: event_logs is not the table that was read: {why}. {_ACCEPT}")
    if stored and not why:
        cursor, crc, gaps = stored.next - 1, stored.crc, _decode(stored.note).gaps
    else:
        cursor, crc = (last if from_now and not why else min(first - 1, last)), 0
        gaps = await _unseen(database, cursor)
    remembered = Gaps(gaps, now=clock.monotonic(), timeout=limits.gap_timeout_s, limit=limits.gaps)
    return PostgresTail(database, limits, clock, metrics, cursor=cursor, crc=crc, end=last, gaps=remembered)


_ACCEPT = "Set `on_recreated: accept` to read what is there now from its beginning."


async def _unseen(database: Postgres, cursor: int) -> list[int]:
    """The ids shortly before the place where reading begins that cannot be seen: inserts that are under way."""
    before = range(max(1, cursor - _UNDER_WAY + 1), cursor + 1)
    found = await database.fetch(_BEFORE, (before.start, cursor))
    return sorted(set(before).difference(cast(int, id) for (id,) in found))


async def _made_anew(database: Postgres, stored: Position, last: int) -> str:
    """Why the table is another one; "" if it is the same. Deleted rows are fine."""
    read = stored.next - 1
    row = _events(await database.fetch(_ONE, (read,)))
    if row:
        return f"row {read} is another one" if stored.crc and _crc(row[0]) != stored.crc else ""
    if last >= read or await _handed_out(database, read):
        return ""
    return f"its ids have only come to {last}, and {read} was read"


async def _handed_out(database: Postgres, id: int) -> bool:
    """Whether the table's sequence has come to `id`; True where it cannot be asked."""
    (value,) = (await database.fetch(_SEQUENCE))[0]
    return value is None or cast(int, value) >= id


def _crc(row: StoredEvent) -> int:
    return zlib.crc32(row.raw, zlib.crc32(row.run_id.encode()))


def _events(rows: Sequence[Row]) -> list[StoredEvent]:
    return [StoredEvent(id, run or "", raw) for id, run, raw in cast("Sequence[tuple[int, str | None, bytes]]", rows)]
