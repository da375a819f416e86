"""What is asked of a daemon beside it: dead letters are chosen, asked for again, dropped; on both databases."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.errors import StateError
from pipeline.store import commands
from pipeline.store.beside import open_beside
from pipeline.store.commands import Asked, Choice
from pipeline.store.postgres import PostgresSchema
from pipeline.store.state import Commit, DeadLetter, StateStore

POSTGRES = os.environ.get("DAGTEL_TEST_POSTGRES", "")


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[StateStore]:
    if request.param == "sqlite":
        store = StateStore(tmp_path / "state.db")
        yield store
        store.close()
        return
    if not POSTGRES:
        pytest.skip("DAGTEL_TEST_POSTGRES is not set: no PostgreSQL")
    database = PostgresSchema(POSTGRES, f"commands_{os.getpid()}")
    store = StateStore(database)
    yield store
    with store.engine.begin() as tx:
        tx.exec_driver_sql(f"DROP SCHEMA {database.schema} CASCADE")
    store.close()


def letter(
    id: int, component: str = "exporters.loki", reason: str = "refused: 400", kind: str = "payload"
) -> DeadLetter:
    return DeadLetter(id, id * 100, component, reason, "", "loki", b"body", kind, "whole", b"again")


def ids(store: StateStore, choice: Choice = Choice()) -> list[int]:  # noqa: B008  # frozen
    return [one.id for one in commands.listed(store.engine, choice, 100)]


def asked(store: StateStore) -> list[int]:
    return [one.id for one in store.to_replay(0)]


@pytest.mark.parametrize(
    ("choice", "chosen"),
    [
        (Choice(), [4, 3, 2, 1]),
        (Choice(ids=(2, 4, 99)), [4, 2]),
        (Choice(component="exporters.loki"), [4, 1]),
        (Choice(component="loki"), [4, 1]),
        (Choice(component="oki"), []),
        (Choice(reason="NOT json"), [2]),
        (Choice(reason="40_"), []),
        (Choice(since_ns=200, until_ns=400), [3, 2]),
        (Choice(component="loki", since_ns=200), [4]),
    ],
)
def test_letters_are_chosen_by_all_that_is_given(store: StateStore, choice: Choice, chosen: list[int]) -> None:
    dead = [
        letter(1),
        letter(2, "receivers.kafka", "not JSON: it ends"),
        letter(3, "exporters.loki/eu"),
        letter(4, reason="given up"),
    ]
    store.commit(Commit(dead=dead))
    assert ids(store, choice) == chosen
    assert commands.count(store.engine, choice) == len(chosen)


def test_a_replay_is_asked_for_once_and_the_letter_goes_with_the_commit_that_holds_its_effects(
    store: StateStore,
) -> None:
    dead = [letter(1), letter(2), letter(3, kind=""), letter(4, kind=commands.PART)]
    store.commit(Commit(dead=dead))
    assert commands.ask_for_replay(store.engine, Choice(), partly=False) == Asked(2, 0, 1, 1)
    assert commands.ask_for_replay(store.engine, Choice(), partly=True) == Asked(1, 2, 1, 0)
    assert store.to_replay(most=2) == dead[:2]
    assert store.to_replay(most_bytes=1) == dead[:1], "one at least, however large"
    assert store.to_replay(after=1, most_bytes=1) == dead[1:2]
    assert asked(store) == [1, 2, 4]
    store.commit(Commit(replayed=[1, 4], dead=[letter(9)]))
    assert asked(store) == [2]
    assert ids(store) == [9, 3, 2]
    store.commit(Commit(replayed=[1, 4], dead=[letter(9)]))  # the answer to the first commit was lost
    assert ids(store) == [9, 3, 2]
    store.withdraw_replays([2])
    assert asked(store) == []
    assert ids(store) == [9, 3, 2]


def test_what_is_to_be_replayed_cannot_be_dropped(store: StateStore) -> None:
    store.commit(Commit(dead=[letter(id) for id in range(1, 6)]))
    commands.ask_for_replay(store.engine, Choice(ids=(2, 3)), partly=False)
    assert commands.drop(store.engine, Choice(until_ns=500)) == (2, 2)
    assert ids(store) == [5, 3, 2]


def test_one_letter_comes_whole(store: StateStore) -> None:
    store.commit(Commit(dead=[letter(7)]))
    assert commands.one(store.engine, 7) == (letter(7), False)
    commands.ask_for_replay(store.engine, Choice(ids=(7,)), partly=False)
    assert commands.one(store.engine, 7) == (letter(7), True)
    assert commands.one(store.engine, 8) is None


def test_a_store_is_used_beside_its_owner_and_says_whether_it_has_one(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    store = StateStore(path)
    store.commit(Commit(dead=[letter(1)]))
    with open_beside(str(path)) as beside:
        assert beside.in_use
        assert commands.ask_for_replay(beside.engine, Choice(), partly=False).asked == 1
    assert asked(store) == [1]
    store.close()
    with open_beside(str(path)) as beside:
        assert not beside.in_use


def test_a_store_that_is_not_there_is_said_and_not_made(tmp_path: Path) -> None:
    with pytest.raises(StateError, match=r"no state store .*state\.db"), open_beside(str(tmp_path / "state.db")):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_store_of_another_version_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    store = StateStore(path)
    with store.engine.begin() as tx:
        tx.exec_driver_sql("UPDATE meta SET value = '1' WHERE key = 'schema_version'")
    store.close()
    with pytest.raises(StateError, match="another version"), open_beside(str(path)):
        pass


def test_a_store_of_before_there_was_a_replay_is_lifted_and_its_letters_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    store = StateStore(path)
    store.commit(Commit(dead=[letter(1)]))
    with store.engine.begin() as tx:
        for statement in (
            "DROP TABLE commands",
            "ALTER TABLE dead_letters DROP COLUMN kind",
            "ALTER TABLE dead_letters DROP COLUMN shard",
            "ALTER TABLE dead_letters DROP COLUMN again",
            "UPDATE meta SET value = '2' WHERE key = 'schema_version'",
        ):
            tx.exec_driver_sql(statement)
    store.close()
    store = StateStore(path)
    assert [(one.id, one.kind, one.body, one.again) for one in store.dead_letters()] == [(1, "", b"body", b"")]
    assert commands.ask_for_replay(store.engine, Choice(), partly=False) == Asked(0, 0, 1, 0)
    store.close()
