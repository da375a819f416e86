"""The steps of the history's schema, see `steps.py`."""

from collections.abc import Sequence
from typing import Final

from sqlalchemy import Connection, insert

from pipeline.store.history_schema import HISTORY, META, PARTS
from pipeline.store.steps import SCHEMA_VERSION, Step

KIND: Final = "kind"
HISTORY_KIND: Final = "history"
"""What `meta` says, so that no other database of ours is taken for a history."""


def _create(connection: Connection) -> None:
    HISTORY.create_all(connection)
    connection.execute(insert(META), [{"key": SCHEMA_VERSION, "value": "0"}, {"key": KIND, "value": HISTORY_KIND}])


def _fingerprints(connection: Connection) -> None:
    """What fingerprints are made of was not kept before: what is open gets it with its next failure."""
    PARTS.create(connection, checkfirst=True)


STEPS: Sequence[Step] = (_create, _fingerprints)
"""Step n lifts a history from version n to n + 1. Steps are only ever added."""
