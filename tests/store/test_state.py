"""The state store, in SQLite and in PostgreSQL alike: one transaction is one moment."""

from typing import Any

import msgspec
import pytest

from pipeline.components import Payload, Position
from pipeline.errors import StateError
from pipeline.store.state import Ack, Commit, DeadLetter, OutboxRow, StateRow, Waiting

Opens = Any
"""The fixture: opens the same store, as often as it is called."""


def row(key: bytes, value: bytes | None, shard: str = "s") -> StateRow:
    return StateRow(shard, "processors.dedup", "lives", key, 1, value)


def letter(id: int, size: int = 4) -> DeadLetter:
    return DeadLetter(id, 5, "receivers.kafka", "no JSON", "", "events/0@7", b"x" * size)


def test_what_is_committed_is_there_after_a_restart(opens: Opens) -> None:
    store = opens()
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
    again = opens()
    assert again.positions(["events/0", "events/1"]) == {"events/0": Position(8, at_ns=5, crc=9, note=b"n")}
    assert again.take_shard("s").rows == {("processors.dedup", "lives"): [(b"a", 1, b"3")]}
    assert [(w.id, w.exporter, w.size) for w in again.waiting()] == [(2, "jaeger", 4)]
    assert again.payload(2) == payload
    assert again.payload(1) is None
    assert again.receipts() == {"loki": b"r"}
    assert again.dead_letters() == [letter(1)]
    assert again.generation == 2
    again.close()


def test_rows_of_more_than_a_statement_takes_are_all_there_and_all_gone(opens: Opens) -> None:
    store = opens()
    epochs = {shard: store.take_shard(shard).epoch for shard in ("s", "t")}
    tables = [(shard, name) for shard in ("s", "t") for name in ("lives", "past")]
    keys = [b"%d" % n for n in range(1100)]

    def rows(value: bytes | None) -> list[StateRow]:
        return [StateRow(shard, "processors.dedup", name, key, 1, value) for key in keys for shard, name in tables]

    store.commit(Commit(epochs=epochs, rows=rows(b"v")))
    every = sorted((key, 1, b"v") for key in keys)
    found = store.take_shard("s").rows, store.take_shard("t").rows
    for by_table in found:
        assert {name: sorted(stored) for (_, name), stored in by_table.items()} == {"lives": every, "past": every}
    epochs = {shard: store.take_shard(shard).epoch for shard in ("s", "t")}
    store.commit(Commit(epochs=epochs, rows=[*rows(None), row(b"left", b"w")]))
    assert store.take_shard("s").rows == {("processors.dedup", "lives"): [(b"left", 1, b"w")]}
    assert store.take_shard("t").rows == {}
    store.close()


def test_payloads_of_more_bytes_than_a_statement_takes_are_all_there(opens: Opens) -> None:
    store = opens()
    epoch = store.take_shard("s").epoch
    bodies = [bytes([n]) * size for n, size in enumerate((700_000, 700_000, 10, 2_500_000, 0, 600_000))]
    rows = [OutboxRow(n, "loki", Payload(body, 1), "s") for n, body in enumerate(bodies, start=1)]
    store.commit(Commit(epochs={"s": epoch}, outbox=rows))
    assert [(w.id, w.size) for w in store.waiting()] == [(n, len(body)) for n, body in enumerate(bodies, start=1)]
    assert [store.payload(row.id) for row in rows] == [row.payload for row in rows]
    store.close()


@pytest.mark.parametrize("count", [1, 3, 5000, 20_000])
def test_of_many_rows_those_that_are_gone_go_and_no_others(opens: Opens, count: int) -> None:
    store = opens()
    epoch = store.take_shard("s").epoch
    keys = [b"%d" % n for n in range(count)]
    rows = [msgspec.structs.replace(row(key, b"1"), name=name) for name in ("lives", "past") for key in keys]
    store.commit(Commit(epochs={"s": epoch}, rows=rows))
    gone = [msgspec.structs.replace(r, value=None) for r in rows if r.name == "lives" or r.key == b"0"]
    store.commit(Commit(epochs={"s": epoch}, rows=[*gone[1:], row(b"never there", None)]))
    left = {name: {key for key, _, _ in found} for (_, name), found in store.take_shard("s").rows.items()}
    assert left == {table: names for table, names in (("lives", {b"0"}), ("past", set(keys[1:]))) if names}
    store.close()


def test_an_owner_that_was_replaced_commits_nothing(opens: Opens) -> None:
    store = opens()
    old = store.take_shard("s").epoch
    new = store.take_shard("s").epoch
    with pytest.raises(StateError, match="taken over by another"):
        store.commit(Commit(epochs={"s": old}, rows=[row(b"a", b"1")], positions={"s": Position(1)}))
    assert store.positions(["s"]) == {}
    store.commit(Commit(epochs={"s": new}, rows=[row(b"a", b"1")]))
    store.close()


def test_state_moves_and_is_forgotten_by_owner(opens: Opens) -> None:
    store = opens()
    epoch = store.take_shard("s").epoch
    store.commit(Commit(epochs={"s": epoch}, rows=[row(b"a", b"1")]))
    assert store.owners() == {"processors.dedup"}
    store.move("processors.dedup", "processors.dedup/night")
    assert store.owners() == {"processors.dedup/night"}
    store.forget("processors.dedup/night")
    assert store.owners() == set()
    store.close()


def test_the_oldest_dead_letters_go_when_they_take_too_much_room(opens: Opens) -> None:
    store = opens()
    store.commit(Commit(dead=[letter(id, size=100) for id in range(1, 11)]))
    assert store.trim_dead_letters(450) == 6
    assert [d.id for d in store.dead_letters()] == [7, 8, 9, 10]
    assert store.trim_dead_letters(450) == 0
    assert [d.id for d in store.dead_letters(limit=1, after=8)] == [9]
    store.close()


@pytest.mark.parametrize("count", [1, 2, 3, 64, 65, 5000, 9000])
def test_a_commit_may_hold_any_number_of_rows(opens: Opens, count: int) -> None:
    store = opens()
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


def test_a_commit_that_fails_in_the_middle_leaves_nothing(opens: Opens) -> None:
    store = opens()
    epoch = store.take_shard("s").epoch
    too_large = msgspec.structs.replace(letter(1), at_ns=1 << 70)
    with pytest.raises((StateError, OverflowError)):
        store.commit(Commit(epochs={"s": epoch}, rows=[row(b"a", b"1")], dead=[too_large]))
    assert store.take_shard("s").rows == {}
    store.commit(Commit(rows=[row(b"a", b"1")]))
    store.close()


def test_an_acknowledgement_by_itself_is_a_commit(opens: Opens) -> None:
    store = opens()
    store.commit(Commit(outbox=[OutboxRow(id, "slack", Payload(b"x", 1)) for id in (1, 2, 3)]))
    store.commit(Commit(acks=[Ack(2, "slack")]))
    assert [w.id for w in store.waiting()] == [1, 3]
    store.commit(Commit(acks=[Ack(1, "slack"), Ack(3, "slack", b"r")]))
    assert store.waiting() == []
    assert store.receipts() == {"slack": b"r"}
    store.close()


def test_whoever_takes_a_shard_on_gets_its_state_position_and_payloads_and_no_others(opens: Opens) -> None:
    store = opens()
    epochs = {shard: state.epoch for shard, state in store.take_shards(["events/0", "events/1"]).items()}
    assert epochs == {"events/0": 1, "events/1": 1}
    payload = Payload(b"x", 1)
    store.commit(
        Commit(
            epochs=epochs,
            positions={"events/0": Position(8), "events/1": Position(9)},
            rows=[row(b"a", b"1", "events/0"), row(b"a", b"2", "events/1")],
            outbox=[OutboxRow(7, "loki", payload, "events/0"), OutboxRow(8, "loki", payload, "events/1")],
        )
    )
    taken = store.take_shards(["events/1", "events/2"])
    assert (taken["events/1"].epoch, taken["events/2"].epoch) == (2, 1)
    assert taken["events/1"].position == Position(9)
    assert taken["events/1"].rows == {("processors.dedup", "lives"): [(b"a", 1, b"2")]}
    assert taken["events/1"].waiting == [Waiting(8, "loki", 1, "events/1")]
    assert (taken["events/2"].position, taken["events/2"].rows, taken["events/2"].waiting) == (None, {}, [])
    assert store.taken_over({"events/0": 1, "events/1": 2}) is None
    assert store.taken_over(epochs) == "events/1"
    store.close()


def test_payloads_go_out_in_the_order_of_building_also_when_the_later_owner_started_first(opens: Opens) -> None:
    store = opens()
    first = store.take_shard("s").epoch
    store.commit(Commit(epochs={"s": first}, outbox=[OutboxRow(7 << 40, "loki", Payload(b"x", 1), "s")]))
    second = store.take_shard("s").epoch
    store.commit(Commit(epochs={"s": second}, outbox=[OutboxRow(5 << 40, "loki", Payload(b"x", 1), "s")]))
    assert [waits.id for waits in store.take_shard("s").waiting] == [7 << 40, 5 << 40]
    store.close()


def test_an_acknowledgement_of_an_owner_that_was_replaced_changes_nothing(opens: Opens) -> None:
    store = opens()
    old = store.take_shard("s").epoch
    store.commit(Commit(epochs={"s": old}, outbox=[OutboxRow(1, "slack", Payload(b"x", 1), "s")]))
    store.take_shard("s")
    with pytest.raises(StateError, match="taken over by another"):
        store.commit(Commit(epochs={"s": old}, acks=[Ack(1, "slack", b"r", "s")]))
    assert [waits.id for waits in store.waiting()] == [1]
    assert store.receipts() == {}
    store.close()


def test_a_commit_whose_answer_was_lost_can_be_written_again(opens: Opens) -> None:
    store = opens()
    epoch = store.take_shard("s").epoch
    commit = Commit(
        epochs={"s": epoch},
        positions={"s": Position(3)},
        rows=[row(b"a", b"1")],
        outbox=[OutboxRow(1, "loki", Payload(b"x", 1), "s")],
        acks=[Ack(9, "loki", b"r", "s")],
        dead=[letter(2)],
    )
    store.commit(commit)
    store.commit(commit)
    assert [waits.id for waits in store.waiting()] == [1]
    assert store.dead_letters() == [letter(2)]
    store.close()


def test_receipts_of_one_exporter_in_two_places_are_two(opens: Opens) -> None:
    store = opens()
    store.commit(Commit(acks=[Ack(1, "file", b"a", place="host-0"), Ack(2, "file", b"b", place="host-1")]))
    assert store.receipts("host-0") == {"file": b"a"}
    assert store.receipts("host-1") == {"file": b"b"}
    assert store.receipts() == {}
    store.close()


def test_a_dead_letter_may_hold_any_text(opens: Opens) -> None:
    store = opens()
    store.commit(Commit(dead=[DeadLetter(1, 5, "c", "no \0 and \ud800", "d\0", "o", b"\0\xff")]))
    [kept] = store.dead_letters()
    assert (kept.reason, kept.detail, kept.body) == ("no \ufffd and ?", "d\ufffd", b"\0\xff")
    store.close()


def test_a_shards_time_is_stored_beside_its_position_which_stays_as_it_was_given(opens: Opens) -> None:
    store = opens()
    store.take_shards(["events/0", "whole"])
    store.commit(Commit(positions={"events/0": Position(8, at_ns=5)}, times={"events/0": 9, "whole": 7}))
    store.commit(Commit(positions={"events/1": Position(1, at_ns=3)}))
    store.close()
    again = opens()
    assert again.positions(["events/0"]) == {"events/0": Position(8, at_ns=5)}
    taken = again.take_shards(["events/0", "events/1", "whole"])
    assert [(taken[shard].position, taken[shard].time_ns) for shard in sorted(taken)] == [
        (Position(8, at_ns=5), 9),
        (Position(1, at_ns=3), 0),
        (Position(0), 7),
    ]
    again.close()
