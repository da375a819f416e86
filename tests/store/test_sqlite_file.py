"""The state store's SQLite file: its lock, and what is wrong with it."""

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.components import Payload
from pipeline.errors import StateError
from pipeline.store.migrations import STEPS
from pipeline.store.records import SCHEMA
from pipeline.store.state import Ack, Commit, OutboxRow, StateStore


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


def test_a_newer_schema_is_refused(path: Path) -> None:
    store = StateStore(path)
    store.close()
    with sqlite3.connect(path) as database:
        database.execute("UPDATE meta SET value = '99' WHERE key = 'schema_version'")
    database.close()
    with pytest.raises(StateError, match="schema 99"):
        StateStore(path)


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


def test_a_start_on_a_store_of_this_schema_does_without_sqlalchemy(path: Path) -> None:
    """It is a quarter of what a start imports."""
    assert len(STEPS) == SCHEMA
    StateStore(path).close()
    code = (
        "import sys; from pathlib import Path; from pipeline.store.state import StateStore\n"
        "store = StateStore(Path(sys.argv[1])); store.take_shard('whole'); store.waiting(); store.receipts()\n"
        "store.owners(); store.to_replay(); store.close(); sys.exit('sqlalchemy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(path)], check=False).returncode == 0
