"""What people ask of alerts, as rows of the append-only table `commands`: asked for by anybody, obeyed by the owner.

Whoever asks appends beside the running daemon; the daemon reads on from its position, and what came of a command is
committed together with the position behind it. Ids are given in the order in which the rows become visible, so a
reader that goes on behind the last id misses none: SQLite has one writer, in PostgreSQL appending is one at a time.

A command's own id makes it one: the second of the same id is not appended. `target` is a digest of that id, so that it
is found by the index. Rows stay for KEPT_NS (`state.py`) after they were obeyed, which is what makes a link that is
followed again a week later do nothing.

All functions block, and work on both databases. They take any engine on the store, not only its owner's.
"""

from hashlib import sha256
from typing import Final

import msgspec
from sqlalchemy import BigInteger, Connection, Engine, LargeBinary, delete, insert, literal, select, text, update

from pipeline.alert_commands import Command, decode_command, encode_command
from pipeline.batch import WHOLE
from pipeline.components import Position
from pipeline.store.records import ALERT, RETRY
from pipeline.store.schema import COMMANDS, META, POSITIONS

SOURCE: Final = WHOLE
"""The input of the whole is what people ask: its position is the next row's id."""
MOST: Final = 200
"""Commands in one look."""

_C = COMMANDS.c
_position = msgspec.msgpack.Decoder(Position).decode


class Asked(msgspec.Struct, frozen=True):
    """A command in the table. `new`: it was not there before; else the row is the earlier one's."""

    row: int
    at_ns: int
    new: bool


class Row(msgspec.Struct, frozen=True):
    """A row to be obeyed; `command` is None for one that this program cannot read."""

    id: int
    at_ns: int
    command: Command | None


class Retry(msgspec.Struct, frozen=True):
    """A re-execution that was asked for. `launched` is the new run; "" while it is not known whether there is one."""

    run: str
    at_ns: int
    by: str = ""
    launched: str = ""


def ask(engine: Engine, command: Command) -> Asked:
    """Append it, unless one of its id is there."""
    return _append(engine, ALERT, command.id, command.now_ns, encode_command(command))


def _append(engine: Engine, kind: str, id: str, at_ns: int, data: bytes) -> Asked:
    target = _target(id)
    mine = select(_C.id, _C.at_ns).where(_C.kind == kind, _C.target == target)
    row = select(
        literal(at_ns, BigInteger), literal(kind), literal(target, BigInteger), literal(data, LargeBinary)
    ).where(~mine.exists())
    with engine.begin() as tx:
        _one_at_a_time(tx)
        columns = ["at_ns", "kind", "target", "data"]
        new = tx.execute(insert(COMMANDS).from_select(columns, row).returning(_C.id)).one_or_none() is not None
        found = tx.execute(mine).one()
    return Asked(found.id, found.at_ns, new)


def _one_at_a_time(tx: Connection) -> None:
    if tx.dialect.name == "postgresql":
        tx.execute(text("SELECT pg_advisory_xact_lock(hashtext('dagtel commands ' || current_schema()))"))


def _target(id: str) -> int:
    return int.from_bytes(sha256(id.encode("utf-8", "replace")).digest()[:8]) >> 1


# --- the daemon's side ---


def to_obey(engine: Engine, next: int) -> list[Row]:
    """The oldest commands from the row `next` on, MOST of them."""
    with engine.connect() as tx:
        found = tx.execute(
            select(_C.id, _C.at_ns, _C.data).where(_C.kind == ALERT, _C.id >= next).order_by(_C.id).limit(MOST)
        )
        return [Row(id, at, _readable(data)) for id, at, data in found]


# --- what is still to come ---


def waiting(engine: Engine) -> list[Command]:
    """Commands that nobody has obeyed yet, in order."""
    with engine.connect() as tx:
        found = tx.scalars(select(_C.data).where(_C.kind == ALERT, _C.id >= _next(tx)).order_by(_C.id))
        return [command for data in found if (command := _readable(data)) is not None]


def recent(engine: Engine, most: int) -> list[tuple[Command, bool]]:
    """The latest commands, newest first, and whether each was obeyed."""
    with engine.connect() as tx:
        next = _next(tx)
        found = tx.execute(select(_C.id, _C.data).where(_C.kind == ALERT).order_by(_C.id.desc()).limit(most)).all()
    return [(command, id < next) for id, data in found if (command := _readable(data)) is not None]


def asked_already(engine: Engine, id: str) -> int | None:
    """When (Unix ns) the command of this id was asked for; None if it was not."""
    with engine.connect() as tx:
        return tx.scalar(select(_C.at_ns).where(_C.kind == ALERT, _C.target == _target(id)))


def _next(tx: Connection) -> int:
    data = tx.scalar(select(POSITIONS.c.data).where(POSITIONS.c.source == SOURCE))
    return _position(data).next if data is not None else 0


def _readable(data: bytes | None) -> Command | None:
    try:
        return decode_command(data or b"")
    except msgspec.MsgspecError:
        return None


# --- retries: claimed first, launched then, so that none is launched twice ---


def claim_retry(engine: Engine, retry: Retry) -> tuple[Retry, bool]:
    """The re-execution of this run that was asked for first, and whether that is this one."""
    asked = _append(engine, RETRY, retry.run, retry.at_ns, msgspec.json.encode(retry))
    return (retry, True) if asked.new else (retry_of(engine, retry.run) or retry, False)


def retry_of(engine: Engine, run: str) -> Retry | None:
    """What is known of a run's re-execution."""
    with engine.connect() as tx:
        data = tx.scalar(select(_C.data).where(_C.kind == RETRY, _C.target == _target(run)))
    return msgspec.json.decode(data, type=Retry) if data is not None else None


def settle_retry(engine: Engine, retry: Retry) -> None:
    """Note what it was launched as."""
    with engine.begin() as tx:
        mine = (_C.kind == RETRY, _C.target == _target(retry.run))
        tx.execute(update(COMMANDS).where(*mine).values(data=msgspec.json.encode(retry)))


def drop_retry(engine: Engine, run: str) -> None:
    """It was refused: it may be asked for again."""
    with engine.begin() as tx:
        tx.execute(delete(COMMANDS).where(_C.kind == RETRY, _C.target == _target(run)))


# --- the key of links ---


def kept_secret(engine: Engine, name: str, fresh: str) -> str:
    """The secret of this name; `fresh` becomes it where there is none."""
    mine = select(META.c.value).where(META.c.key == name)
    row = select(literal(name), literal(fresh)).where(~mine.exists())
    with engine.begin() as tx:
        _one_at_a_time(tx)
        tx.execute(insert(META).from_select(["key", "value"], row))
        return str(tx.scalar(mine))
