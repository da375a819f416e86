"""SQLite files that somebody else may write at any moment."""

import os
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from pipeline.clock import SECOND
from pipeline.dagster_files import ask


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """At rest for ten seconds, with one row."""
    path = tmp_path / "runs.db"
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("CREATE TABLE runs (id INTEGER)")
        database.execute("INSERT INTO runs VALUES (1)")
        database.commit()
    os.utime(path, ns=(time.time_ns() - 10 * SECOND,) * 2)
    return path


def rows(database: sqlite3.Connection) -> list[int]:
    return [id for (id,) in database.execute("SELECT id FROM runs ORDER BY id")]


@pytest.mark.parametrize("torn", [False, True])
def test_what_was_read_while_it_was_written_counts_no_more_than_the_error_that_came_of_it(
    file: Path, torn: bool
) -> None:
    calls = 0

    def question(database: sqlite3.Connection) -> list[int]:
        nonlocal calls
        calls += 1
        found = rows(database)
        if calls == 1:
            with closing(sqlite3.connect(file)) as writer:
                writer.execute("INSERT INTO runs VALUES (2)")
                writer.commit()
            if torn:
                raise sqlite3.DatabaseError("database disk image is malformed")
        return found

    assert ask(file, question, time.time_ns(), insist=True) == [1, 2]
    assert calls == 2


def test_an_error_of_a_file_at_rest_is_one(file: Path) -> None:
    def question(database: sqlite3.Connection) -> list[int]:
        raise sqlite3.DatabaseError("database disk image is malformed")

    with pytest.raises(sqlite3.DatabaseError, match="malformed"):
        ask(file, question, time.time_ns(), insist=True)


def test_a_file_at_rest_is_read_and_nothing_is_left_beside_it(file: Path) -> None:
    assert ask(file, rows, time.time_ns(), insist=False) == [1]
    assert [path.name for path in file.parent.iterdir()] == ["runs.db"]
