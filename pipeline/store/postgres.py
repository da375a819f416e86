"""The state store in a schema of a PostgreSQL database: several processes work in it, each in its own shards.

What keeps them apart is in the database alone. Taking a shard on counts its epoch up, which locks the shard's row; a
commit reads the epochs of its shards with a shared lock and holds it until it is done. So a commit is either before
the taking, and is seen by it, or after it, and finds another epoch. A process that is stopped in the middle of a
transaction holds its locks no longer than IDLE_S: the server ends its session.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, exc, make_url, text
from sqlalchemy.engine.interfaces import DBAPIConnection

from pipeline.errors import ConfigError, RetryableError, StateError
from pipeline.store.migrations import migrate
from pipeline.store.postgres_writes import write
from pipeline.store.records import Commit
from pipeline.store.transaction import Transaction, Value

IDLE_S = 5
"""A transaction in which nothing happens for so long is ended by the server: its process is stopped or gone."""
LOCK_S = 15
"""How long one waits for another's lock; more than IDLE_S."""
STATEMENT_S = 60
_PASSING = ("08", "25", "40", "53", "55", "57", "58")
"""Classes of SQLSTATE that may pass: connection, read-only standby, deadlock, resources, locks, shutdown, system."""
_CONNECTION = {"connect_timeout": 5, "keepalives_idle": 10, "keepalives_interval": 3, "keepalives_count": 3}
_MORE = {"tcp_user_timeout": 15_000, "application_name": "dagtel", "client_encoding": "utf8"}


class PostgresSchema:
    """See `pipeline.store.state.Database`."""

    shared = True

    def __init__(
        self, url: str, schema: str, what: str = "the state store", option: str = "service.state.postgresql.url"
    ) -> None:
        """Connect, and make the schema if it is not there. Raises RetryableError: no answer; StateError: refused;
        ConfigError: no such URL, which `option` gave. `what` is kept there, for messages."""
        parsed = _parsed(url, option)
        self.schema = schema
        place = f"{parsed.host or 'localhost'}{f':{parsed.port}' if parsed.port else ''}/{parsed.database or ''}"
        self.name = f"{what} in PostgreSQL at {place}, schema {schema},"
        self.engine: Engine = create_engine(
            parsed,
            connect_args={k: v for k, v in {**_CONNECTION, **_MORE}.items() if k not in parsed.query},
            pool_size=4,
            max_overflow=8,
            pool_timeout=10,
            hide_parameters=True,
        )
        event.listen(self.engine, "connect", self._prepare)
        self._single: Engine = self.engine.execution_options(isolation_level="AUTOCOMMIT")
        try:
            self._make_schema()
        except BaseException:
            self.engine.dispose()
            raise

    def _prepare(self, connection: DBAPIConnection, _: object) -> None:
        cursor = connection.cursor()
        cursor.execute(
            f"SET search_path TO {self.schema}; SET idle_in_transaction_session_timeout TO '{IDLE_S}s'; "
            f"SET lock_timeout TO '{LOCK_S}s'; SET statement_timeout TO '{STATEMENT_S}s'"
        )
        cursor.close()
        connection.commit()

    def _make_schema(self) -> None:
        with self.translating(), self.engine.begin() as tx:
            self.alone(tx)
            wanted = {"name": self.schema}
            if not tx.scalar(text("SELECT count(*) FROM pg_namespace WHERE nspname = :name"), wanted):
                tx.exec_driver_sql(f"CREATE SCHEMA {self.schema}")
            may = "SELECT current_user, has_schema_privilege(:name, 'USAGE') AND has_schema_privilege(:name, 'CREATE')"
            user, allowed = tx.execute(text(may), wanted).one()
        if not allowed:
            raise StateError(f"{self.name} is not open to us: GRANT USAGE, CREATE ON SCHEMA {self.schema} TO {user}")

    @contextmanager
    def translating(self) -> Iterator[None]:
        """Database errors as ours: RetryableError where waiting may help, else StateError."""
        try:
            yield
        except exc.TimeoutError as error:
            raise RetryableError(f"{self.name} has no free connection") from error
        except exc.DBAPIError as error:
            state = str(getattr(error.orig, "sqlstate", None) or "")
            said = " ".join(str(error.orig).split())
            lost = isinstance(error, exc.OperationalError | exc.InterfaceError) or error.connection_invalidated
            if lost or state.startswith(_PASSING):
                raise RetryableError(f"{self.name} cannot be used now: {said}") from error
            raise StateError(f"{self.name} refuses: {said}") from error

    def lift(self) -> None:
        migrate(self.engine, self.alone)

    @contextmanager
    def reading(self) -> Iterator[Transaction]:
        with self.translating(), self._single.connect() as connection:
            yield _Transaction(connection)

    @contextmanager
    def writing(self) -> Iterator[Transaction]:
        with self.translating(), self.engine.begin() as connection:
            yield _Transaction(connection)

    def alone(self, connection: Connection) -> None:
        """Keep other processes out of what must be done once (schema, migrations) until the transaction's end."""
        connection.execute(text("SELECT pg_advisory_xact_lock(hashtext(:name))"), {"name": f"dagtel {self.schema}"})

    def move(self, old: str, new: str) -> None:
        with self.writing() as tx:
            tx.run("UPDATE rows SET owner = ? WHERE owner = ?", new, old)

    def forget(self, owner: str) -> None:
        with self.writing() as tx:
            tx.run("DELETE FROM rows WHERE owner = ?", owner)

    def write(self, commit: Commit) -> str | None:
        with self.translating(), self.engine.connect() as connection, connection.begin() as transaction:
            taken = write(connection, commit)
            if taken is not None:
                transaction.rollback()
            return taken

    def close(self) -> None:
        self.engine.dispose()


class _Transaction:
    """See `pipeline.store.transaction`. No text of ours has a `?` or `%` of its own."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def run(self, text: str, *values: Value) -> list[tuple[Any, ...]]:
        found = self._connection.exec_driver_sql(text.replace("?", "%s"), values)
        return [tuple(row) for row in found] if found.returns_rows else []


def _parsed(url: str, option: str) -> URL:
    wrong = f"{option} is no URL of PostgreSQL; write postgresql://user:password@host:5432/database"
    try:
        parsed = make_url(url)
    except (exc.ArgumentError, ValueError):
        raise ConfigError(wrong) from None  # its text would show the password
    if parsed.drivername not in ("postgresql", "postgres", "postgresql+psycopg"):
        raise ConfigError(wrong)
    return parsed.set(drivername="postgresql+psycopg")
