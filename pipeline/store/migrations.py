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


STEPS: Sequence[Step] = (_create, _shards_of_payloads, _commands)
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
