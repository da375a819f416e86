"""The steps of the history's schema, see `steps.py`."""

from collections.abc import Sequence

from sqlalchemy import Connection, insert

from pipeline.store.history_schema import HISTORY, META, PARTS
from pipeline.store.steps import SCHEMA_VERSION, Step


def _create(connection: Connection) -> None:
    HISTORY.create_all(connection)
    connection.execute(insert(META).values(key=SCHEMA_VERSION, value="0"))


def _fingerprints(connection: Connection) -> None:
    """What fingerprints are made of was not kept before: what is open gets it with its next failure."""
    PARTS.create(connection, checkfirst=True)


STEPS: Sequence[Step] = (_create, _fingerprints)
"""Step n lifts a history from version n to n + 1. Steps are only ever added."""
