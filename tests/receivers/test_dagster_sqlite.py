"""A tail of Dagster's SQLite files reads every event once and in order, and leaves nothing behind."""

import logging
import sqlite3
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.components import Position
from pipeline.testing.clock import VirtualClock
from receivers.dagster_cursors import decode_note
from receivers.dagster_page import Limits, Page
from receivers.dagster_sqlite import SqliteTail, open_sqlite_tail
from receivers.dagster_wire import decode
from tests.receivers.sqlite_home import SqliteHome

LOG = logging.LoggerAdapter(logging.getLogger("test"), {})
HOUR, DAY = 3600.0, 86400.0


class Follower:
    """Reads a home page by page; what a page gave counts once its position is kept."""

    def __init__(self, home: SqliteHome[VirtualClock], rows: int = 1000, size: int = 1 << 20) -> None:
        self.home = home
        self.limits = Limits(rows=rows, bytes=size, gap_timeout_s=60, gaps=100)
        self.kept: Position | None = None
        self.got: dict[str, list[int]] = {}
        self.tail: SqliteTail | None = None

    async def start(self, from_now: bool = False) -> None:
        self.tail = await open_sqlite_tail(
            self.home.storage, self.limits, self.home.clock, LOG, self.kept, from_now=from_now
        )

    async def read(self, keep: bool = True) -> Page:
        if self.tail is None:
            await self.start()
        assert self.tail is not None
        page = await self.tail.read()
        if keep:
            self.kept = self.tail.position(0)
            for row in page.rows:
                if decode(row.raw, source="s", offset=row.id).at_ns > row.skip_until_ns:
                    self.got.setdefault(row.run_id, []).append(row.id)
        return page

    async def catch_up(self) -> None:
        """Read until there is no more, as often as a file that was just written needs."""
        for _ in range(3):
            self.home.clock.advance(1)
            while (await self.read()).behind:
                pass

    def crash(self) -> None:
        """Only the kept position is left."""
        self.tail = None

    @property
    def cursors(self) -> set[str]:
        assert self.kept
        return set(decode_note(self.kept.note).shards)


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def home(tmp_path: Path, clock: VirtualClock) -> SqliteHome[VirtualClock]:
    return SqliteHome(tmp_path, clock)


def store(home: SqliteHome[VirtualClock], run: str, count: int) -> None:
    if not home.file(run).exists() and run:
        home.add_run(run)
    for number in range(count):
        home.store(run, str(number))


@pytest.mark.anyio
async def test_runs_are_read_in_the_order_in_which_they_were_made_each_in_its_own(
    home: SqliteHome[VirtualClock],
) -> None:
    for run, count in (("b", 3), ("", 2), ("a", 2)):
        store(home, run, count)
    home.clock.advance(1)
    follower = Follower(home)
    page = await follower.read()
    assert [(row.run_id, row.id) for row in page.rows] == [
        ("", 1), ("", 2), ("b", 1), ("b", 2), ("b", 3), ("a", 1), ("a", 2)
    ]  # fmt: skip
    assert not page.behind


@pytest.mark.anyio
async def test_the_stored_bytes_come_untouched(home: SqliteHome[VirtualClock]) -> None:
    home.add_run("r")
    for raw in ('{"ü": 1}', b"\xff\x00 no text", "x" * 300_000):
        home.store("r", event=raw)
    home.clock.advance(1)
    page = await (await tail_of(home)).read()
    assert [row.raw for row in page.rows] == ['{"ü": 1}'.encode(), b"\xff\x00 no text", b"x" * 300_000]


async def tail_of(home: SqliteHome[VirtualClock]) -> SqliteTail:
    limits = Limits(rows=1000, bytes=1 << 20, gap_timeout_s=60, gaps=100)
    return await open_sqlite_tail(home.storage, limits, home.clock, LOG, None, from_now=False)


@pytest.mark.anyio
async def test_a_page_ends_at_its_rows_and_at_its_bytes(home: SqliteHome[VirtualClock]) -> None:
    store(home, "a", 5)
    store(home, "b", 5)
    home.clock.advance(1)
    by_rows = Follower(home, rows=3)
    assert [len(page.rows) for page in [await by_rows.read() for _ in range(5)]] == [3, 3, 3, 1, 0]
    by_bytes = Follower(home, size=1)
    pages = [await by_bytes.read() for _ in range(11)]
    assert [len(page.rows) for page in pages] == [1] * 10 + [0]
    assert [page.behind for page in pages] == [True] * 10 + [False]
    assert by_rows.got == by_bytes.got == {"a": [1, 2, 3, 4, 5], "b": [1, 2, 3, 4, 5]}


@pytest.mark.anyio
async def test_files_at_rest_are_read_without_leaving_anything_beside_them(home: SqliteHome[VirtualClock]) -> None:
    for run in ("a", "b", ""):
        store(home, run, 3)
    home.clock.advance(1)
    await Follower(home).read()
    assert home.left_behind() == []


@pytest.mark.anyio
async def test_a_file_that_is_being_written_is_read_over_the_writers_log(home: SqliteHome[VirtualClock]) -> None:
    store(home, "a", 1)
    writer = home._open(home.file("a"))
    writer.execute("INSERT INTO event_logs (run_id, event) VALUES ('a', '{}')")  # committed, not folded in
    home.clock.advance(1)
    page = await (await tail_of(home)).read()
    writer.close()
    assert [row.id for row in page.rows] == [1, 2]


@pytest.mark.anyio
async def test_a_file_written_a_moment_ago_waits_and_one_that_never_rests_is_read_all_the_same(
    home: SqliteHome[VirtualClock],
) -> None:
    store(home, "a", 1)
    tail = await tail_of(home)
    assert (await tail.read()).rows == []
    home.clock.advance(0.05)
    home.store("a", "again")
    home.clock.advance(0.05)
    assert (await tail.read()).rows == []
    home.clock.elapsed += 1
    assert [row.id for row in (await tail.read()).rows] == [1, 2]


@pytest.mark.anyio
async def test_an_event_stored_while_a_transaction_is_open_comes_when_it_is_committed(
    home: SqliteHome[VirtualClock],
) -> None:
    store(home, "a", 1)
    home.clock.advance(1)
    follower = Follower(home)
    await follower.read()
    writer = home._open(home.file("a"))
    writer.execute("BEGIN")
    writer.execute("INSERT INTO event_logs (run_id, event) VALUES ('a', ?)", (b"{}",))
    await follower.read(keep=False)
    writer.execute("ROLLBACK")
    writer.close()
    home.store("a", "second")
    await follower.catch_up()
    assert follower.got == {"a": [1, 2]}


@pytest.mark.anyio
async def test_late_events_of_a_run_that_was_quiet_for_days_are_read_and_no_others(
    home: SqliteHome[VirtualClock],
) -> None:
    store(home, "a", 3)
    follower = Follower(home)
    await follower.catch_up()
    home.clock.advance(3 * DAY)
    store(home, "b", 1)
    await follower.catch_up()
    assert follower.cursors == {"b"}
    follower.crash()
    home.clock.advance(2 * DAY)
    home.store("a", "a sensor acted on this run")
    await follower.catch_up()
    assert follower.got == {"a": [1, 2, 3, 4], "b": [1]}


@pytest.mark.anyio
async def test_a_history_of_years_is_read_however_old_its_files_are(home: SqliteHome[VirtualClock]) -> None:
    for number in range(30):
        store(home, f"run-{number}", 2)
        home.clock.advance(10 * DAY)
    follower = Follower(home, rows=7)
    for _ in range(4):
        await follower.read()
        follower.crash()
    await follower.catch_up()
    assert follower.got == {f"run-{number}": [1, 2] for number in range(30)}
    assert follower.cursors == set()


@pytest.mark.anyio
async def test_from_now_leaves_out_what_is_there(home: SqliteHome[VirtualClock]) -> None:
    store(home, "old", 2)
    home.clock.advance(2 * DAY)
    store(home, "running", 2)
    store(home, "", 1)
    home.clock.advance(1)
    follower = Follower(home)
    await follower.start(from_now=True)
    await follower.catch_up()
    for run in ("running", "", "old", "new"):
        store(home, run, 1)
    await follower.catch_up()
    assert follower.got == {"running": [3], "": [2], "old": [3], "new": [1]}


@pytest.mark.anyio
async def test_ids_that_are_used_again_after_a_deletion_are_new(home: SqliteHome[VirtualClock]) -> None:
    store(home, "a", 3)
    follower = Follower(home)
    await follower.catch_up()
    home.forget_events("a")
    await follower.catch_up()
    store(home, "a", 2)
    await follower.catch_up()
    assert follower.got == {"a": [1, 2, 3, 1, 2]}


@pytest.mark.anyio
async def test_events_of_a_run_without_a_row_are_read(home: SqliteHome[VirtualClock]) -> None:
    home.store("orphan")
    home.clock.advance(DAY)
    follower = Follower(home)
    await follower.catch_up()
    home.store("orphan")
    await follower.catch_up()
    assert follower.got == {"orphan": [1, 2]}


@pytest.mark.anyio
async def test_a_run_whose_file_comes_after_its_row_is_read_when_it_comes(home: SqliteHome[VirtualClock]) -> None:
    follower = Follower(home)
    await follower.read()
    home.add_run("a")
    for pause in (0.2, 120.0, 7200.0):
        await follower.read()
        home.clock.advance(pause)
    assert follower.tail and follower.tail.ended()
    home.store("a")
    await follower.catch_up()
    assert follower.got == {"a": [1]}


@pytest.mark.anyio
async def test_one_file_for_all_runs_is_read_too(home: SqliteHome[VirtualClock]) -> None:
    home.store("event_log", event='{"__class__": "EventLogEntry"}')
    home.clock.advance(DAY)
    page = await (await tail_of(home)).read()
    assert len(page.rows) == 1


@pytest.mark.anyio
async def test_a_file_that_is_no_database_holds_nobody_up(home: SqliteHome[VirtualClock]) -> None:
    home.add_run("bad")
    home.add_run("empty")
    home.file("bad").write_bytes(b"no database" * 1000)
    home.file("empty").touch()
    store(home, "good", 2)
    home.rest()
    follower = Follower(home)
    await follower.start()
    for _ in range(6):
        await follower.catch_up()
    assert follower.got == {"good": [1, 2]}
    assert follower.tail and follower.tail.ended()


@pytest.mark.anyio
async def test_a_database_that_is_being_made_is_read_once_it_is(home: SqliteHome[VirtualClock]) -> None:
    home.add_run("a")
    home.file("a").touch()
    follower = Follower(home)
    await follower.read()
    sqlite3.connect(home.file("a")).close()
    await follower.read()
    home.store("a")
    await follower.catch_up()
    assert follower.got == {"a": [1]}


@pytest.mark.anyio
async def test_it_has_ended_when_what_was_there_at_the_start_is_read(home: SqliteHome[VirtualClock]) -> None:
    store(home, "a", 3)
    store(home, "b", 3)
    home.clock.advance(1)
    follower = Follower(home, rows=2)
    ended = []
    await follower.start()
    for _ in range(4):
        await follower.read()
        assert follower.tail
        ended.append(follower.tail.ended())
    assert ended == [False, False, False, True]


@pytest.mark.anyio
async def test_a_home_without_any_run_has_ended_at_once(tmp_path: Path, clock: VirtualClock) -> None:
    home = SqliteHome(tmp_path, clock)
    home.storage.runs.unlink()
    home.storage.events.rmdir()
    tail = await tail_of(home)
    assert await tail.read() == Page([], behind=False, moved=False)
    assert tail.ended()


OPERATIONS = st.one_of(
    st.tuples(st.just("store"), st.integers(0, 3)),
    st.tuples(st.just("advance"), st.sampled_from([0.05, 600.0, 1.1 * HOUR, 30 * HOUR])),
    st.tuples(st.just("read"), st.booleans()),
    st.tuples(st.just("catch up"), st.just(0)),
    st.tuples(st.just("crash"), st.just(0)),
)


@pytest.mark.anyio
@given(operations=st.lists(OPERATIONS, max_size=30), rows=st.sampled_from([1, 3, 1000]))
@settings(max_examples=150, deadline=None)
async def test_whatever_happens_each_event_is_read_once_and_in_order(
    operations: list[tuple[str, float]], rows: int
) -> None:
    """Writes to new, running and long-ended runs, pauses of all lengths, crashes with and without a kept position."""
    with tempfile.TemporaryDirectory() as folder:
        home = SqliteHome(Path(folder), VirtualClock())
        follower, stored = Follower(home, rows), dict[str, int]()
        for operation, value in operations:
            if operation == "store":
                run = f"r{value}" if value else ""
                store(home, run, 1)
                stored[run] = stored.get(run, 0) + 1
            elif operation == "advance":
                home.clock.advance(value)
            elif operation == "read":
                await follower.read(keep=bool(value))
                if not value:
                    follower.crash()
            elif operation == "catch up":
                await follower.catch_up()
            else:
                follower.crash()
        home.clock.advance(3)
        await follower.catch_up()
        assert follower.got == {run: list(range(1, count + 1)) for run, count in stored.items()}
        home.clock.advance(2 * HOUR)
        await follower.catch_up()
        assert follower.cursors <= {""}
