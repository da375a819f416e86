"""A state store of each kind, empty, that can be opened again."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import LiteralString, cast
from uuid import uuid4

import psycopg
import pytest

from pipeline.store.state import StateStore, open_state

Opens = Callable[[], StateStore]


class PostgresPlace:
    """A schema of its own in the server of DAGTEL_TEST_POSTGRES."""

    def __init__(self, server: str) -> None:
        self.server, self.schema = server, f"dagtel_{uuid4().hex}"

    def open(self) -> StateStore:
        return open_state("", self.server, self.schema)

    def execute(self, statement: str) -> None:
        """Run a statement in the schema, beside the store."""
        with psycopg.connect(self.server, autocommit=True) as connection:
            connection.execute(cast(LiteralString, f"SET search_path TO {self.schema}"))
            connection.execute(cast(LiteralString, statement))

    def drop(self) -> None:
        self.execute(f"DROP SCHEMA IF EXISTS {self.schema} CASCADE")


@pytest.fixture
def postgres() -> Iterator[PostgresPlace]:
    server = os.environ.get("DAGTEL_TEST_POSTGRES")
    if not server:
        pytest.skip("DAGTEL_TEST_POSTGRES names no PostgreSQL server")
    place = PostgresPlace(server)
    yield place
    place.drop()


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.integration)])
def opens(request: pytest.FixtureRequest, tmp_path: Path) -> Opens:
    """Opens the same store, as often as it is called."""
    if request.param == "postgresql":
        place: PostgresPlace = request.getfixturevalue("postgres")
        return place.open
    return lambda: StateStore(tmp_path / "folder" / "state.db")
