"""The steps of the state store's schema, see `steps.py`."""

from collections.abc import Callable, Sequence

from sqlalchemy import Connection, Engine, insert

from pipeline.store.records import SCHEMA
from pipeline.store.schema import COMMANDS, DEAD_LETTERS, META, OUTBOX, RECEIPTS, STATE
from pipeline.store.steps import SCHEMA_VERSION, Step, climb, columns_of, version_of


def _create(connection: Connection) -> None:
    STATE.create_all(connection)
    connection.execute(insert(META).values(key=SCHEMA_VERSION, value="0"))


def _shards_of_payloads(connection: Connection) -> None:
    """Payloads and receipts of before there were several processes belong to the whole, in the one place."""
    if "shard" in columns_of(connection, OUTBOX.name):
        return
    connection.exec_driver_sql("ALTER TABLE outbox ADD COLUMN shard TEXT NOT NULL DEFAULT 'whole'")
    connection.exec_driver_sql("ALTER TABLE outbox ADD COLUMN epoch BIGINT NOT NULL DEFAULT 0")
    connection.exec_driver_sql("ALTER TABLE receipts RENAME TO receipts_before")
    RECEIPTS.create(connection)
    connection.exec_driver_sql("INSERT INTO receipts (exporter, data) SELECT exporter, data FROM receipts_before")
    connection.exec_driver_sql("DROP TABLE receipts_before")


def _commands(connection: Connection) -> None:
    """Dead letters of before there was a replay cannot be replayed: their `kind` is empty."""
    COMMANDS.create(connection, checkfirst=True)
    if "kind" in columns_of(connection, DEAD_LETTERS.name):
        return
    connection.exec_driver_sql("ALTER TABLE dead_letters ADD COLUMN kind TEXT NOT NULL DEFAULT ''")
    connection.exec_driver_sql("ALTER TABLE dead_letters ADD COLUMN shard TEXT NOT NULL DEFAULT ''")
    nothing = "BYTEA NOT NULL DEFAULT ''" if connection.dialect.name == "postgresql" else "BLOB NOT NULL DEFAULT X''"
    connection.exec_driver_sql(f"ALTER TABLE dead_letters ADD COLUMN again {nothing}")


def _numbered_tables(connection: Connection) -> None:
    """In SQLite a row names its table by a number, and not by its shard, owner and name: a fifth less to write, less
    to compare. `rows` shows them as PostgreSQL has them."""
    if connection.dialect.name != "sqlite" or columns_of(connection, "state_rows"):
        return
    for statement in (
        "CREATE TABLE state_tables (id INTEGER PRIMARY KEY, shard TEXT NOT NULL, owner TEXT NOT NULL, "
        "name TEXT NOT NULL, UNIQUE (shard, owner, name))",
        'CREATE TABLE state_rows (state_table INTEGER NOT NULL, "key" BLOB NOT NULL, version INTEGER NOT NULL, '
        'value BLOB NOT NULL, PRIMARY KEY (state_table, "key")) WITHOUT ROWID',
        "INSERT INTO state_tables (shard, owner, name) SELECT DISTINCT shard, owner, name FROM rows ORDER BY 1, 2, 3",
        'INSERT INTO state_rows SELECT id, "key", version, value '
        "FROM state_tables CROSS JOIN rows USING (shard, owner, name)",
        "DROP TABLE rows",
        'CREATE VIEW rows AS SELECT shard, owner, name, "key", version, value '
        "FROM state_tables CROSS JOIN state_rows ON state_table = id",  # CROSS: in this order
    ):
        connection.exec_driver_sql(statement)


STEPS: Sequence[Step] = (_create, _shards_of_payloads, _commands, _numbered_tables)
"""Step n lifts a database from version n to n + 1. Steps are only ever added."""
assert len(STEPS) == SCHEMA


def migrate(engine: Engine, alone: Callable[[Connection], None] = lambda connection: None) -> None:
    """Apply the missing steps; `alone` keeps other processes out until the transaction's end.

    Raises StateError for a database of a newer program.
    """
    climb(engine, META, STEPS, _newer, alone)


def is_current(engine: Engine) -> bool:
    """Whether the database has the schema that this program knows."""
    return version_of(engine, META) == len(STEPS)


def _newer(version: int, known: int) -> str:
    return (
        f"the state store has schema {version}, this program knows {known}: run the newer program, "
        "or start with another service.state.path (service.state.postgresql.schema)"
    )
