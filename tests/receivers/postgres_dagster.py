"""A database with Dagster's tables, new for each test. The server is that of DAGTEL_TEST_POSTGRES."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import LiteralString, cast
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import psycopg
import pytest

from pipeline.options import Secret

TABLES: tuple[LiteralString, ...] = (  # as Dagster's own schema makes them
    "CREATE TABLE event_logs (id BIGSERIAL PRIMARY KEY, run_id VARCHAR(255), event TEXT NOT NULL, "
    "dagster_event_type TEXT, timestamp TIMESTAMP, step_key TEXT, asset_key TEXT, partition TEXT)",
    "CREATE TABLE runs (id BIGSERIAL PRIMARY KEY, run_id VARCHAR(255) UNIQUE, run_body TEXT)",
    "CREATE TABLE run_tags (id BIGSERIAL PRIMARY KEY, run_id VARCHAR(255), key TEXT, value TEXT)",
)


class PostgresDagster:
    """Stores as Dagster does: one insert, committed at once."""

    def __init__(self, url: str) -> None:
        self.url = Secret(url)
        self.database = self.connect()

    def connect(self) -> psycopg.Connection:
        return psycopg.connect(self.url.reveal(), autocommit=True)

    def store(self, *events: str, run: str = "r") -> None:
        for event in events:
            self.database.execute("INSERT INTO event_logs (run_id, event) VALUES (%s, %s)", (run, event))

    def add_run(self, run: str, **tags: str) -> None:
        body = json.dumps({"__class__": "PipelineRun", "tags": {}, "root_run_id": "root"})
        self.database.execute("INSERT INTO runs (run_id, run_body) VALUES (%s, %s)", (run, body))
        for key, value in tags.items():
            self.database.execute("INSERT INTO run_tags (run_id, key, value) VALUES (%s, %s, %s)", (run, key, value))

    def stored(self) -> list[int]:
        return [id for (id,) in self.database.execute("SELECT id FROM event_logs ORDER BY id")]


@contextmanager
def new_database(tables: bool = True) -> Iterator[PostgresDagster]:
    """A database of its own; the test is skipped where there is no server."""
    server = os.environ.get("DAGTEL_TEST_POSTGRES")
    if not server:
        pytest.skip("DAGTEL_TEST_POSTGRES names no PostgreSQL server")
    name = f"dagtel_{uuid4().hex}"
    with psycopg.connect(server, autocommit=True) as admin:
        admin.execute(cast(LiteralString, f"CREATE DATABASE {name}"))
        dagster = PostgresDagster(urlunsplit(urlsplit(server)._replace(path=f"/{name}")))
        try:
            for table in TABLES if tables else ():
                dagster.database.execute(table)
            yield dagster
        finally:
            dagster.database.close()
            admin.execute(cast(LiteralString, f"DROP DATABASE {name} WITH (FORCE)"))
