"""The state store: positions, state rows, outbox, receipts and dead letters, committed together.

One transaction is one moment: after any crash all of them are those of the same checkpoint. A shard has an owner
epoch, counted up by whoever takes the shard on; a commit that carries an older one changes nothing and raises.
All methods block and are called off the loop's thread.

The statements are plain SQL that SQLite and PostgreSQL both understand: a start on a file that is up to date goes
without SQLAlchemy, which would take a quarter of it to import.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from pipeline.components import Payload, Position, Receipt
from pipeline.errors import StateError
from pipeline.store.records import (
    Ack,
    Commit,
    DeadLetter,
    OutboxRow,
    Run,
    ShardState,
    StateRow,
    StoredRow,
    Waiting,
)
from pipeline.store.sqlite_file import SqliteFile

if TYPE_CHECKING:
    from sqlalchemy import Engine

__all__ = ["Ack", "Commit", "DeadLetter", "OutboxRow", "ShardState", "StateRow", "StateStore", "StoredRow", "Waiting"]

_position = msgspec.msgpack.Decoder(Position).decode
_payload = msgspec.msgpack.Decoder(Payload).decode

_LETTER: Final = ", ".join(DeadLetter.__struct_fields__)
_ASKED: Final = "EXISTS (SELECT 1 FROM commands WHERE kind = 'dlq.replay' AND target = dead_letters.id)"
_IDS: Final = 500
"""Ids in one statement at most."""


class Database(Protocol):
    """Where a state store is kept: a file of SQLite, a schema of PostgreSQL."""

    name: str
    """As messages call it: "the state store …"."""

    @property
    def shared(self) -> bool:
        """Several processes may work in it, each in its own shards."""
        ...

    @property
    def engine(self) -> "Engine":
        """For the functions of `commands.py`."""
        ...

    def lift(self) -> None:
        """Bring its schema up. Raises StateError for one of a newer program."""
        ...

    def reading(self) -> AbstractContextManager[Run]:
        """For statements that read. Database errors as ours: RetryableError where waiting may help, else StateError."""
        ...

    def writing(self, alone: bool = False) -> AbstractContextManager[Run]:
        """A transaction that writes; errors as above. `alone`: other processes are kept out of this until its end."""
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
        with self._database.writing() as run:
            epochs = {shard: int(run(_COUNT_UP, shard)[0][0]) for shard in sorted(shards)}  # one order: no deadlock
            rows: dict[str, dict[tuple[str, str], list[StoredRow]]] = {shard: {} for shard in epochs}
            chosen = f'SELECT shard, owner, name, "key", version, value FROM rows WHERE shard IN {_marks(epochs)}'  # noqa: S608  # marks alone
            for shard, owner, name, key, version, value in run(chosen, *epochs) if epochs else ():
                rows[shard].setdefault((owner, name), []).append((key, version, value))
            positions = _positions(run, epochs)
            waiting = _waiting(run, epochs)
        return {
            shard: ShardState(epoch, rows[shard], positions.get(shard), [row for row in waiting if row.shard == shard])
            for shard, epoch in epochs.items()
        }

    def taken_over(self, epochs: Mapping[str, int]) -> str | None:
        """The first of these shards that has another owner than the one of this epoch; None where there is none."""
        if not epochs:
            return None
        with self._database.reading() as run:
            chosen = f"SELECT shard, epoch FROM shards WHERE shard IN {_marks(epochs)}"  # noqa: S608  # marks alone
            stored: dict[str, int] = dict(run(chosen, *epochs))
        return next((shard for shard, epoch in epochs.items() if stored.get(shard) != epoch), None)

    def positions(self, sources: Iterable[str]) -> dict[str, Position]:
        """The stored positions of these sources; those that have none are left out."""
        with self._database.reading() as run:
            return _positions(run, list(sources))

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
        with self._database.reading() as run:
            return _waiting(run, None)

    def payload(self, id: int) -> Payload | None:
        """One payload's bytes; None when it is no longer in the outbox."""
        with self._database.reading() as run:
            found = run("SELECT data FROM outbox WHERE id = ?", id)
        return _payload(found[0][0]) if found else None

    def receipts(self, place: str = "") -> dict[str, Receipt]:
        """What each exporter in this place wants to be given back."""
        with self._database.reading() as run:
            return dict(run("SELECT exporter, data FROM receipts WHERE place = ?", place))

    # --- owners of state ---

    def owners(self) -> set[str]:
        """The components that have state."""
        with self._database.reading() as run:
            return {owner for (owner,) in run("SELECT DISTINCT owner FROM rows")}

    def move(self, old: str, new: str) -> None:
        """Give the state of one component to another."""
        with self._database.writing() as run:
            run("UPDATE rows SET owner = ? WHERE owner = ?", new, old)

    def forget(self, owner: str) -> None:
        """Delete a component's state."""
        with self._database.writing() as run:
            run("DELETE FROM rows WHERE owner = ?", owner)

    # --- dead letters ---

    def dead_letters(self, limit: int = 1000, after: int = 0) -> list[DeadLetter]:
        """Dead letters with an id above `after`, oldest first."""
        with self._database.reading() as run:
            found = run(f"SELECT {_LETTER} FROM dead_letters WHERE id > ? ORDER BY id LIMIT ?", after, limit)  # noqa: S608  # marks alone
        return [DeadLetter(*row) for row in found]

    def to_replay(self, after: int = 0, most: int = _IDS, most_bytes: int = 8 * 2**20) -> list[DeadLetter]:
        """The oldest dead letters with an id above `after` whose replay is asked for: as many as fit, at least one."""
        with self._database.reading() as run:
            sizes = f"SELECT id, size FROM dead_letters WHERE {_ASKED} AND id > ? ORDER BY id LIMIT ?"  # noqa: S608  # marks alone
            ids: list[int] = []
            for id, size in run(sizes, after, most):
                most_bytes -= size
                if ids and most_bytes < 0:
                    break
                ids.append(id)
            if not ids:
                return []
            chosen = f"SELECT {_LETTER} FROM dead_letters WHERE id IN {_marks(ids)} ORDER BY id"  # noqa: S608  # marks alone
            return [DeadLetter(*row) for row in run(chosen, *ids)]

    def withdraw_replays(self, ids: Sequence[int]) -> None:
        """These dead letters stay; nobody waits for their replay any more."""
        with self._database.writing() as run:
            for start in range(0, len(ids), _IDS):
                some = ids[start : start + _IDS]
                run(f"DELETE FROM commands WHERE kind = 'dlq.replay' AND target IN {_marks(some)}", *some)  # noqa: S608  # marks alone

    def trim_dead_letters(self, cap: int) -> int:
        """Drop the oldest dead letters until all bodies together hold at most `cap` bytes; says how many went."""
        with self._database.writing() as run:
            excess = int(run("SELECT coalesce(sum(size), 0) FROM dead_letters")[0][0]) - cap
            gone: list[int] = []
            for id, size in run("SELECT id, size FROM dead_letters ORDER BY id") if excess > 0 else ():
                if excess <= 0:
                    break
                gone.append(id)
                excess -= size
            if gone:
                run("DELETE FROM dead_letters WHERE id <= ?", gone[-1])
        return len(gone)

    def _next_generation(self) -> int:
        with self._database.writing(alone=True) as run:
            found = run("SELECT value FROM meta WHERE key = 'generation'")
            generation = int(found[0][0] if found else 0) + 1
            run(_SET_GENERATION, str(generation))
        return generation


_COUNT_UP: Final = (
    "INSERT INTO shards (shard, epoch) VALUES (?, 1) "
    "ON CONFLICT (shard) DO UPDATE SET epoch = shards.epoch + 1 RETURNING epoch"
)
_SET_GENERATION: Final = (
    "INSERT INTO meta (key, value) VALUES ('generation', ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value"
)


def _marks(values: Collection[object]) -> str:
    return f"({','.join('?' * len(values))})"


def _positions(run: Run, sources: Collection[str]) -> dict[str, Position]:
    if not sources:
        return {}
    found = run(f"SELECT source, data FROM positions WHERE source IN {_marks(sources)}", *sources)  # noqa: S608  # marks alone
    return {source: _position(data) for source, data in found}


def _waiting(run: Run, shards: Collection[str] | None) -> list[Waiting]:
    if shards is not None and not shards:
        return []
    chosen = f" WHERE shard IN {_marks(shards)}" if shards is not None else ""
    found = run(f"SELECT id, exporter, size, shard FROM outbox{chosen} ORDER BY epoch, id", *(shards or ()))  # noqa: S608  # marks alone
    return [Waiting(*row) for row in found]


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
