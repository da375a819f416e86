"""A tail of Dagster's PostgreSQL table loses no row, whoever commits when."""

import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from random import Random

import anyio
import pytest

from pipeline.clock import SystemClock
from pipeline.components import Position
from pipeline.dagster_sql import PostgresRunRows, open_postgres
from pipeline.errors import PermanentError, RetryableError
from pipeline.options import Secret
from pipeline.run_rows import RunRow
from pipeline.testing.clock import VirtualClock
from pipeline.testing.context import FakeContext
from receivers import dagster_postgres
from receivers.dagster_gaps import GapMetrics
from receivers.dagster_page import Limits, StoredEvent
from receivers.dagster_postgres import OnRecreated, PostgresTail, open_postgres_tail
from tests.receivers.postgres_dagster import PostgresDagster, new_database

pytestmark = pytest.mark.integration


@pytest.fixture
def dagster() -> Iterator[PostgresDagster]:
    with new_database() as made:
        yield made


@asynccontextmanager
async def tail_of(
    dagster: PostgresDagster,
    stored: Position | None = None,
    clock: VirtualClock | SystemClock | None = None,
    *,
    rows: int = 1000,
    size: int = 1 << 24,
    gaps: int = 1000,
    from_now: bool = False,
    on_recreated: OnRecreated = "fail",
) -> AsyncIterator[PostgresTail]:
    limits = Limits(rows=rows, bytes=size, gap_timeout_s=60, gaps=gaps)
    async with open_postgres(dagster.url) as database:
        yield await open_postgres_tail(
            database,
            limits,
            clock or SystemClock(),
            GapMetrics(FakeContext()),
            stored,
            from_now=from_now,
            on_recreated=on_recreated,
        )


async def ids(tail: PostgresTail) -> list[int]:
    return [row.id for row in (await tail.read()).rows]


@pytest.mark.anyio
async def test_rows_come_by_id_with_their_bytes_untouched(dagster: PostgresDagster) -> None:
    dagster.store('{"ü": "✓ 注文"}', "no json \\x", "")
    dagster.database.execute("INSERT INTO event_logs (run_id, event) VALUES (NULL, '{}')")
    async with tail_of(dagster) as tail:
        page = await tail.read()
    assert [(row.id, row.run_id, row.raw) for row in page.rows] == [
        (1, "r", '{"ü": "✓ 注文"}'.encode()),
        (2, "r", b"no json \\x"),
        (3, "r", b""),
        (4, "", b"{}"),
    ]
    assert not page.behind


@pytest.mark.anyio
async def test_a_page_ends_at_its_rows_and_at_its_bytes(dagster: PostgresDagster) -> None:
    dagster.store(*["x" * 100] * 7)
    async with tail_of(dagster, rows=3) as tail:
        assert [await ids(tail) for _ in range(4)] == [[1, 2, 3], [4, 5, 6], [7], []]
    async with tail_of(dagster, size=250) as tail:
        assert [await ids(tail) for _ in range(4)] == [[1, 2, 3], [4, 5, 6], [7], []]
    async with tail_of(dagster, size=1) as tail:
        assert [(await tail.read()).behind for _ in range(8)] == [True] * 7 + [False]


@pytest.mark.anyio
async def test_an_insert_that_commits_late_is_read_where_a_cursor_alone_loses_it(dagster: PostgresDagster) -> None:
    slow = dagster.connect()
    slow.autocommit = False
    slow.execute("INSERT INTO event_logs (run_id, event) VALUES ('r', 'slow')")
    dagster.store("fast")
    async with tail_of(dagster) as tail:
        assert await ids(tail) == [2]
        slow.commit()
        dagster.store("next")
        assert await ids(tail) == [1, 3]
        assert len(tail.gaps) == 0
    slow.close()


@pytest.mark.anyio
async def test_gaps_outlive_a_restart(dagster: PostgresDagster) -> None:
    slow = dagster.connect()
    slow.autocommit = False
    slow.execute("INSERT INTO event_logs (run_id, event) VALUES ('r', 'slow')")
    dagster.store("fast")
    async with tail_of(dagster) as tail:
        await tail.read()
        stored = tail.position(0)
    slow.commit()
    slow.close()
    async with tail_of(dagster, stored) as tail:
        assert await ids(tail) == [1]


@pytest.mark.anyio
async def test_rows_that_show_late_count_towards_a_page_and_come_before_the_rows_after_them(
    dagster: PostgresDagster,
) -> None:
    slow = dagster.connect()
    slow.autocommit = False
    for _ in range(5):
        slow.execute("INSERT INTO event_logs (run_id, event) VALUES ('r', %s)", ("x" * 100,))
    dagster.store("fast")
    async with tail_of(dagster, rows=2) as by_rows, tail_of(dagster, size=150) as by_bytes:
        assert (await ids(by_rows), await ids(by_bytes)) == ([6], [6])
        slow.commit()
        slow.close()
        dagster.store("x" * 100)
        pages = [await by_rows.read() for _ in range(4)]
        assert [[row.id for row in page.rows] for page in pages] == [[1, 2], [3, 4], [5, 7], []]
        assert [page.behind for page in pages] == [True, True, True, False]
        assert [await ids(by_bytes) for _ in range(4)] == [[1, 2], [3, 4], [5, 7], []]


@pytest.mark.anyio
async def test_a_hole_that_nobody_can_fill_is_given_up_with_the_next_read_and_the_position_says_so(
    dagster: PostgresDagster,
) -> None:
    dagster.store(*["x"] * 4)
    dagster.database.execute("DELETE FROM event_logs WHERE id = 2")
    with dagster.connect() as other:
        other.autocommit = False
        other.execute("INSERT INTO event_logs (run_id, event) VALUES ('r', 'never')")
        other.rollback()
    dagster.store("x")
    async with tail_of(dagster, clock=VirtualClock()) as tail:
        assert (await ids(tail), tail.gaps.ids()) == ([1, 3, 4, 6], [2, 5])
        page = await tail.read()
        assert (page.rows, page.moved, tail.gaps.ids(), tail.gaps.expired) == ([], True, [], 2)


@pytest.mark.anyio
async def test_an_insert_is_waited_for_as_long_as_it_takes_also_over_a_restart(dagster: PostgresDagster) -> None:
    """Others come and go meanwhile, and one that began later is not waited for."""
    slow, later = dagster.connect(), dagster.connect()
    slow.autocommit = later.autocommit = False
    slow.execute("INSERT INTO event_logs (run_id, event) VALUES ('r', 'slow')")
    with dagster.connect() as other:
        other.autocommit = False
        other.execute("INSERT INTO event_logs (run_id, event) VALUES ('r', 'never')")
        dagster.store("fast")
        clock = VirtualClock()
        async with tail_of(dagster, clock=clock) as tail:
            assert (await ids(tail), tail.gaps.ids()) == ([3], [1, 2])
            clock.advance(3600)
            assert (await ids(tail), tail.gaps.ids()) == ([], [1, 2])
            stored = tail.position(0)
        later.execute("INSERT INTO event_logs (run_id, event) VALUES ('r', 'later')")
        other.rollback()
    async with tail_of(dagster, stored, clock=clock) as tail:
        clock.advance(3600)
        assert (await ids(tail), tail.gaps.ids()) == ([], [1, 2]), "nobody knows which of the two open ones has which"
        slow.commit()
        assert (await ids(tail), tail.gaps.ids()) == ([1], [2]), "the later one might have it, too"
        later.commit()
        assert (await ids(tail), tail.gaps.ids(), tail.gaps.expired) == ([4], [2], 0)
        assert (await ids(tail), tail.gaps.ids(), tail.gaps.expired) == ([], [], 1)
    slow.close()
    later.close()


@pytest.mark.anyio
async def test_a_user_who_may_not_see_locks_reads_all_the_same(
    dagster: PostgresDagster, monkeypatch: pytest.MonkeyPatch
) -> None:
    dagster.store(*["x"] * 3)
    dagster.database.execute("DELETE FROM event_logs WHERE id = 2")
    monkeypatch.setattr(dagster_postgres, "_WRITERS", "SELECT no_such_column FROM pg_locks")
    clock = VirtualClock()
    async with tail_of(dagster, clock=clock) as tail:
        assert (await ids(tail), tail.gaps.ids()) == ([1, 3], [2])
        clock.advance(60)
        assert (await ids(tail), tail.gaps.ids()) == ([], [])


@pytest.mark.anyio
async def test_where_locks_do_not_tell_a_hole_is_given_up_after_a_time_that_counts_from_the_start(
    dagster: PostgresDagster,
) -> None:
    dagster.database.execute("ALTER SEQUENCE event_logs_id_seq CACHE 2")
    dagster.store(*["x"] * 6)
    dagster.database.execute("DELETE FROM event_logs WHERE id IN (2, 5)")
    clock = VirtualClock()
    async with tail_of(dagster, rows=2, clock=clock) as tail:
        assert (await ids(tail), tail.gaps.ids()) == ([1, 3], [2])
        clock.advance(59)
        assert (await ids(tail), tail.gaps.ids()) == ([4, 6], [2, 5])
        clock.advance(1)
        assert (await ids(tail), tail.gaps.ids(), tail.gaps.expired) == ([], [], 2)


@pytest.mark.anyio
async def test_deleted_runs_and_a_table_that_begins_late_are_fine(dagster: PostgresDagster) -> None:
    dagster.store(*["x"] * 20)
    dagster.database.execute("DELETE FROM event_logs WHERE id <= 5 OR id BETWEEN 8 AND 9")
    async with tail_of(dagster) as tail:
        assert await ids(tail) == [6, 7, *range(10, 21)]
        assert tail.gaps.ids() == [1, 2, 3, 4, 5, 8, 9]
        stored = tail.position(0)
    dagster.database.execute("DELETE FROM event_logs")
    async with tail_of(dagster, stored) as tail:
        assert await ids(tail) == []
        dagster.store("y")
        assert await ids(tail) == [21]


@pytest.mark.anyio
async def test_from_now_leaves_out_what_is_there(dagster: PostgresDagster) -> None:
    dagster.store("a", "b")
    slow = dagster.connect()
    slow.autocommit = False
    slow.execute("INSERT INTO event_logs (run_id, event) VALUES ('r', 'under way')")
    dagster.store("b")
    async with tail_of(dagster, from_now=True) as tail:
        assert await ids(tail) == []
        dagster.store("c")
        slow.commit()
        assert sorted(await ids(tail)) == [3, 5]
    slow.close()


@pytest.mark.anyio
async def test_an_empty_table_is_read_from_its_first_row(dagster: PostgresDagster) -> None:
    async with tail_of(dagster) as tail:
        assert tail.ended()
        assert await ids(tail) == []
        dagster.store("a")
        assert await ids(tail) == [1]


@pytest.mark.anyio
@pytest.mark.parametrize("change", ["TRUNCATE event_logs RESTART IDENTITY", "UPDATE event_logs SET event = 'other'"])
async def test_another_table_stops_the_start_and_the_message_names_the_option(
    dagster: PostgresDagster, change: str
) -> None:
    dagster.store("a", "b")
    async with tail_of(dagster) as tail:
        await tail.read()
        stored = tail.position(0)
    dagster.database.execute(change.encode())
    with pytest.raises(PermanentError, match=r"is not the table that was read.*on_recreated: accept"):
        async with tail_of(dagster, stored):
            pass
    dagster.store("new")
    async with tail_of(dagster, stored, on_recreated="accept") as tail:
        assert await ids(tail) == dagster.stored()


@pytest.mark.anyio
async def test_a_reader_without_rights_on_the_sequence_can_go_on(dagster: PostgresDagster) -> None:
    dagster.store("a", "b")
    async with tail_of(dagster) as tail:
        await tail.read()
        stored = tail.position(0)
    dagster.database.execute("DELETE FROM event_logs WHERE id = 2")
    dagster.database.execute("DROP ROLE IF EXISTS dagtel_reader")
    dagster.database.execute("CREATE ROLE dagtel_reader LOGIN")
    dagster.database.execute("GRANT SELECT ON event_logs, runs, run_tags TO dagtel_reader")
    dagster.database.execute("SET SESSION AUTHORIZATION dagtel_reader")
    dagster.url = Secret(f"{dagster.url.reveal()}?options=-c%20role%3Ddagtel_reader")
    try:
        async with tail_of(dagster, stored) as tail:
            assert await ids(tail) == []
    finally:
        dagster.database.execute("RESET SESSION AUTHORIZATION")
        dagster.database.execute("DROP OWNED BY dagtel_reader")
        dagster.database.execute("DROP ROLE dagtel_reader")


@pytest.mark.anyio
async def test_rows_of_runs_are_looked_up_together(dagster: PostgresDagster) -> None:
    dagster.add_run("a", team="x")
    dagster.add_run("b")
    async with open_postgres(dagster.url) as database:
        rows = await PostgresRunRows(database).look_up(["a", "b", "unknown"])
    assert rows == {"a": RunRow(tags={"team": "x"}, root_run_id="root"), "b": RunRow(root_run_id="root")}


@pytest.mark.anyio
async def test_a_database_without_dagsters_tables_is_waited_for() -> None:
    with new_database(tables=False) as empty, pytest.raises(RetryableError, match="holds no Dagster storage"):
        async with tail_of(empty):
            pass


@pytest.mark.anyio
async def test_a_table_of_another_shape_is_refused(dagster: PostgresDagster) -> None:
    dagster.database.execute("ALTER TABLE event_logs RENAME COLUMN event TO body")
    with pytest.raises(PermanentError, match="cannot be read as Dagster's storage"):
        async with tail_of(dagster) as tail:
            await tail.read()


@pytest.mark.anyio
async def test_a_lost_connection_may_come_back(dagster: PostgresDagster) -> None:
    with pytest.raises(RetryableError, match="does not answer"):
        async with tail_of(dagster) as tail:
            dagster.database.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE application_name = 'dagtel' AND datname = current_database()"
            )
            await tail.read()


@pytest.mark.anyio
async def test_eight_writers_with_rollbacks_and_large_rows_lose_nothing_and_each_stays_in_order(
    dagster: PostgresDagster,
) -> None:
    """A naive tail (`id > last`) runs beside ours, so that the test shows that there was something to lose."""
    writers = [threading.Thread(target=write, args=(dagster, number)) for number in range(8)]
    got, naive, most_gaps = list[StoredEvent](), list[int](), 0
    async with tail_of(dagster, rows=200, gaps=5000) as tail, open_postgres(dagster.url) as database:
        for writer in writers:
            writer.start()
        done = False
        while not done:
            done = not any(writer.is_alive() for writer in writers)
            page = await tail.read()
            while page.behind or page.rows:
                got += page.rows
                most_gaps = max(most_gaps, len(tail.gaps))
                page = await tail.read()
            last = naive[-1] if naive else 0
            found = await database.fetch("SELECT id FROM event_logs WHERE id > %s ORDER BY id", (last,))
            naive += [int(id) for (id,) in found if isinstance(id, int)]
            await anyio.sleep(0)
        with anyio.fail_after(20):
            while missing := set(dagster.stored()) - {row.id for row in got}:
                got += (await tail.read()).rows
                assert missing
    assert sorted(row.id for row in got) == dagster.stored()
    for number in range(8):  # a writer stores one row after the other
        came = [row.id for row in got if row.run_id == f"run-{number}"]
        assert came == sorted(came)
    assert most_gaps > 0
    lost = len(dagster.stored()) - len(naive)
    print(f"{len(got)} rows, at most {most_gaps} gaps; a naive tail lost {lost}")
    assert lost > 0


def write(dagster: PostgresDagster, number: int) -> None:
    """A run worker: single inserts, batches in one transaction, inserts that are rolled back, rows of 200 KB."""
    chance = Random(number)
    insert = "INSERT INTO event_logs (run_id, event) VALUES (%s, %s)"
    with dagster.connect() as database:
        for _ in range(150):
            size = 200_000 if number == 0 else 1_500
            kind = chance.random()
            if kind < 0.7:
                database.execute(insert, (f"run-{number}", "x" * size))
                continue
            with database.transaction(force_rollback=kind > 0.9):
                for _ in range(chance.randint(1, 20)):
                    database.execute(insert, (f"run-{number}", "x" * size))
                database.execute("SELECT pg_sleep(0.005)")  # a slow commit
