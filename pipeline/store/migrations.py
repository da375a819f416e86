"""Brings `state.db` to this program's schema, one numbered step after another, each in its own transaction."""

from collections.abc import Callable, Sequence

from sqlalchemy import Connection, Engine, insert, inspect, select, update

from pipeline.errors import StateError
from pipeline.store.schema import META, STATE

SCHEMA_VERSION = "schema_version"


def _create(connection: Connection) -> None:
    STATE.create_all(connection)
    connection.execute(insert(META).values(key=SCHEMA_VERSION, value="0"))


STEPS: Sequence[Callable[[Connection], None]] = (_create,)
"""Step n lifts a database from version n to n + 1. Steps are only ever added."""


def migrate(engine: Engine) -> None:
    """Apply the missing steps. Raises StateError for a database of a newer program."""
    version = _version(engine)
    if version > len(STEPS):
        raise StateError(
            f"the state store has schema {version}, this program knows {len(STEPS)}: run the newer program, "
            "or start with another service.state.path"
        )
    for number in range(version, len(STEPS)):
        with engine.begin() as connection:
            STEPS[number](connection)
            connection.execute(update(META).where(META.c.key == SCHEMA_VERSION).values(value=str(number + 1)))


def _version(engine: Engine) -> int:
    if not inspect(engine).has_table(META.name):
        return 0
    with engine.connect() as connection:
        value = connection.scalar(select(META.c.value).where(META.c.key == SCHEMA_VERSION))
    return int(value) if value is not None else 0
