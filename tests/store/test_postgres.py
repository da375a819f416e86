"""The state store in PostgreSQL: several owners, a server that goes away, and what is wrong with it."""

import threading
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from pipeline.components import Payload
from pipeline.errors import ConfigError, RetryableError, StateError
from pipeline.store.state import Commit, OutboxRow, StateRow, StateStore, open_state

pytestmark = pytest.mark.integration

Place = Any
"""The fixture: a schema of its own."""


def row(key: bytes) -> StateRow:
    return StateRow("s", "processors.dedup", "lives", key, 1, b"v")


def in_thread(call: Callable[[], object]) -> tuple[threading.Thread, list[object]]:
    """A call on its way, and the list that gets what it gives or raises."""
    came: list[object] = []

    def run() -> None:
        try:
            came.append(call())
        except Exception as error:  # handed on
            came.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, came


def test_several_processes_that_start_at_once_make_one_schema_and_have_numbers_of_their_own(postgres: Place) -> None:
    running = [in_thread(postgres.open) for _ in range(5)]
    for thread, _ in running:
        thread.join()
    stores = [came for _, [came] in running]
    opened = [store for store in stores if isinstance(store, StateStore)]
    assert sorted(store.generation for store in opened) == [1, 2, 3, 4, 5], stores
    for store in opened:
        store.close()


def test_a_shard_is_not_taken_in_the_middle_of_its_owners_commit(postgres: Place) -> None:
    store = postgres.open()
    epoch = store.take_shard("s").epoch
    with psycopg.connect(postgres.server) as owner:  # what a commit does first, and then it is slow
        owner.execute(f"SET search_path TO {postgres.schema}")  # type: ignore[arg-type]
        found = owner.execute("SELECT epoch FROM shards WHERE shard = 's' FOR SHARE").fetchone()
        assert found == (epoch,)
        taking, came = in_thread(lambda: store.take_shard("s"))
        taking.join(0.3)
        assert taking.is_alive()
        owner.execute("INSERT INTO rows VALUES ('s', 'processors.dedup', 'lives', 'late', 1, 'v')")
        owner.commit()
        taking.join()
    [state] = came
    assert (state.epoch, state.rows) == (epoch + 1, {("processors.dedup", "lives"): [(b"late", 1, b"v")]})  # type: ignore[attr-defined]
    store.close()


def test_an_owner_that_stops_in_the_middle_of_a_commit_holds_a_shard_for_seconds_only(postgres: Place) -> None:
    store, other = postgres.open(), postgres.open()
    epoch = store.take_shard("s").epoch
    with pytest.raises(RetryableError), store._database.writing() as stopped:
        stopped.run("SELECT epoch FROM shards WHERE shard = 's' FOR SHARE")
        assert other.take_shard("s").epoch == epoch + 1
    with pytest.raises(StateError, match="taken over by another"):
        store.commit(Commit(epochs={"s": epoch}, rows=[row(b"a")]))
    store.close()
    other.close()


def test_of_two_owners_only_the_later_one_commits_whatever_happens_at_once(postgres: Place) -> None:
    stores = [postgres.open() for _ in range(3)]
    written: list[bytes] = []

    def own(store: StateStore, name: int) -> None:
        for round in range(15):
            epoch = store.take_shard("s").epoch
            rows = [row(b"%d-%d-%d" % (name, round, n)) for n in range(3)]
            try:
                store.commit(Commit(epochs={"s": epoch}, rows=rows))
            except StateError:
                continue
            written.extend(r.key for r in rows)

    running = [in_thread(lambda s=s, n=n: own(s, n)) for n, s in enumerate(stores)]  # type: ignore[misc]
    for thread, _ in running:
        thread.join()
    assert [came for _, [came] in running] == [None, None, None]
    stored = stores[0].take_shard("s")
    assert sorted(key for key, _, _ in stored.rows[("processors.dedup", "lives")]) == sorted(written)
    assert stored.epoch == 46
    for store in stores:
        store.close()


def test_sessions_that_the_server_ends_are_an_error_that_passes(postgres: Place) -> None:
    store = postgres.open()
    epoch = store.take_shard("s").epoch
    commit = Commit(epochs={"s": epoch}, outbox=[OutboxRow(1, "loki", Payload(b"x", 1), "s")])
    store.commit(commit)
    with store._database.engine.connect() as connection:
        pid = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar()
        postgres.execute(f"SELECT pg_terminate_backend({pid})")
        lost = pytest.raises(RetryableError, match=r"state store in PostgreSQL at .* cannot be used now")
        with lost, store._database.translating():
            connection.exec_driver_sql("SELECT 1")
    store.commit(commit)
    store.close()


def test_a_server_that_does_not_answer_is_named_without_the_password() -> None:
    with pytest.raises(RetryableError) as caught:
        open_state("", "postgresql://anna:sesame@127.0.0.1:1/prod", "dagtel")
    assert "the state store in PostgreSQL at 127.0.0.1:1/prod, schema dagtel, cannot be used now" in str(caught.value)
    assert "sesame" not in str(caught.value)


@pytest.mark.parametrize("url", ["mysql://anna:sesame@host/prod", "postgresql://anna:sesame@host:port/prod"])
def test_a_url_that_is_none_is_refused_without_the_password(url: str) -> None:
    with pytest.raises(ConfigError, match=r"write postgresql://user:password@host") as caught:
        open_state("", url, "dagtel")
    assert "sesame" not in str(caught.value)


def test_a_newer_schema_is_refused(postgres: Place) -> None:
    postgres.open().close()
    postgres.execute("UPDATE meta SET value = '99' WHERE key = 'schema_version'")
    with pytest.raises(StateError, match="has schema 99"):
        postgres.open()


def test_what_the_user_may_not_do_is_said(postgres: Place) -> None:
    postgres.open().close()
    role = f"{postgres.schema}_guest"
    postgres.execute(f"CREATE ROLE {role} LOGIN")
    try:
        guest = postgres.server.replace("//postgres@", f"//{role}@")
        with pytest.raises(StateError, match=rf"GRANT USAGE, CREATE ON SCHEMA {postgres.schema} TO {role}"):
            open_state("", guest, postgres.schema)
    finally:
        postgres.execute(f"DROP ROLE {role}")
