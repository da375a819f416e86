"""Asks the history: which alerts there are, and all that is known of one. What the command line and the HTTP API use.

    with reading(Place("history.db")) as history:
        for alert in history.alerts(Wanted(open=True)):
            print(alert.key, alert.title)
        story = history.story(history.find("v1:3f2a"))

All functions block, change nothing, and work beside the daemon that writes. Times are Unix ns; those of what `dedup`
decides are domain times, those of deliveries the wall's.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import msgspec
from sqlalchemy import ColumnElement, Connection, Row, and_, case, false, func, or_, select, true

from pipeline.errors import DagtelError
from pipeline.facts import Parts
from pipeline.signals import Severity
from pipeline.store.history_database import Database, open_to_read
from pipeline.store.history_schema import ALERTS, DECISIONS, DELIVERIES, NOTIFICATIONS, OCCURRENCES, PARTS, ROUTINGS
from pipeline.store.history_writes import RANK
from pipeline.store.place import Place

__all__ = [
    "AlertRow",
    "Delivery",
    "Fingerprint",
    "History",
    "Notification",
    "Occurrence",
    "Place",
    "Reason",
    "Story",
    "UnknownAlert",
    "Wanted",
    "reading",
]

NEAR: Final = 5
"""Alerts that an id that fits several, or none, is answered with."""

_A, _O, _D, _N = ALERTS.c, OCCURRENCES.c, DECISIONS.c, NOTIFICATIONS.c


class UnknownAlert(DagtelError):
    """No alert has this id, or several have; `near` are those that may have been meant."""

    def __init__(self, message: str, near: "Sequence[AlertRow]" = ()) -> None:
        super().__init__(message)
        self.near = tuple(near)


class AlertRow(msgspec.Struct, frozen=True):
    """One alert: one occurrence of one problem, as it stands. `key` and `began_ns` name it.

    `status`: `held` (nobody has been told yet), `firing`, `escalated`, `resolved`. `held` is why nothing is told of it
    now, "" if nothing keeps it. `failures` is how often it failed, `failing` how many partitions fail now. `told` are
    the channels that know of it. `alert` is all of it as `pipeline.alert_json` writes it.
    """

    key: str
    began_ns: int
    fingerprint: str
    open: bool
    status: str
    severity: Severity
    kind: str
    title: str
    asset: str
    check: str
    job: str
    step_key: str
    run_id: str
    message: str
    failures: int
    failing: int
    first_ns: int
    last_ns: int
    ended_ns: int
    held: str
    held_until_ns: int
    flapping: bool
    chronic: bool
    acknowledged_by: str
    told: tuple[str, ...]
    owners: tuple[str, ...]
    as_of_ns: int
    alert: msgspec.Raw


class Wanted(msgspec.Struct, frozen=True):
    """Which alerts: all that fit everything given."""

    open: bool | None = None
    severity: Severity | None = None
    """This one, or a more severe one."""
    asset: str = ""
    """The whole key; a `*` in it stands for anything."""
    since_ns: int = 0
    """Failed or resolved from then on."""
    limit: int = 50
    skip: int = 0


class Occurrence(msgspec.Struct, frozen=True):
    """One failure, the `number`-th; `decision` is what became of it. `fingerprint` is its own."""

    number: int
    at_ns: int
    event_ns: int
    fingerprint: str
    severity: Severity
    decision: str
    asset: str
    check: str
    job: str
    step_key: str
    run_id: str
    partition: str | None
    error_type: str
    message: str
    file: str
    line: int


class Reason(msgspec.Struct, frozen=True):
    """One decision and why; `times` in a row, the first at `at_ns`."""

    number: int
    at_ns: int
    reason: str
    times: int
    detail: str


class Delivery(msgspec.Struct, frozen=True):
    """What became of a notifier's call; see `pipeline.alert_records.Delivered`."""

    notifier: str
    outcome: str
    at_ns: int
    attempts: int
    answer: str


class Notification(msgspec.Struct, frozen=True):
    """One message: to which channels and why there, and what became of it."""

    id: str
    number: int
    at_ns: int
    state: str
    reason: str
    severity: Severity
    failures: int
    channels: tuple[str, ...]
    why: dict[str, str]
    """Channel → what named it."""
    deliveries: tuple[Delivery, ...]
    alert: msgspec.Raw


class Fingerprint(msgspec.Struct, frozen=True):
    """What a fingerprint is made of. `message` is the text before it was masked, "" where none is in it."""

    fingerprint: str
    parts: Parts
    message: str


class Story(msgspec.Struct, frozen=True):
    """All that is known of one alert, oldest first. `occurrences` are the latest of those that are kept, `kept` how
    many these are; of a life that failed oftener than that the history keeps the first and the latest."""

    alert: AlertRow
    occurrences: tuple[Occurrence, ...]
    kept: int
    notifications: tuple[Notification, ...]
    decisions: tuple[Reason, ...]
    fingerprint: Fingerprint | None
    """None where it is not known: something else made it (a Prometheus rule)."""


class History:
    """An opened history; may be used by several threads."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @property
    def name(self) -> str:
        """As messages call it: "the history …"."""
        return self._database.name

    def alerts(self, wanted: Wanted = Wanted()) -> list[AlertRow]:  # noqa: B008  # frozen
        """Open ones first, of both the latest first."""
        chosen = select(*_ALERT).where(_fits(wanted)).order_by(_A.open.desc(), _A.last_ns.desc(), _A.key)
        with self._read() as tx:
            return [_alert(row) for row in tx.execute(chosen.offset(wanted.skip).limit(wanted.limit))]

    def count(self, wanted: Wanted = Wanted()) -> int:  # noqa: B008  # frozen
        """How many there are."""
        with self._read() as tx:
            return int(tx.scalar(select(func.count()).select_from(ALERTS).where(_fits(wanted))) or 0)

    def find(self, id: str) -> AlertRow:
        """By key (`v1:…#2`), fingerprint, or a beginning of either, with or without its `v1:`.

        Of a fingerprint that occurred several times the open one is meant, else the latest. Raises UnknownAlert.
        """
        id = id.strip()
        with self._read() as tx:
            for fits in _ways(id):
                found = [_alert(row) for row in tx.execute(select(*_ALERT).where(fits).order_by(*_LATEST).limit(500))]
                problems = {alert.fingerprint: alert for alert in reversed(found)}
                if len(problems) == 1:
                    return found[0]
                if problems:
                    near = sorted(problems.values(), key=lambda alert: (not alert.open, -alert.last_ns, alert.key))
                    raise UnknownAlert(f"{id!r} begins {len(problems)} alerts; say more of it", near[:NEAR])
            near_by = select(*_ALERT).order_by(*_LATEST).limit(NEAR)
            raise UnknownAlert(f"{self.name} has no alert {id!r}", [_alert(row) for row in tx.execute(near_by)])

    def story(self, alert: AlertRow, occurrences: int = 1000) -> Story:
        """All that is known of it, and of its occurrences the latest so many."""
        with self._read() as tx:
            mine = and_(_O.key == alert.key, _O.began_ns == alert.began_ns)
            newest = select(*_OCCURRENCE).where(mine).order_by(_O.number.desc()).limit(occurrences)
            kept = int(tx.scalar(select(func.count()).select_from(OCCURRENCES).where(mine)) or 0)
            reasons = select(_D.number, _D.at_ns, _D.reason, _D.times, _D.detail).where(
                _D.key == alert.key, _D.began_ns == alert.began_ns
            )
            return Story(
                alert=alert,
                occurrences=tuple(Occurrence(*row) for row in reversed(tx.execute(newest).all())),
                kept=kept,
                notifications=_notifications(tx, alert),
                decisions=tuple(Reason(*row) for row in tx.execute(reasons.order_by(_D.number))),
                fingerprint=_fingerprint(tx, alert.fingerprint),
            )

    @contextmanager
    def _read(self) -> Iterator[Connection]:
        with self._database.translating(), self._database.engine.connect() as connection:
            yield connection


@contextmanager
def reading(place: Place) -> Iterator[History]:
    """The history at this place, which must be there. Raises RetryableError with what to do."""
    database = open_to_read(place)
    try:
        yield History(database)
    finally:
        database.close()


_RENAMED: Final = {"check": "check_name", "partition": "partition_key"}
_ALERT: Final = [_A[_RENAMED.get(name, name)] for name in AlertRow.__struct_fields__]
_OCCURRENCE: Final = [_O[_RENAMED.get(name, name)] for name in Occurrence.__struct_fields__]
_LATEST: Final = (_A.open.desc(), _A.began_ns.desc(), _A.key)


def _alert(row: Row[Any]) -> AlertRow:
    values = dict(zip(AlertRow.__struct_fields__, row, strict=True))
    lists = {name: tuple(values[name].split(",")) if values[name] else () for name in ("told", "owners")}
    return AlertRow(**{**values, **lists, "alert": msgspec.Raw(values["alert"].encode())})


def _fingerprint(tx: Connection, fingerprint: str) -> Fingerprint | None:
    known = select(PARTS.c.parts, PARTS.c.message).where(PARTS.c.fingerprint == fingerprint)
    found = tx.execute(known).one_or_none()
    return Fingerprint(fingerprint, msgspec.json.decode(found.parts, type=Parts), found.message) if found else None


def _notifications(tx: Connection, alert: AlertRow) -> tuple[Notification, ...]:
    mine = and_(_N.key == alert.key, _N.began_ns == alert.began_ns)
    ids = select(_N.id).where(mine)
    why: dict[str, dict[str, str]] = {}
    for id, channel, text in tx.execute(
        select(ROUTINGS.c.notification, ROUTINGS.c.channel, ROUTINGS.c.why).where(ROUTINGS.c.notification.in_(ids))
    ):
        why.setdefault(id, {})[channel] = text
    calls: dict[str, list[Delivery]] = {}
    columns = [DELIVERIES.c[name] for name in ("notification", *Delivery.__struct_fields__)]
    in_time = select(*columns).where(DELIVERIES.c.notification.in_(ids)).order_by(DELIVERIES.c.at_ns)
    for id, *call in tx.execute(in_time):
        calls.setdefault(id, []).append(Delivery(*call))
    columns = [_N.id, _N.number, _N.at_ns, _N.state, _N.reason, _N.severity, _N.failures, _N.channels, _N.alert]
    return tuple(
        Notification(
            id=id,
            number=number,
            at_ns=at_ns,
            state=state,
            reason=reason,
            severity=severity,
            failures=failures,
            channels=tuple(channels.split(",")) if channels else (),
            why=why.get(id, {}),
            deliveries=tuple(calls.get(id, ())),
            alert=msgspec.Raw(told.encode()),
        )
        for id, number, at_ns, state, reason, severity, failures, channels, told in tx.execute(
            select(*columns).where(mine).order_by(_N.at_ns, _N.number)
        )
    )


def _fits(wanted: Wanted) -> ColumnElement[bool]:
    fits: list[ColumnElement[bool]] = [true()]
    if wanted.open is not None:
        fits.append(_A.open == (true() if wanted.open else false()))
    if wanted.severity is not None:
        fits.append(_A["rank"] >= RANK[wanted.severity])
    if "*" in wanted.asset:
        pattern = wanted.asset.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_").replace("*", "%")
        fits.append(_A.asset.like(pattern, escape="\\"))
    elif wanted.asset:
        fits.append(_A.asset == wanted.asset)
    if wanted.since_ns:
        fits.append(case((_A.ended_ns > _A.last_ns, _A.ended_ns), else_=_A.last_ns) >= wanted.since_ns)
    return and_(*fits)


def _ways(id: str) -> Iterator[ColumnElement[bool]]:
    """What an id can mean, the surest first."""
    yield _A.key == id
    yield _A.fingerprint == id
    start, sign, number = id.partition("#")
    if not start:
        return
    ends = _A.key.endswith(f"#{number}", autoescape=True) if sign else true()
    begins = or_(*(_A.fingerprint.startswith(text, autoescape=True) for text in _written(start)))
    yield and_(begins, ends)
    if not sign:
        told_with = select(_O.key, _O.began_ns).where(
            or_(*(_O.fingerprint.startswith(text, autoescape=True) for text in _written(start)))
        )
        within = told_with.subquery()
        yield select(1).where(within.c.key == _A.key, within.c.began_ns == _A.began_ns).exists()


def _written(start: str) -> tuple[str, ...]:
    """Fingerprints are written with the version of their algorithm before them; people leave it out."""
    return (start,) if ":" in start else (start, f"v1:{start}")
