"""Brings a database to this program's schema, one numbered step after another, each in its own transaction.

Its version stands in its table `meta`. The first step makes the tables as they are today; each later one changes what
an older program made, and finds nothing to do in a new database.
"""

from collections.abc import Callable, Sequence
from typing import Final

from sqlalchemy import Connection, Engine, Table, inspect, select, update

from pipeline.errors import StateError

SCHEMA_VERSION: Final = "schema_version"

Step = Callable[[Connection], None]


def climb(
    engine: Engine,
    meta: Table,
    steps: Sequence[Step],
    newer: Callable[[int, int], str],
    alone: Callable[[Connection], None] = lambda connection: None,
) -> None:
    """Apply the missing steps; `alone` keeps other processes out until the transaction's end.

    Raises StateError, with what `newer` says of its version and ours, for a database of a newer program.
    """
    version = version_of(engine, meta)
    if version > len(steps):
        raise StateError(newer(version, len(steps)))
    for number in range(version, len(steps)):
        with engine.begin() as connection:
            alone(connection)
            if _stored_version(connection, meta) == number:  # else another process was quicker
                steps[number](connection)
                connection.execute(update(meta).where(meta.c.key == SCHEMA_VERSION).values(value=str(number + 1)))


def version_of(engine: Engine, meta: Table) -> int:
    """The version of the schema that is there; 0 for none."""
    with engine.connect() as connection:
        return _stored_version(connection, meta)


def _stored_version(connection: Connection, meta: Table) -> int:
    if not inspect(connection).has_table(meta.name):
        return 0
    value = connection.scalar(select(meta.c.value).where(meta.c.key == SCHEMA_VERSION))
    return int(value) if value is not None else 0


def columns_of(connection: Connection, table: str) -> set[str]:
    """The names of a table's columns; none where there is no such table."""
    there = inspect(connection)
    return {column["name"] for column in there.get_columns(table)} if there.has_table(table) else set()
