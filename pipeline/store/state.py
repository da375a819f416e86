"""The state store: positions, state rows, outbox, receipts and dead letters, committed together.

One transaction is one moment: after any crash all of them are those of the same checkpoint. A shard has an owner
epoch, counted up by whoever takes the shard on; a commit that carries an older one changes nothing and raises.
All methods block and are called off the loop's thread.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeAlias, TypeVar

import msgspec
from sqlalchemy import Connection, Engine, delete, func, select, update

from pipeline.components import Payload, Position, Receipt
from pipeline.errors import StateError
from pipeline.store import commands
from pipeline.store.migrations import migrate
from pipeline.store.records import (
    Ack,
    Commit,
    DeadLetter,
    OutboxRow,
    ShardState,
    StateRow,
    StoredRow,
    Waiting,
)
from pipeline.store.schema import DEAD_LETTERS, META, OUTBOX, POSITIONS, RECEIPTS, ROWS, SHARDS
from pipeline.store.sqlite_file import SqliteFile

__all__ = ["Ack", "Commit", "DeadLetter", "OutboxRow", "ShardState", "StateRow", "StateStore", "StoredRow", "Waiting"]

T = TypeVar("T")
Look: TypeAlias = Callable[[Engine], T]
"""What reads or appends as anybody may."""

_position = msgspec.msgpack.Decoder(Position).decode
_payload = msgspec.msgpack.Decoder(Payload).decode


class Database(Protocol):
    """Where a state store is kept: a file of SQLite, a schema of PostgreSQL."""

    engine: Engine
    reading: Engine
    """The same for single statements that read: without a transaction around them where that saves round trips. There
    is one before each call to a backend."""
    upsert: Callable[..., Any]
    """The dialect's `insert`, which knows `on_conflict_do_update`."""
    name: str
    """As messages call it: "the state store …"."""

    @property
    def shared(self) -> bool:
        """Several processes may work in it, each in its own shards."""
        ...

    def translating(self) -> AbstractContextManager[None]:
        """Database errors as ours: RetryableError where waiting may help, else StateError."""
        ...

    def writing(self) -> AbstractContextManager[Connection]:
        """A transaction that writes."""
        ...

    def alone(self, connection: Connection) -> None:
        """Keep other processes out of this until the transaction's end."""
        ...

    def write(self, commit: Commit) -> str | None:
        """Write all of it, or nothing and give the name of a shard that has another owner by now."""
        ...

    def close(self) -> None: ...


class StateStore:
    """A state store: in one SQLite file, owned by one process at a time, or in PostgreSQL, for several."""

    def __init__(self, where: Path | Database) -> None:
        """Open it, bring its schema up.

        Raises StateError: damaged, newer, in use by another process; RetryableError: cannot be reached or written now.
        """
        self._database: Database = SqliteFile(where) if isinstance(where, Path) else where
        try:
            with self._database.translating():
                migrate(self._database.engine, self._database.alone)
            self.generation = self._next_generation()
        except BaseException:
            self.close()
            raise

    @property
    def name(self) -> str:
        """As messages call it: "the state store …"."""
        return self._database.name

    @property
    def shared(self) -> bool:
        """Several processes may work in it, each in its own shards."""
        return self._database.shared

    @property
    def engine(self) -> Engine:
        """For the functions of `commands.py`."""
        return self._database.engine

    def close(self) -> None:
        """Let go of it; safe to call twice."""
        self._database.close()

    # --- shards ---

    def take_shard(self, shard: str) -> ShardState:
        """Become the owner of one shard; see `take_shards`."""
        return self.take_shards([shard])[shard]

    def take_shards(self, shards: Collection[str]) -> dict[str, ShardState]:
        """Become the owner of these shards: count their epochs up and load what is stored of them, in one transaction.

        Whoever had them commits nothing to them from here on; what it committed before is in what is loaded.
        """
        with self._database.writing() as tx:
            epochs = {shard: self._count_up(tx, shard) for shard in sorted(shards)}  # one order: no deadlock
            rows: dict[str, dict[tuple[str, str], list[StoredRow]]] = {shard: {} for shard in epochs}
            for shard, owner, name, key, version, value in tx.execute(
                select(ROWS.c.shard, ROWS.c.owner, ROWS.c.name, ROWS.c.key, ROWS.c.version, ROWS.c.value).where(
                    ROWS.c.shard.in_(epochs)
                )
            ):
                rows[shard].setdefault((owner, name), []).append((key, version, value))
            positions = self._positions(tx, epochs)
            waiting = self._waiting(tx, epochs)
        return {
            shard: ShardState(epoch, rows[shard], positions.get(shard), [row for row in waiting if row.shard == shard])
            for shard, epoch in epochs.items()
        }

    def _count_up(self, tx: Connection, shard: str) -> int:
        statement = self._database.upsert(SHARDS).values(shard=shard, epoch=1)
        counted = statement.on_conflict_do_update(index_elements=["shard"], set_={"epoch": SHARDS.c.epoch + 1})
        return int(tx.execute(counted.returning(SHARDS.c.epoch)).scalar_one())

    def taken_over(self, epochs: Mapping[str, int]) -> str | None:
        """The first of these shards that has another owner than the one of this epoch; None where there is none."""
        with self._read() as tx:
            found = tx.execute(select(SHARDS.c.shard, SHARDS.c.epoch).where(SHARDS.c.shard.in_(list(epochs))))
            stored = {row.shard: row.epoch for row in found}
        return next((shard for shard, epoch in epochs.items() if stored.get(shard) != epoch), None)

    def positions(self, sources: Iterable[str]) -> dict[str, Position]:
        """The stored positions of these sources; those that have none are left out."""
        with self._read() as tx:
            return self._positions(tx, sources)

    def _positions(self, tx: Connection, sources: Iterable[str]) -> dict[str, Position]:
        wanted = list(sources)
        found = tx.execute(select(POSITIONS.c.source, POSITIONS.c.data).where(POSITIONS.c.source.in_(wanted)))
        return {source: _position(data) for source, data in found}

    # --- commits ---

    def commit(self, commit: Commit) -> None:
        """Write all of it or nothing. Raises StateError when a shard has another owner by now, RetryableError when
        waiting may help: the disk is full, the file is locked, the database does not answer."""
        taken = self._database.write(commit)
        if taken is not None:
            raise replaced_by(taken)

    # --- outbox ---

    def waiting(self) -> list[Waiting]:
        """The outbox without its bytes, in the order of building."""
        with self._read() as tx:
            return self._waiting(tx, None)

    def _waiting(self, tx: Connection, shards: Iterable[str] | None) -> list[Waiting]:
        chosen = select(OUTBOX.c.id, OUTBOX.c.exporter, OUTBOX.c.size, OUTBOX.c.shard)
        if shards is not None:
            chosen = chosen.where(OUTBOX.c.shard.in_(list(shards)))
        return [Waiting(*row) for row in tx.execute(chosen.order_by(OUTBOX.c.epoch, OUTBOX.c.id))]

    def payload(self, id: int) -> Payload | None:
        """One payload's bytes; None when it is no longer in the outbox."""
        with self._read() as tx:
            data = tx.scalar(select(OUTBOX.c.data).where(OUTBOX.c.id == id))
        return None if data is None else _payload(data)

    def receipts(self, place: str = "") -> dict[str, Receipt]:
        """What each exporter in this place wants to be given back."""
        with self._read() as tx:
            found = tx.execute(select(RECEIPTS.c.exporter, RECEIPTS.c.data).where(RECEIPTS.c.place == place))
            return {row.exporter: row.data for row in found}

    # --- owners of state ---

    def owners(self) -> set[str]:
        """The components that have state."""
        with self._read() as tx:
            return set(tx.scalars(select(ROWS.c.owner).distinct()))

    def move(self, old: str, new: str) -> None:
        """Give the state of one component to another."""
        with self._database.writing() as tx:
            tx.execute(update(ROWS).where(ROWS.c.owner == old).values(owner=new))

    def forget(self, owner: str) -> None:
        """Delete a component's state."""
        with self._database.writing() as tx:
            tx.execute(delete(ROWS).where(ROWS.c.owner == owner))

    # --- dead letters ---

    def dead_letters(self, limit: int = 1000, after: int = 0) -> list[DeadLetter]:
        """Dead letters with an id above `after`, oldest first."""
        columns = [c for c in DEAD_LETTERS.c if c.name != "size"]
        with self._read() as tx:
            found = tx.execute(
                select(*columns).where(DEAD_LETTERS.c.id > after).order_by(DEAD_LETTERS.c.id).limit(limit)
            )
            return [DeadLetter(*row) for row in found]

    def to_replay(self, after: int) -> list[DeadLetter]:
        """Some dead letters with an id above `after` whose replay is asked for, oldest first."""
        with self._database.translating():
            return commands.to_replay(self.engine, after)

    def still_to_replay(self, ids: Sequence[int]) -> set[int]:
        """Those of these dead letters whose replay is asked for now."""
        with self._database.translating():
            return commands.still_asked(self.engine, ids)

    def withdraw_replays(self, ids: Sequence[int]) -> None:
        """These dead letters stay; nobody waits for their replay any more."""
        with self._database.translating():
            commands.withdraw(self.engine, ids)

    def within(self, do: Look[T]) -> T:
        """What `do` gives, which reads or appends as anybody may (`store.acts`, `store.alert_view`)."""
        with self._database.translating():
            return do(self.engine)

    def trim_dead_letters(self, cap: int) -> int:
        """Drop the oldest dead letters until all bodies together hold at most `cap` bytes; says how many went."""
        with self._database.writing() as tx:
            excess = int(tx.scalar(select(func.coalesce(func.sum(DEAD_LETTERS.c.size), 0))) or 0) - cap
            gone: list[int] = []
            for id, size in tx.execute(select(DEAD_LETTERS.c.id, DEAD_LETTERS.c.size).order_by(DEAD_LETTERS.c.id)):
                if excess <= 0:
                    break
                gone.append(id)
                excess -= size
            if gone:
                tx.execute(delete(DEAD_LETTERS).where(DEAD_LETTERS.c.id <= gone[-1]))
        return len(gone)

    def _next_generation(self) -> int:
        with self._database.writing() as tx:
            self._database.alone(tx)
            generation = int(tx.scalar(select(META.c.value).where(META.c.key == "generation")) or 0) + 1
            value = str(generation)
            statement = self._database.upsert(META).values(key="generation", value=value)
            tx.execute(statement.on_conflict_do_update(index_elements=["key"], set_={"value": value}))
        return generation

    @contextmanager
    def _read(self) -> Iterator[Connection]:
        with self._database.translating(), self._database.reading.connect() as connection:
            yield connection


def replaced_by(shard: str) -> StateError:
    """What a process hears whose shard another one took on."""
    return StateError(
        f"shard {shard} has been taken over by another process; this one must end. It was stopped, or cut off from "
        "Kafka, for longer than the group waits (`session_timeout`); nothing of it was written or sent since"
    )


def open_state(path: str, postgresql_url: str = "", schema: str = "") -> StateStore:
    """The store that the configuration names: in PostgreSQL where there is a URL, else in the file."""
    if not postgresql_url:
        return StateStore(Path(path))
    from pipeline.store.postgres import PostgresSchema  # psycopg and a dialect: 100 ms that a file does not need

    return StateStore(PostgresSchema(postgresql_url, schema))
