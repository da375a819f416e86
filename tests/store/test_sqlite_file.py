"""The state store's SQLite file: its lock, and what is wrong with it."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import cast

import pytest
from sqlalchemy import Connection

from pipeline.components import Payload
from pipeline.errors import StateError
from pipeline.store import migrations
from pipeline.store.database import connect_sqlite
from pipeline.store.migrations import STEPS
from pipeline.store.sqlite_writes import GONE
from pipeline.store.state import Ack, Commit, DeadLetter, OutboxRow, StateRow, StateStore

BEFORE_NUMBERS = """
DROP VIEW rows; DROP TABLE state_rows; DROP TABLE state_tables;
CREATE TABLE rows (shard TEXT NOT NULL, owner TEXT NOT NULL, name TEXT NOT NULL, "key" BLOB NOT NULL,
    version INTEGER NOT NULL, value BLOB NOT NULL, PRIMARY KEY (shard, owner, name, "key")) WITHOUT ROWID;
INSERT INTO rows VALUES ('s', 'a', 'x', X'01', 1, X'0a'), ('s', 'a', 'x', X'02', 2, X'0b');
INSERT INTO rows VALUES ('s', 'a', 'y', X'01', 1, X''), ('s', 'b', 'x', X'01', 1, X'0c');
INSERT INTO rows VALUES ('t', 'a', 'x', X'01', 1, X'0d');
UPDATE meta SET value = '3' WHERE key = 'schema_version';
"""
STORED = {
    "s": {
        ("a", "x"): [(b"\1", 1, b"\n"), (b"\2", 2, b"\v")],
        ("a", "y"): [(b"\1", 1, b"")],
        ("b", "x"): [(b"\1", 1, b"\f")],
    },
    "t": {("a", "x"): [(b"\1", 1, b"\r")]},
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "state.db"


def test_a_second_process_is_refused_and_told_who_has_it(path: Path) -> None:
    store = StateStore(path)
    with pytest.raises(StateError, match=r"in use by another dagtel \(pid \d+\)"):
        StateStore(path)
    store.close()
    StateStore(path).close()


@pytest.mark.parametrize("damage", [b"this is no database at all, and never was", b""])
def test_a_file_that_is_no_database_is_refused_with_what_to_do(path: Path, damage: bytes) -> None:
    StateStore(path).close()
    if damage:
        path.write_bytes(damage * 100)
        with pytest.raises(StateError, match=r"damaged.*nothing was changed.*backup"):
            StateStore(path)
        assert path.read_bytes() == damage * 100
    else:
        content = bytearray(path.read_bytes())
        content[4096:] = b"\xff" * (len(content) - 4096)
        path.write_bytes(bytes(content))
        with pytest.raises(StateError, match="damaged"):
            StateStore(path)


def test_rows_that_go_are_looked_up_and_not_searched_for(path: Path) -> None:
    """A state of a million rows would be read whole at each checkpoint."""
    StateStore(path).close()
    with closing(sqlite3.connect(path)) as connection:
        plan = connection.execute(f"EXPLAIN QUERY PLAN {GONE.sized(4)}", [0] * 5).fetchall()
    assert plan[0][3] == "SEARCH state_rows USING PRIMARY KEY (state_table=? AND key=?)"
    assert not any("SCAN state_rows" in step[3] for step in plan)


def test_what_is_deleted_is_not_written_once_more_and_nothing_goes_to_temporary_files(path: Path) -> None:
    StateStore(path).close()
    with closing(connect_sqlite(path)) as connection:
        asked = [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("secure_delete", "temp_store")]
    assert asked == [0, 2]


def test_a_statement_that_fails_in_the_middle_leaves_nothing(path: Path) -> None:
    store = StateStore(path)
    dead = [DeadLetter(id, 1, "c", "r", "d", "o", b"", kind) for id, kind in ((1, "item"), (2, cast("str", None)))]
    with pytest.raises(StateError):
        store.commit(Commit(outbox=[OutboxRow(1, "loki", Payload(b"x", 1))], dead=dead))
    assert (store.waiting(), store.dead_letters()) == ([], [])
    store.close()


def test_a_newer_schema_is_refused(path: Path) -> None:
    store = StateStore(path)
    store.close()
    with sqlite3.connect(path) as database:
        database.execute("UPDATE meta SET value = '99' WHERE key = 'schema_version'")
    database.close()
    with pytest.raises(StateError, match="schema 99"):
        StateStore(path)


def of_before_numbers(path: Path) -> None:
    StateStore(path).close()
    with closing(sqlite3.connect(path)) as database:
        database.executescript(BEFORE_NUMBERS)


def test_rows_that_named_their_tables_by_text_are_lifted(path: Path) -> None:
    of_before_numbers(path)
    store = StateStore(path)
    shards = store.take_shards(["s", "t"])
    assert {name: shard.rows for name, shard in shards.items()} == STORED
    rows = [StateRow("s", "a", "x", b"\1", 2, b"new"), StateRow("t", "a", "x", b"\1", 1, None)]
    store.commit(Commit(epochs={"s": 1, "t": 1}, rows=rows))
    assert store.take_shard("s").rows == {**STORED["s"], ("a", "x"): [(b"\1", 2, b"new"), (b"\2", 2, b"\v")]}
    assert store.take_shard("t").rows == {}
    store.close()


def test_a_store_whose_lifting_was_stopped_is_as_it_was(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    of_before_numbers(path)

    def stopped(connection: Connection) -> None:
        STEPS[3](connection)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(migrations, "STEPS", (*STEPS[:3], stopped))
        StateStore(path)
    with closing(sqlite3.connect(path)) as database:
        assert len(database.execute("SELECT * FROM rows").fetchall()) == 5
        assert not database.execute(
            "SELECT * FROM sqlite_schema WHERE name IN ('state_rows', 'state_tables')"
        ).fetchall()
    store = StateStore(path)
    assert store.take_shard("s").rows == STORED["s"]
    store.close()


def test_state_moves_to_an_owner_that_has_some(path: Path) -> None:
    of_before_numbers(path)
    store = StateStore(path)
    store.commit(Commit(rows=[StateRow("s", "b", "x", b"\1", 1, None), StateRow("s", "b", "x", b"\3", 1, b"mine")]))
    store.move("a", "b")
    assert store.owners() == {"b"}
    moved = {("b", name): rows for (owner, name), rows in STORED["s"].items() if owner == "a"}
    assert store.take_shard("s").rows == {**moved, ("b", "x"): [*moved["b", "x"], (b"\3", 1, b"mine")]}
    assert store.take_shard("t").rows == {("b", "x"): [(b"\1", 1, b"\r")]}
    store.close()


def test_a_store_of_the_first_schema_is_lifted_with_what_waits_in_it(path: Path) -> None:
    store = StateStore(path)
    store.commit(Commit(outbox=[OutboxRow(id, "loki", Payload(b"x", 1)) for id in (1, 2)]))
    store.commit(Commit(acks=[Ack(1, "loki", b"r")]))
    store.close()
    database = sqlite3.connect(path)
    database.executescript(
        "ALTER TABLE outbox DROP COLUMN shard; ALTER TABLE outbox DROP COLUMN epoch; "
        "CREATE TABLE old (exporter TEXT PRIMARY KEY, data BLOB NOT NULL); "
        "INSERT INTO old SELECT exporter, data FROM receipts; DROP TABLE receipts; ALTER TABLE old RENAME TO receipts; "
        "UPDATE meta SET value = '1' WHERE key = 'schema_version'"
    )
    database.close()
    again = StateStore(path)
    assert [row.id for row in again.take_shard("whole").waiting] == [2]
    assert again.receipts() == {"loki": b"r"}
    again.commit(Commit(acks=[Ack(2, "loki", b"s")]))
    assert again.receipts() == {"loki": b"s"}
    again.close()
