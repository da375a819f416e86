"""What people ask a daemon to do: rows of an append-only table in its state store, written beside it while it runs.

Whoever asks only appends; the daemon reads and acts in its own order, and what it did is committed with its effects.
A replay is asked for as a row a dead letter, so "what is still to be done" is a join and needs no position: a letter
goes in the commit that holds its effects, and then nothing asks for it any more.

All functions block, and work on both databases. They take any engine on the store, not only its owner's.
"""

import time
from collections.abc import Sequence
from typing import Final

import msgspec
from sqlalchemy import BigInteger, ColumnElement, Connection, Engine, and_, delete, exists, func, insert, or_, select
from sqlalchemy.sql.expression import literal

from pipeline.store.records import REPLAY, DeadLetter
from pipeline.store.schema import COMMANDS, DEAD_LETTERS

PART: Final = "part"
"""The kind of a payload of which the backend took some items."""
_IDS: Final = 500
"""Ids in one statement at most."""

_D, _C = DEAD_LETTERS.c, COMMANDS.c
_LETTER: Final = [_D[name] for name in DeadLetter.__struct_fields__]
_ASKED: Final = exists().where(_C.kind == REPLAY, _C.target == _D.id)


class Choice(msgspec.Struct, frozen=True):
    """Which dead letters are meant: all that fit everything given. Times are Unix ns, UTC; `until_ns` is not in it."""

    ids: tuple[int, ...] = ()
    component: str = ""
    """The whole name ("exporters.loki"), or its id ("loki")."""
    reason: str = ""
    """A part of the reason, in any case."""
    since_ns: int = 0
    until_ns: int = 0

    def __bool__(self) -> bool:
        return self != Choice()


class Summary(msgspec.Struct, frozen=True):
    """A dead letter without its bytes. `asked`: its replay has been asked for and has not happened yet."""

    id: int
    at_ns: int
    component: str
    reason: str
    origin: str
    size: int
    kind: str
    asked: bool


class Asked(msgspec.Struct, frozen=True):
    """What became of a wish to replay: how many letters are to be replayed now, were to be already, cannot be (nothing
    of them was kept that could be given to anybody), and were left out because a part of them was delivered."""

    asked: int
    already: int
    cannot: int
    partly: int


def listed(engine: Engine, choice: Choice, limit: int) -> list[Summary]:
    """The newest `limit` of the chosen, newest first."""
    columns = (_D.id, _D.at_ns, _D.component, _D.reason, _D.origin, _D.size, _D.kind)
    with engine.connect() as tx:
        found = tx.execute(select(*columns, _ASKED).where(_fits(choice)).order_by(_D.id.desc()).limit(limit))
        return [
            Summary(id, at, who, why, whence, n, kind, bool(asked))
            for id, at, who, why, whence, n, kind, asked in found
        ]


def count(engine: Engine, choice: Choice) -> int:
    """How many are chosen."""
    with engine.connect() as tx:
        return _count(tx, _fits(choice))


def one(engine: Engine, id: int) -> tuple[DeadLetter, bool] | None:
    """A dead letter and whether its replay has been asked for; None where there is none of this id."""
    with engine.connect() as tx:
        found = tx.execute(select(*_LETTER, _ASKED).where(_D.id == id)).one_or_none()
        return None if found is None else (DeadLetter(*found[:-1]), bool(found[-1]))


def ask_for_replay(engine: Engine, choice: Choice, partly: bool) -> Asked:
    """Append a wish for each of the chosen; all or none. `partly`: also those of which a part was delivered."""
    fits, able = _fits(choice), _D.kind != ""
    part = and_(_D.kind == PART, literal(not partly))
    with engine.begin() as tx:
        already = _count(tx, and_(fits, _ASKED))
        cannot = _count(tx, and_(fits, ~able))
        left = _count(tx, and_(fits, part, ~_ASKED))
        wanted = and_(fits, able, ~part, ~_ASKED)
        asked = _count(tx, wanted)
        rows = select(literal(time.time_ns(), BigInteger), literal(REPLAY), _D.id).where(wanted).order_by(_D.id)
        tx.execute(insert(COMMANDS).from_select(["at_ns", "kind", "target"], rows))
    return Asked(asked, already, cannot, left)


def drop(engine: Engine, choice: Choice) -> tuple[int, int]:
    """Throw the chosen away but those that are to be replayed; how many went, and how many stay for that reason."""
    fits = _fits(choice)
    with engine.begin() as tx:
        staying = _count(tx, and_(fits, _ASKED))
        gone = tx.execute(delete(DEAD_LETTERS).where(fits, ~_ASKED)).rowcount
    return gone, staying


# --- the daemon's side ---


def to_replay(engine: Engine, after: int = 0, most: int = 500, most_bytes: int = 8 * 2**20) -> list[DeadLetter]:
    """The oldest dead letters with an id above `after` whose replay is asked for: as many as fit, at least one."""
    with engine.connect() as tx:
        found = tx.execute(select(_D.id, _D.size).where(_ASKED, _D.id > after).order_by(_D.id).limit(most))
        ids: list[int] = []
        for id, size in found:
            most_bytes -= size
            if ids and most_bytes < 0:
                break
            ids.append(id)
        return [DeadLetter(*row) for row in tx.execute(select(*_LETTER).where(_D.id.in_(ids)).order_by(_D.id))]


def still_asked(engine: Engine, ids: Sequence[int]) -> set[int]:
    """Those of these dead letters that are there and whose replay is asked for."""
    found: set[int] = set()
    with engine.connect() as tx:
        for start in range(0, len(ids), _IDS):
            found.update(tx.scalars(select(_D.id).where(_D.id.in_(ids[start : start + _IDS]), _ASKED)))
    return found


def withdraw(engine: Engine, ids: Sequence[int]) -> None:
    """Take wishes for a replay back: the letters stay."""
    with engine.begin() as tx:
        for start in range(0, len(ids), _IDS):
            tx.execute(delete(COMMANDS).where(_C.kind == REPLAY, _C.target.in_(ids[start : start + _IDS])))


def _count(tx: Connection, fits: ColumnElement[bool]) -> int:
    return int(tx.scalar(select(func.count()).select_from(DEAD_LETTERS).where(fits)) or 0)


def _fits(choice: Choice) -> ColumnElement[bool]:
    wanted: list[ColumnElement[bool]] = [literal(True)]
    if choice.ids:
        wanted.append(_D.id.in_(choice.ids))
    if choice.component:
        ends = _D.component.endswith(f".{choice.component}", autoescape=True)
        wanted.append(or_(_D.component == choice.component, ends))
    if choice.reason:
        wanted.append(func.lower(_D.reason).contains(choice.reason.lower(), autoescape=True))
    if choice.since_ns:
        wanted.append(_D.at_ns >= choice.since_ns)
    if choice.until_ns:
        wanted.append(_D.at_ns < choice.until_ns)
    return and_(*wanted)
