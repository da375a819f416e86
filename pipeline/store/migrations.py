"""Brings a state store to this program's schema, one numbered step after another, each in its own transaction.

The tables of `schema.py` are made by the first step as they are today; each later step changes what an older program
made, and finds nothing to do in a new store.
"""

from collections.abc import Callable, Sequence

from sqlalchemy import Connection, Engine, insert, inspect, select, update

from pipeline.errors import StateError
from pipeline.store.schema import COMMANDS, DEAD_LETTERS, META, OUTBOX, RECEIPTS, STATE

SCHEMA_VERSION = "schema_version"


def _create(connection: Connection) -> None:
    STATE.create_all(connection)
    connection.execute(insert(META).values(key=SCHEMA_VERSION, value="0"))


def _shards_of_payloads(connection: Connection) -> None:
    """Payloads and receipts of before there were several processes belong to the whole, in the one place."""
    if "shard" in _columns(connection, OUTBOX.name):
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
    if "kind" in _columns(connection, DEAD_LETTERS.name):
        return
    connection.exec_driver_sql("ALTER TABLE dead_letters ADD COLUMN kind TEXT NOT NULL DEFAULT ''")
    connection.exec_driver_sql("ALTER TABLE dead_letters ADD COLUMN shard TEXT NOT NULL DEFAULT ''")
    nothing = "BYTEA NOT NULL DEFAULT ''" if connection.dialect.name == "postgresql" else "BLOB NOT NULL DEFAULT X''"
    connection.exec_driver_sql(f"ALTER TABLE dead_letters ADD COLUMN again {nothing}")


STEPS: Sequence[Callable[[Connection], None]] = (_create, _shards_of_payloads, _commands)
"""Step n lifts a database from version n to n + 1. Steps are only ever added; `records.SCHEMA` counts them."""


def migrate(engine: Engine, alone: Callable[[Connection], None] = lambda connection: None) -> None:
    """Apply the missing steps; `alone` keeps other processes out until the transaction's end.

    Raises StateError for a database of a newer program.
    """
    version = _version(engine)
    if version > len(STEPS):
        raise StateError(
            f"the state store has schema {version}, this program knows {len(STEPS)}: run the newer program, "
            "or start with another service.state.path (service.state.postgresql.schema)"
        )
    for number in range(version, len(STEPS)):
        with engine.begin() as connection:
            alone(connection)
            if _stored_version(connection) == number:  # else another process was quicker
                STEPS[number](connection)
                connection.execute(update(META).where(META.c.key == SCHEMA_VERSION).values(value=str(number + 1)))


def is_current(engine: Engine) -> bool:
    """Whether the database has the schema that this program knows."""
    return _version(engine) == len(STEPS)


def _version(engine: Engine) -> int:
    with engine.connect() as connection:
        return _stored_version(connection)


def _stored_version(connection: Connection) -> int:
    if not inspect(connection).has_table(META.name):
        return 0
    value = connection.scalar(select(META.c.value).where(META.c.key == SCHEMA_VERSION))
    return int(value) if value is not None else 0


def _columns(connection: Connection, table: str) -> set[str]:
    return {column["name"] for column in inspect(connection).get_columns(table)}
