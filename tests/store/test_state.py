"""The state store: one transaction is one moment."""

from pathlib import Path

import pytest

from pipeline.components import Payload, Position
from pipeline.errors import StateError
from pipeline.store.state import Ack, Commit, DeadLetter, OutboxRow, StateRow, StateStore


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "state.db"


def row(key: bytes, value: bytes | None, shard: str = "s") -> StateRow:
    return StateRow(shard, "processors.dedup", "lives", key, 1, value)


def letter(id: int, size: int = 4) -> DeadLetter:
    return DeadLetter(id, 5, "receivers.kafka", "no JSON", "", "events/0@7", b"x" * size)


def test_what_is_committed_is_there_after_a_restart(path: Path) -> None:
    store = StateStore(path)
    epoch = store.take_shard("s").epoch
    payload = Payload(b"body", 3, key="k", headers={"a": "b"})
    store.commit(
        Commit(
            epochs={"s": epoch},
            positions={"events/0": Position(8, at_ns=5, crc=9, note=b"n")},
            rows=[row(b"a", b"1"), row(b"b", b"2")],
            outbox=[OutboxRow(1, "loki", payload), OutboxRow(2, "jaeger", payload)],
            dead=[letter(1)],
        )
    )
    store.commit(Commit(epochs={"s": epoch}, rows=[row(b"a", b"3"), row(b"b", None)], acks=[Ack(1, "loki", b"r")]))
    store.close()
    again = StateStore(path)
    assert again.positions(["events/0", "events/1"]) == {"events/0": Position(8, at_ns=5, crc=9, note=b"n")}
    assert again.take_shard("s").rows == {("processors.dedup", "lives"): [(b"a", 1, b"3")]}
    assert [(w.id, w.exporter, w.size) for w in again.waiting()] == [(2, "jaeger", 4)]
    assert again.payload(2) == payload
    assert again.payload(1) is None
    assert again.receipts() == {"loki": b"r"}
    assert again.dead_letters() == [letter(1)]
    assert again.generation == 2
    again.close()


def test_an_owner_that_was_replaced_commits_nothing(path: Path) -> None:
    store = StateStore(path)
    old = store.take_shard("s").epoch
    new = store.take_shard("s").epoch
    with pytest.raises(StateError, match="taken over by another"):
        store.commit(Commit(epochs={"s": old}, rows=[row(b"a", b"1")], positions={"s": Position(1)}))
    assert store.positions(["s"]) == {}
    store.commit(Commit(epochs={"s": new}, rows=[row(b"a", b"1")]))
    store.close()


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
    with store._write() as tx:
        tx.exec_driver_sql("UPDATE meta SET value = '99' WHERE key = 'schema_version'")
    store.close()
    with pytest.raises(StateError, match="schema 99"):
        StateStore(path)


def test_state_moves_and_is_forgotten_by_owner(path: Path) -> None:
    store = StateStore(path)
    epoch = store.take_shard("s").epoch
    store.commit(Commit(epochs={"s": epoch}, rows=[row(b"a", b"1")]))
    assert store.owners() == {"processors.dedup"}
    store.move("processors.dedup", "processors.dedup/night")
    assert store.owners() == {"processors.dedup/night"}
    store.forget("processors.dedup/night")
    assert store.owners() == set()
    store.close()


def test_the_oldest_dead_letters_go_when_they_take_too_much_room(path: Path) -> None:
    store = StateStore(path)
    store.commit(Commit(dead=[letter(id, size=100) for id in range(1, 11)]))
    assert store.trim_dead_letters(450) == 6
    assert [d.id for d in store.dead_letters()] == [7, 8, 9, 10]
    assert store.trim_dead_letters(450) == 0
    assert [d.id for d in store.dead_letters(limit=1, after=8)] == [9]
    store.close()


@pytest.mark.parametrize("count", [1, 2, 3, 64, 65, 5000, 9000])
def test_a_commit_may_hold_any_number_of_rows(path: Path, count: int) -> None:
    store = StateStore(path)
    epoch = store.take_shard("s").epoch
    keys = [b"%06d" % n for n in range(count)]
    letters = [letter(id) for id in range(1, count + 1)]
    outbox = [OutboxRow(id, "loki", Payload(b"x", 1)) for id in range(1, count + 1)]
    store.commit(Commit(epochs={"s": epoch}, rows=[row(k, b"1") for k in keys], outbox=outbox, dead=letters))
    again = store.take_shard("s")
    assert again.rows == {("processors.dedup", "lives"): [(k, 1, b"1") for k in keys]}
    assert [w.id for w in store.waiting()] == list(range(1, count + 1))
    assert len(store.dead_letters(limit=count + 1)) == count
    acks = [Ack(id, "loki", b"r%d" % id) for id in range(1, count + 1)]
    changed = [row(k, None if n % 2 else b"2") for n, k in enumerate(keys)]
    store.commit(Commit(epochs={"s": again.epoch}, rows=changed, acks=acks))
    left = store.take_shard("s").rows[("processors.dedup", "lives")]
    assert left == [(k, 1, b"2") for n, k in enumerate(keys) if not n % 2]
    assert store.waiting() == []
    assert store.receipts() == {"loki": b"r%d" % count}
    store.close()


def test_a_commit_that_fails_in_the_middle_leaves_nothing(path: Path) -> None:
    store = StateStore(path)
    epoch = store.take_shard("s").epoch
    store.commit(Commit(dead=[letter(1)]))
    with pytest.raises(StateError):
        store.commit(Commit(epochs={"s": epoch}, rows=[row(b"a", b"1")], acks=[Ack(1, "loki")], dead=[letter(1)]))
    assert store.take_shard("s").rows == {}
    store.commit(Commit(rows=[row(b"a", b"1")]))
    store.close()


def test_an_acknowledgement_by_itself_is_a_commit(path: Path) -> None:
    store = StateStore(path)
    store.commit(Commit(outbox=[OutboxRow(id, "slack", Payload(b"x", 1)) for id in (1, 2, 3)]))
    store.commit(Commit(acks=[Ack(2, "slack")]))
    assert [w.id for w in store.waiting()] == [1, 3]
    store.commit(Commit(acks=[Ack(1, "slack"), Ack(3, "slack", b"r")]))
    assert store.waiting() == []
    assert store.receipts() == {"slack": b"r"}
    store.close()
