"""The state store: positions, state rows, outbox, receipts and dead letters, committed together.

One transaction is one moment: after any crash all of them are those of the same checkpoint. A shard has an owner
epoch, counted up by whoever takes the shard on; a commit that carries an older one changes nothing and raises.
All methods block and are called off the loop's thread.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias, TypeVar

import msgspec

from pipeline.batch import WHOLE
from pipeline.clock import DAY
from pipeline.components import Payload, Position, Receipt
from pipeline.errors import StateError
from pipeline.store.records import (
    ALERT,
    REPLAY,
    RETRY,
    Ack,
    Commit,
    DeadLetter,
    OutboxRow,
    ShardState,
    StateRow,
    StoredPosition,
    StoredRow,
    Waiting,
)
from pipeline.store.sqlite_file import SqliteFile
from pipeline.store.transaction import Transaction, marks

if TYPE_CHECKING:
    from sqlalchemy import Engine

__all__ = ["Ack", "Commit", "DeadLetter", "OutboxRow", "ShardState", "StateRow", "StateStore", "StoredRow", "Waiting"]

T = TypeVar("T")
Look: TypeAlias = Callable[["Engine"], T]
"""What reads or appends as anybody may."""

KEPT_NS: Final = 30 * DAY
"""What was obeyed stays so long, so that it is not done again when it is asked for again."""

_LETTER: Final = ", ".join(DeadLetter.__struct_fields__)

_position = msgspec.msgpack.Decoder(Position).decode
_stored_position = msgspec.msgpack.Decoder(StoredPosition).decode
_payload = msgspec.msgpack.Decoder(Payload).decode


class Database(Protocol):
    """Where a state store is kept: a file of SQLite, a schema of PostgreSQL."""

    name: str
    """As messages call it: "the state store …"."""

    @property
    def engine(self) -> "Engine":
        """For what anybody may do beside the owner (`commands`, `acts`)."""
        ...

    @property
    def shared(self) -> bool:
        """Several processes may work in it, each in its own shards."""
        ...

    def lift(self) -> None:
        """Bring its schema up. Raises StateError for a database of a newer program."""
        ...

    def translating(self) -> AbstractContextManager[None]:
        """Database errors as ours: RetryableError where waiting may help, else StateError."""
        ...

    def reading(self) -> AbstractContextManager[Transaction]:
        """For single statements that read: without a transaction around them where that saves round trips. There is
        one before each call to a backend."""
        ...

    def writing(self) -> AbstractContextManager[Transaction]:
        """A transaction that writes."""
        ...

    def move(self, old: str, new: str) -> None:
        """Give the rows of one owner to another."""
        ...

    def forget(self, owner: str) -> None:
        """Delete an owner's rows."""
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
                self._database.lift()
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
    def engine(self) -> "Engine":
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
            epochs = {shard: _count_up(tx, shard) for shard in sorted(shards)}  # one order: no deadlock
            rows: dict[str, dict[tuple[str, str], list[StoredRow]]] = {shard: {} for shard in epochs}
            stored = 'SELECT shard, owner, name, "key", version, value FROM rows WHERE shard IN'
            for shard, owner, name, key, version, value in tx.run(f"{stored} ({marks(epochs)})", *epochs):
                rows[shard].setdefault((owner, name), []).append((key, version, value))
            stored_at = _stored_at(tx, list(epochs))
            waiting = _waiting(tx, f"WHERE shard IN ({marks(epochs)})", *epochs)
        return {
            shard: ShardState(
                epoch,
                rows[shard],
                _position(stored_at[shard]) if shard in stored_at else None,
                [row for row in waiting if row.shard == shard],
                _stored_position(stored_at[shard]).time_ns if shard in stored_at else 0,
            )
            for shard, epoch in epochs.items()
        }

    def taken_over(self, epochs: Mapping[str, int]) -> str | None:
        """The first of these shards that has another owner than the one of this epoch; None where there is none."""
        with self._database.reading() as tx:
            chosen = f"SELECT shard, epoch FROM shards WHERE shard IN ({marks(epochs)})"  # noqa: S608  # marks alone
            stored = dict(tx.run(chosen, *epochs))
        return next((shard for shard, epoch in epochs.items() if stored.get(shard) != epoch), None)

    def positions(self, sources: Iterable[str]) -> dict[str, Position]:
        """The stored positions of these sources; those that have none are left out."""
        with self._database.reading() as tx:
            return _positions(tx, list(sources))

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
        with self._database.reading() as tx:
            return _waiting(tx)

    def payload(self, id: int) -> Payload | None:
        """One payload's bytes; None when it is no longer in the outbox."""
        with self._database.reading() as tx:
            found = tx.run("SELECT data FROM outbox WHERE id = ?", id)
        return _payload(found[0][0]) if found else None

    def receipts(self, place: str = "") -> dict[str, Receipt]:
        """What each exporter in this place wants to be given back."""
        with self._database.reading() as tx:
            return dict(tx.run("SELECT exporter, data FROM receipts WHERE place = ?", place))

    # --- owners of state ---

    def owners(self) -> set[str]:
        """The components that have state."""
        with self._database.reading() as tx:
            return {owner for (owner,) in tx.run("SELECT DISTINCT owner FROM rows")}

    def move(self, old: str, new: str) -> None:
        """Give the state of one component to another."""
        self._database.move(old, new)

    def forget(self, owner: str) -> None:
        """Delete a component's state."""
        self._database.forget(owner)

    # --- what people ask for ---

    def asked(self, kind: str, since: int = 0) -> bool:
        """Whether something of this kind was asked for, in the row `since` of `commands` or later."""
        with self._database.reading() as tx:
            return bool(tx.run("SELECT 1 FROM commands WHERE kind = ? AND id >= ? LIMIT 1", kind, since))

    def forget_obeyed(self, now_ns: int) -> int:
        """Delete what was obeyed of alerts, or launched, KEPT_NS ago or longer; says how many rows went."""
        old = now_ns - KEPT_NS
        with self._database.writing() as tx:
            position = _positions(tx, [WHOLE]).get(WHOLE)
            obeyed = "DELETE FROM commands WHERE kind = ? AND at_ns < ? AND id < ? RETURNING id"
            gone = tx.run(obeyed, ALERT, old, position.next if position is not None else 0)
            gone += tx.run("DELETE FROM commands WHERE kind = ? AND at_ns < ? RETURNING id", RETRY, old)
        return len(gone)

    def secret(self, name: str) -> str:
        """The secret of this name that is kept here; "" where there is none."""
        with self._database.reading() as tx:
            found = tx.run('SELECT value FROM meta WHERE "key" = ?', name)
        return str(found[0][0]) if found else ""

    def within(self, do: Look[T]) -> T:
        """What `do` gives, which reads or appends as anybody may (`store.acts`, `store.alert_view`)."""
        with self._database.translating():
            return do(self.engine)

    # --- dead letters ---

    def dead_letters(self, limit: int = 1000, after: int = 0) -> list[DeadLetter]:
        """Dead letters with an id above `after`, oldest first."""
        with self._database.reading() as tx:
            chosen = f"SELECT {_LETTER} FROM dead_letters WHERE id > ? ORDER BY id LIMIT ?"  # noqa: S608  # our names
            return [DeadLetter(*row) for row in tx.run(chosen, after, limit)]

    def to_replay(self, after: int) -> list[DeadLetter]:
        """Some dead letters with an id above `after` whose replay is asked for, oldest first."""
        if not self.asked(REPLAY):
            return []
        from pipeline.store.commands import to_replay  # SQLAlchemy: for who replays

        return self.within(partial(to_replay, after=after))

    def still_to_replay(self, ids: Sequence[int]) -> set[int]:
        """Those of these dead letters whose replay is asked for now."""
        from pipeline.store.commands import still_asked

        return self.within(partial(still_asked, ids=ids))

    def withdraw_replays(self, ids: Sequence[int]) -> None:
        """These dead letters stay; nobody waits for their replay any more."""
        from pipeline.store.commands import withdraw

        self.within(partial(withdraw, ids=ids))

    def trim_dead_letters(self, cap: int) -> int:
        """Drop the oldest dead letters until all bodies together hold at most `cap` bytes; says how many went."""
        with self._database.writing() as tx:
            excess = int(tx.run("SELECT coalesce(sum(size), 0) FROM dead_letters")[0][0]) - cap
            gone: list[int] = []
            for id, size in tx.run("SELECT id, size FROM dead_letters ORDER BY id") if excess > 0 else ():
                if excess <= 0:
                    break
                gone.append(id)
                excess -= size
            if gone:
                tx.run("DELETE FROM dead_letters WHERE id <= ?", gone[-1])
        return len(gone)

    def _next_generation(self) -> int:
        counted = (
            "INSERT INTO meta (\"key\", value) VALUES ('generation', '1') ON CONFLICT (\"key\") DO UPDATE "
            "SET value = CAST(CAST(meta.value AS BIGINT) + 1 AS TEXT) RETURNING value"
        )
        with self._database.writing() as tx:
            return int(tx.run(counted)[0][0])


def _count_up(tx: Transaction, shard: str) -> int:
    counted = (
        "INSERT INTO shards (shard, epoch) VALUES (?, 1) ON CONFLICT (shard) DO UPDATE SET epoch = shards.epoch + 1 "
        "RETURNING epoch"
    )
    return int(tx.run(counted, shard)[0][0])


def _positions(tx: Transaction, sources: Sequence[str]) -> dict[str, Position]:
    return {source: _position(data) for source, data in _stored_at(tx, sources).items()}


def _stored_at(tx: Transaction, sources: Sequence[str]) -> dict[str, bytes]:
    chosen = f"SELECT source, data FROM positions WHERE source IN ({marks(sources)})"  # noqa: S608  # marks alone
    return dict(tx.run(chosen, *sources))


def _waiting(tx: Transaction, where: str = "", *values: str) -> list[Waiting]:
    chosen = f"SELECT id, exporter, size, shard FROM outbox {where} ORDER BY epoch, id"  # noqa: S608  # our own names
    return [Waiting(*row) for row in tx.run(chosen, *values)]


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
