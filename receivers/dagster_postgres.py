"""The event log in PostgreSQL, followed by id without losing a row and without turning a run's rows around.

Invariant: every id up to the cursor was either handed on, or is a known gap, or was given up as one (counted). One
statement asks for both, gaps that have filled and the page after the cursor, because one statement sees one moment:
whoever stores two rows one after the other has the first one seen wherever the second one is. Asked in two, a gap that
fills in between comes after rows that were stored when it had long been committed (seen: under eight writers rows
of one run changed places). A page ends at `Limits.bytes`, because one row can be 10 MB and a page has a thousand rows.
"""

import zlib
from collections.abc import Sequence
from typing import Literal, cast

import msgspec

from pipeline.clock import Clock
from pipeline.components import Position
from pipeline.dagster_sql import Postgres, Row
from pipeline.errors import PermanentError
from receivers.dagster_gaps import GapMetrics, Gaps, Writers
from receivers.dagster_page import Limits, Page, StoredEvent

OnRecreated = Literal["fail", "accept"]

# Two branches, because with `OR id = ANY(gaps)` beside the cursor PostgreSQL may walk the whole index.
_PAGE = (
    "SELECT id, run_id, event FROM ("
    " SELECT id, run_id, event, sum(octet_length(event)) OVER (ORDER BY id) AS upto FROM ("
    "  (SELECT id, run_id, event FROM event_logs WHERE id = ANY(%s::bigint[]) ORDER BY id LIMIT %s)"
    "  UNION ALL (SELECT id, run_id, event FROM event_logs WHERE id > %s ORDER BY id LIMIT %s)) AS page) AS sized"
    " WHERE upto - octet_length(event) < %s ORDER BY id LIMIT %s"
)
_ENDS = "SELECT coalesce(min(id), 1), coalesce(max(id), 0) FROM event_logs"
_BEFORE = "SELECT id FROM event_logs WHERE id BETWEEN %s AND %s"
_ONE = "SELECT id, run_id, event FROM event_logs WHERE id = %s"
_SEQUENCE = (  # NULL: not ours to ask
    "SELECT CASE WHEN has_sequence_privilege(s, 'SELECT') THEN coalesce(pg_sequence_last_value(s), 0) END"
    " FROM (SELECT pg_get_serial_sequence('event_logs', 'id')::regclass::oid AS s) AS sequence"
)


_WRITERS = (  # NULL: locks do not say who may still store an id, see `dagster_gaps`
    "SELECT CASE WHEN pg_is_in_recovery() OR (SELECT coalesce(max(seqcache), 2) FROM pg_sequence"
    "  WHERE seqrelid = pg_get_serial_sequence('event_logs', 'id')::regclass) > 1 THEN NULL ELSE ARRAY("
    "  SELECT virtualtransaction::varchar FROM pg_locks WHERE locktype = 'relation' AND mode = 'RowExclusiveLock'"
    "  AND relation = 'event_logs'::regclass"
    "  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())) END"
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
        self._opened = clock.monotonic()
        self._more_late = False  # the last page had no room for all gaps that have filled

    async def read(self) -> Page:
        limits, now, after = self._limits, self._clock.monotonic(), self._cursor
        asked = (self.gaps.ids(), limits.rows, after, limits.rows, limits.bytes, limits.rows)
        rows = _events(await self._database.fetch(_PAGE, asked))
        late = [row.id for row in rows if row.id <= after]  # they come first, in their order
        new = [row.id for row in rows[len(late) :]]
        skipped = bool(new) and new[-1] - after > len(new)
        writers = await self._writers() if skipped or len(self.gaps) > len(late) else None
        full = len(rows) == limits.rows or sum(len(row.raw) for row in rows) >= limits.bytes
        self.gaps.filled(late)
        self._more_late = full and not new
        gave_up = not self._more_late and self.gaps.expire(now)
        if new:
            # What was handed out before we came cannot be younger than we are.
            since = self._opened if new[-1] <= self._end else now
            self.gaps.passed(after, new, since)
            self._cursor, self._crc = new[-1], _crc(rows[-1])
        self.gaps.look(writers)
        self._metrics.tell(self.gaps)
        return Page(rows, behind=full, moved=bool(rows or gave_up))

    async def _writers(self) -> Writers | None:
        try:
            (found,) = (await self._database.fetch(_WRITERS))[0]
        except PermanentError:  # this user may not look
            return None
        return None if found is None else frozenset(cast("list[str]", found))

    def ended(self) -> bool:
        return self._cursor >= self._end and not self._more_late

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
