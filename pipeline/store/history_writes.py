"""Writes records into the history. Each names its row by what it says of itself, so that what comes twice changes
nothing, and of what changes with time (a life, a decision's `times`) the latest word counts, whatever comes when.

Of one life no more than `keep` occurrences and decisions are kept: the first half of them and the latest half.
"""

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, TypeVar

import msgspec
from sqlalchemy import ColumnElement, Connection, Table, and_, delete, exists, false, func, select, true

from pipeline.alert_json import alert_json
from pipeline.alert_records import Decided, Delivered, Made, Notified, Occurred, Record, Routed, Standing
from pipeline.errors import RetryableError
from pipeline.signals import Alert, Severity
from pipeline.store.history_database import Database, open_to_write
from pipeline.store.history_schema import (
    ALERTS,
    DECISIONS,
    DELIVERIES,
    HISTORY,
    NOTIFICATIONS,
    OCCURRENCES,
    PARTS,
    ROUTINGS,
)
from pipeline.store.place import Place

RANK: Final[Mapping[Severity, int]] = {"INFO": 0, "WARNING": 1, "ERROR": 2, "CRITICAL": 3}
MESSAGE: Final = 2000
"""Characters of an error's message, of a detail and of an answer that are kept."""
CHUNK: Final = 2000
"""Old rows that go in one transaction, or some more: nobody waits long for it."""

_ONCE: Final = frozenset({"still_broken"})
"""Kinds of notifications that are over when they are said."""

Row = dict[str, Any]
T = TypeVar("T")


class HistoryWriter:
    """A `pipeline.alert_records.Keeper`. It is opened when it is first needed, and anew after an error."""

    def __init__(self, place: Place, keep: int, opened: Callable[[Place], Database] = open_to_write) -> None:
        self._place, self._keep, self._open = place, keep, opened
        self._database: Database | None = None
        self._lock = threading.Lock()

    def write(self, records: Sequence[Record], at_ns: int) -> None:
        """See `Keeper.write`."""

        def all_of_it(database: Database) -> None:
            with database.engine.begin() as tx:
                _write(tx, database.upsert, records, at_ns, self._keep)

        self._with(all_of_it)

    def expire(self, before_ns: int) -> int:
        """See `Keeper.expire`."""
        gone = 0

        def one_chunk(database: Database) -> int:
            with database.engine.begin() as tx:
                return _expire(tx, before_ns)

        while went := self._with(one_chunk):
            gone += went
        return gone

    def close(self) -> None:
        with self._lock:
            self._close()

    def _close(self) -> None:
        if self._database is not None:
            self._database.close()
        self._database = None

    def _with(self, work: Callable[[Database], T]) -> T:
        with self._lock:
            if self._database is not None and self._database.moved():
                self._close()
            if self._database is None:
                self._database = self._open(self._place)
            try:
                with self._database.translating():
                    return work(self._database)
            except RetryableError:
                self._close()
                raise


def _write(tx: Connection, upsert: Callable[..., Any], records: Sequence[Record], at_ns: int, keep: int) -> None:
    rows: dict[Table, dict[tuple[Any, ...], Row]] = {}
    long: set[tuple[Table, str, int]] = set()
    for record in records:
        for table, row in _rows(record):
            row["written_ns"] = at_ns
            name = tuple(row[column.name] for column in table.primary_key)
            rows.setdefault(table, {}).pop(name, None)  # of a life the last word; a statement takes each row once
            rows[table][name] = row
            if row.get("number", 0) > keep // 2 and table in (OCCURRENCES, DECISIONS):
                long.add((table, row["key"], row["began_ns"]))
    for table, found in rows.items():
        _put(tx, upsert, table, list(found.values()))
    for table, key, began_ns in long:
        _trim(tx, table, key, began_ns, keep)


def _put(tx: Connection, upsert: Callable[..., Any], table: Table, rows: list[Row]) -> None:
    names = [column.name for column in table.primary_key]
    statement = upsert(table)
    newer: ColumnElement[bool] | None = None
    if table is ALERTS:
        newer = statement.excluded.as_of_ns >= ALERTS.c.as_of_ns
    elif table is DECISIONS:
        newer = statement.excluded.times > DECISIONS.c.times
    elif table is PARTS:
        newer = statement.excluded.at_ns > PARTS.c.at_ns  # the problem goes on: its explanation stays
    if newer is None:
        tx.execute(statement.on_conflict_do_nothing(index_elements=names), rows)
        return
    news = {column.name: statement.excluded[column.name] for column in table.c if column.name not in names}
    tx.execute(statement.on_conflict_do_update(index_elements=names, set_=news, where=newer), rows)


def _trim(tx: Connection, table: Table, key: str, began_ns: int, keep: int) -> None:
    """Of this life the first half of `keep` rows and the latest half stay."""
    mine = and_(table.c.key == key, table.c.began_ns == began_ns)
    latest = int(tx.scalar(select(func.max(table.c.number)).where(mine)) or 0)
    first, last = keep // 2, latest - (keep - keep // 2)
    if last > first:
        tx.execute(delete(table).where(mine, table.c.number > first, table.c.number <= last))


def _expire(tx: Connection, before_ns: int) -> int:
    """Some of what is too old; 0 when there is no more."""
    gone = 0
    for table in HISTORY.sorted_tables:
        if "written_ns" not in table.c:
            continue
        old = and_(table.c.written_ns < before_ns, _may_go(table))
        end = select(table.c.written_ns).where(old).order_by(table.c.written_ns).offset(CHUNK).limit(1)
        until = tx.scalar(end)
        if until is not None:
            old = and_(old, table.c.written_ns <= until)
        gone += tx.execute(delete(table).where(old)).rowcount
    return gone


def _may_go(table: Table) -> ColumnElement[bool]:
    """What is open stays, however long nothing has been heard of it; so does what an alert's fingerprint is made of."""
    if table is PARTS:
        return ~exists().where(ALERTS.c.fingerprint == PARTS.c.fingerprint)
    return ALERTS.c.open == false() if table is ALERTS else true()


# --- records as rows -------------------------------------------------------------------------------------------------


def _rows(record: Record) -> Iterable[tuple[Table, Row]]:
    match record:
        case Standing():
            yield ALERTS, _life(record)
        case Occurred():
            yield OCCURRENCES, _occurrence(record)
        case Decided():
            row = {name: getattr(record, name) for name in Decided.__struct_fields__}
            yield DECISIONS, {**row, "key": _text(record.key), "detail": _text(record.detail)}
        case Notified():
            yield NOTIFICATIONS, _notification(record)
            if not record.alert.number:
                yield ALERTS, _life(_alone(record.alert))
        case Made():
            parts = _whole(msgspec.json.encode(record.parts).decode())
            row = {"fingerprint": _text(record.fingerprint), "parts": parts, "message": _text(record.message)}
            yield PARTS, {**row, "at_ns": record.at_ns}
        case Routed():
            for channel, why in record.channels:
                row = {"notification": _text(record.notification), "channel": _text(channel), "why": _text(why)}
                yield ROUTINGS, row
        case Delivered():
            for id in record.notifications:
                yield (
                    DELIVERIES,
                    {
                        "notification": _text(id),
                        "notifier": record.notifier,
                        "at_ns": record.at_ns,
                        "outcome": record.outcome,
                        "attempts": record.attempts,
                        "answer": _text(record.answer),
                    },
                )


def _alone(alert: Alert) -> Standing:
    """The life of a notification behind which no life of `dedup` stands: a digest of many problems, a bare finding."""
    over = alert.state in ("resolved", "recovered") or alert.kind in _ONCE
    return Standing(
        key=alert.key or alert.fingerprint,
        began_ns=alert.began_ns,
        as_of_ns=alert.now_ns,
        status="resolved" if over else "firing",
        alert=alert,
        told=alert.channels,
        ended_ns=alert.now_ns if over else 0,
    )


def _life(record: Standing) -> Row:
    alert = record.alert
    return {
        "key": _text(record.key),
        "began_ns": record.began_ns,
        "as_of_ns": record.as_of_ns,
        "fingerprint": _text(alert.fingerprint),
        "open": record.status != "resolved",
        "status": record.status,
        "severity": alert.severity,
        "rank": RANK[alert.severity],
        "kind": _text(alert.kind),
        "title": _text(alert.title),
        "asset": _text(alert.asset),
        "check_name": _text(alert.check),
        "job": _text(alert.job),
        "step_key": _text(alert.step_key),
        "run_id": _text(alert.run_id),
        "message": _text(alert.error.message if alert.error else alert.summary),
        "failures": alert.count,
        "failing": alert.failing,
        "first_ns": alert.first_ns,
        "last_ns": alert.last_ns,
        "ended_ns": record.ended_ns,
        "held": record.held,
        "held_until_ns": record.held_until_ns,
        "flapping": record.flapping,
        "chronic": record.chronic,
        "acknowledged_by": _text(alert.acknowledged_by),
        "told": _text(",".join(record.told)),
        "owners": _text(",".join(alert.owners)),
        "alert": _json(alert),
    }


def _occurrence(record: Occurred) -> Row:
    return {
        "key": _text(record.key),
        "began_ns": record.began_ns,
        "number": record.number,
        "at_ns": record.at_ns,
        "event_ns": record.event_ns,
        "fingerprint": _text(record.fingerprint),
        "severity": record.severity,
        "decision": record.decision,
        "asset": _text(record.asset),
        "check_name": _text(record.check),
        "job": _text(record.job),
        "step_key": _text(record.step_key),
        "run_id": _text(record.run_id),
        "partition_key": None if record.partition is None else _text(record.partition),
        "error_type": _text(record.error_type),
        "message": _text(record.message),
        "file": _text(record.file),
        "line": record.line,
    }


def _notification(record: Notified) -> Row:
    alert = record.alert
    return {
        "id": _text(record.id),
        "key": _text(alert.key or alert.fingerprint),
        "began_ns": alert.began_ns,
        "number": alert.number,
        "at_ns": alert.now_ns,
        "state": alert.state,
        "reason": alert.reason,
        "severity": alert.severity,
        "failures": alert.count,
        "channels": _text(",".join(alert.channels)),
        "alert": _json(alert),
    }


def _json(alert: Alert) -> str:
    return _whole(alert_json(alert).decode())


def _text(text: str) -> str:
    return _whole(text[:MESSAGE])


def _whole(text: str) -> str:
    """No database takes a NUL."""
    return text.replace("\0", "\ufffd") if "\0" in text else text
