"""The `dagster` receiver on storages made by hand, and on those of a real Dagster that runs meanwhile."""

import json
import os
import signal
import subprocess
import time
import zlib
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import anyio
import msgspec
import pytest

from pipeline.clock import SystemClock
from pipeline.components import Read
from pipeline.errors import PermanentError, RetryableError
from pipeline.events import Event
from pipeline.options import Duration, Secret
from pipeline.testing.context import FakeContext
from pipeline.testing.contracts import ReceiverContract
from pipeline.testing.intake import FakeIntake
from receivers.dagster import SPEC, DagsterReceiverConfig
from tests.receivers.postgres_dagster import PostgresDagster, new_database
from tests.receivers.sqlite_home import SqliteHome, entry

DATA = Path(__file__).parent.parent / "data"
GENERATOR = Path(__file__).with_name("dagster_generator.py")
QUICK = Duration("10ms")


@pytest.fixture
def home(tmp_path: Path) -> SqliteHome[SystemClock]:
    return SqliteHome(tmp_path, SystemClock())


async def once(config: DagsterReceiverConfig, intake: FakeIntake | None = None) -> FakeIntake:
    intake = intake or FakeIntake(once=True)
    async with SPEC.build(config, FakeContext("dagster")) as receiver:
        with anyio.fail_after(30):
            await receiver.run(intake)
    return intake


def of(home: SqliteHome[SystemClock]) -> DagsterReceiverConfig:
    return DagsterReceiverConfig(home=str(home.folder), instance="prod", poll_interval=QUICK)


def events(intake: FakeIntake) -> list[Event]:
    return [item for item in intake.items if isinstance(item, Event)]


@pytest.mark.anyio
async def test_each_event_says_where_it_stood_and_of_which_run_it_is(home: SqliteHome[SystemClock]) -> None:
    home.add_run("r", {"team": "x"})
    home.store("r", "began", "PIPELINE_START")
    home.store("r", "said")
    home.store("", "", "ASSET_OBSERVATION")
    home.rest()
    got = events(await once(of(home)))
    assert [(e.source, e.run_id, e.offset, dict(e.headers)) for e in got] == [
        (
            "dagster:prod",
            "",
            1,
            {"dagtel-storage-id": b"1", "dagtel-instance": b"prod", "dagster-event-type": b"ASSET_OBSERVATION"},
        ),
        *(
            (
                "dagster:prod",
                "r",
                id,
                {
                    "dagtel-storage-id": str(id).encode(),
                    "dagtel-instance": b"prod",
                    "dagster-event-type": kind,
                    "dagster-run": b'{"tags":{"team":"x"}}',
                },
            )
            for id, kind in ((1, b"PIPELINE_START"), (2, b"LOG"))
        ),
    ]
    assert all(e.record_ns == e.at_ns > 0 for e in got)


@pytest.mark.anyio
async def test_the_row_of_a_run_is_asked_again_at_its_start_and_at_and_after_its_end(
    home: SqliteHome[SystemClock],
) -> None:
    intake = FakeIntake(once=True)
    home.add_run("r")
    tags = []
    for kind in (None, "PIPELINE_START", "STEP_START", "PIPELINE_FAILURE", "ENGINE_EVENT"):
        home.tag_run("r", f"before {kind}", "x")
        home.store("r", "", kind)
        await once(of(home), intake)
    for event in events(intake):
        tags.append(len(json.loads(dict(event.headers)["dagster-run"])["tags"]))
    assert tags == [1, 2, 3, 4, 5]  # each `once` is a new receiver

    home.add_run("s")
    async with follow(of(home), intake := FakeIntake(stored=intake.stored)):
        for kind in (None, "PIPELINE_START", "STEP_START", "PIPELINE_FAILURE", "ENGINE_EVENT"):
            home.tag_run("s", f"before {kind}", "x")
            home.store("s", "", kind)
            seen = len(events(intake)) + 1
            await intake.until(reached(intake, seen))
    tags = [len(json.loads(dict(event.headers)["dagster-run"])["tags"]) for event in events(intake)]
    assert tags == [1, 2, 2, 4, 5]


def reached(intake: FakeIntake, count: int) -> Callable[[], bool]:
    return lambda: len(intake.items) >= count


@asynccontextmanager
async def follow(config: DagsterReceiverConfig, intake: FakeIntake) -> AsyncIterator[None]:
    """A receiver that runs beside the test and is cancelled at its end."""
    async with SPEC.build(config, FakeContext("dagster")) as receiver, anyio.create_task_group() as tasks:
        tasks.start_soon(receiver.run, intake)
        yield
        tasks.cancel_scope.cancel()


@pytest.mark.anyio
async def test_what_is_no_event_is_rejected_with_its_origin_and_the_rest_flows_on(
    home: SqliteHome[SystemClock],
) -> None:
    home.add_run("r")
    for stored in ("{", b"\xff", "[]", ""):
        home.store("r", event=stored)
    home.store("r", "good")
    intake = await once(of(home))
    assert [e.message for e in events(intake)] == ["good"]
    rejected = [bad for read in intake.reads for bad in read.rejected]
    assert [(bad.body, bad.origin) for bad in rejected] == [
        (b"{", "dagster:prod/r@1"),
        (b"\xff", "dagster:prod/r@2"),
        (b"[]", "dagster:prod/r@3"),
        (b"", "dagster:prod/r@4"),
    ]


@pytest.mark.anyio
async def test_the_first_read_keeps_the_position_even_when_there_is_nothing(home: SqliteHome[SystemClock]) -> None:
    home.store("r", "old")
    intake = await once(msgspec.structs.replace(of(home), start="now"))
    assert [(read.items, read.behind) for read in intake.reads] == [([], False)]
    home.store("r", "new")
    await once(of(home), intake)
    assert [e.message for e in events(intake)] == ["new"]


@pytest.mark.anyio
async def test_pages_say_whether_more_is_there(home: SqliteHome[SystemClock]) -> None:
    for _ in range(4):
        home.store("r")
    home.rest()
    intake = await once(msgspec.structs.replace(of(home), batch_size=2))
    assert [(len(read.items), read.behind) for read in intake.reads] == [(2, True), (2, True), (0, False)]


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("config", "message"),
    [
        (DagsterReceiverConfig(), "give `home`"),
        (DagsterReceiverConfig(home="/nowhere"), "/nowhere is no folder"),
        (DagsterReceiverConfig(postgres_url=Secret("not a url s3cret")), "`postgres_url` is no connection URL"),
    ],
)
async def test_a_wrong_place_ends_the_daemon_with_a_word(config: DagsterReceiverConfig, message: str) -> None:
    with pytest.raises(PermanentError, match=message) as caught:
        await once(config)
    assert "s3cret" not in str(caught.value)


@pytest.mark.anyio
async def test_a_server_that_does_not_answer_is_tried_again() -> None:
    url = Secret("postgresql://me:s3cret@127.0.0.1:1/dagster")
    with pytest.raises(RetryableError, match=r"PostgreSQL 127\.0\.0\.1:1/dagster does not answer") as caught:
        await once(DagsterReceiverConfig(postgres_url=url))
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    "options", [{"instance": ""}, {"batch_size": 0}, {"poll_interval": Duration(0)}, {"max_gaps": 0}]
)
def test_options_that_make_no_sense_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"must be|is empty"):
        DagsterReceiverConfig(home="/x", **options)  # type: ignore[arg-type]


@pytest.mark.anyio
@pytest.mark.integration
async def test_postgresql_gives_the_same_with_headers_and_goes_on_where_it_was() -> None:
    with new_database() as dagster:
        dagster.add_run("r", team="x")
        dagster.store(entry("r", "one", 5_000_000_000), "{", entry("r", "two", 6_000_000_000))
        config = DagsterReceiverConfig(postgres_url=dagster.url, poll_interval=QUICK)
        intake = await once(config)
        dagster.store(entry("r", "three", 7_000_000_000))
        await once(config, intake)
        assert [(e.message, e.offset) for e in events(intake)] == [("one", 1), ("two", 3), ("three", 4)]
        assert dict(events(intake)[0].headers)["dagster-run"] == b'{"tags":{"team":"x"},"root_run_id":"root"}'
        assert [bad.origin for read in intake.reads for bad in read.rejected] == ["dagster:dagster/r@2"]
        assert intake.stored["dagster:dagster"].at_ns == 7_000_000_000


class TestOnSqlite(ReceiverContract):
    """Rows of one run; an empty one is none that Dagster wrote, and is rejected."""

    spec = SPEC

    def options(self) -> DagsterReceiverConfig:
        return DagsterReceiverConfig(home=str(self.folder), batch_size=2, poll_interval=QUICK)

    async def fill(self, records: Sequence[bytes]) -> None:
        home = SqliteHome(self.folder, SystemClock())
        for record in records:
            home.store("r", event=record)
        home.rest()

    def skips(self, record: bytes) -> bool:
        return False


# --- a real Dagster --------------------------------------------------------------------------------------------------


def dagster_python() -> str:
    python = os.environ.get("DAGTEL_TEST_DAGSTER_PYTHON")
    if not python:
        pytest.skip("DAGTEL_TEST_DAGSTER_PYTHON names no Python with Dagster")
    return python


@contextmanager
def generator(home: Path, rounds: int) -> Iterator[subprocess.Popen[bytes]]:
    """A Dagster that runs jobs in three processes; all of them are gone at the end."""
    environment = {**os.environ, "DAGSTER_HOME": str(home), "PYTHONPATH": str(DATA / "project")}
    command = [dagster_python(), str(GENERATOR), str(rounds)]
    with (home / "said").open("wb") as said, (home / "told").open("wb") as told:
        process = subprocess.Popen(command, stdout=said, stderr=told, env=environment, start_new_session=True)
    try:
        yield process
    except TimeoutError as error:
        os.killpg(process.pid, signal.SIGUSR1)
        time.sleep(1)
        raise AssertionError(f"it does not end; each process:\n{(home / 'told').read_text()[-8000:]}") from error
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


async def read_while_it_runs(
    config: DagsterReceiverConfig, home: Path
) -> tuple[FakeIntake, dict[str, list[list[int]]]]:
    """Start Dagster, read beside it, be killed after every fiftieth event, and go on; then what Dagster says it has."""
    intake = FakeIntake()
    with generator(home, rounds=3) as process, anyio.fail_after(300):
        while process.poll() is None:
            await killed_after(config, intake, 50)
    assert process.returncode == 0
    intake.once = True
    await once(config, intake)
    return intake, json.loads((home / "said").read_text().splitlines()[-1])


async def killed_after(config: DagsterReceiverConfig, intake: FakeIntake, count: int) -> None:
    """Run a receiver and cancel it after so many events, or after two seconds, wherever it is then."""
    goal = len(intake.items) + count
    with anyio.move_on_after(2) as scope:

        def stop(_: Read[object]) -> None:
            if len(intake.items) >= goal:
                scope.cancel()

        intake.on_put = stop
        async with SPEC.build(config, FakeContext("dagster")) as receiver:
            await receiver.run(intake)
    intake.on_put = None


def as_read(intake: FakeIntake) -> dict[str, list[list[int]]]:
    found: dict[str, list[list[int]]] = {}
    for event in events(intake):
        found.setdefault(event.run_id, []).append([event.offset, zlib.crc32(event.raw)])
    return found


@pytest.mark.anyio
@pytest.mark.integration
async def test_a_running_dagster_on_sqlite_is_read_once_in_order_and_byte_for_byte(tmp_path: Path) -> None:
    (tmp_path / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    config = DagsterReceiverConfig(home=str(tmp_path), poll_interval=QUICK, batch_size=40)
    (tmp_path / "history").mkdir()
    intake, stored = await read_while_it_runs(config, tmp_path)
    assert as_read(intake) == stored
    assert sum(map(len, stored.values())) > 300
    facts = [json.loads(dict(e.headers)["dagster-run"])["tags"] for e in events(intake) if e.run_id]
    assert {tags["requested_by"] for tags in facts} == {"generator"}


@pytest.mark.anyio
@pytest.mark.integration
async def test_a_running_dagster_on_postgresql_is_read_once_in_order_and_byte_for_byte(tmp_path: Path) -> None:
    dagster_python()
    with new_database(tables=False) as dagster:
        url = dagster.url.reveal().replace("postgresql://", "postgresql+psycopg2://")
        settings = f"telemetry: {{enabled: false}}\nstorage: {{postgres: {{postgres_url: '{url}'}}}}\n"
        (tmp_path / "dagster.yaml").write_text(settings)
        make_tables(dagster)
        config = DagsterReceiverConfig(home=str(tmp_path), poll_interval=QUICK, batch_size=40)
        try:
            intake, stored = await read_while_it_runs(config, tmp_path)
        except AssertionError as error:
            error.add_note(f"pg_stat_activity: {sessions(dagster)}")
            raise
    read = as_read(intake)
    assert {run: sorted(rows) for run, rows in read.items()} == {run: sorted(r) for run, r in stored.items() if r}


def sessions(dagster: PostgresDagster) -> list[tuple[object, ...]]:
    """What each session of the database does and waits for."""
    asked = "SELECT pid, application_name, state, wait_event_type, wait_event, pg_blocking_pids(pid), query"
    return dagster.database.execute(f"{asked} FROM pg_stat_activity WHERE datname = current_database()").fetchall()


def make_tables(dagster: PostgresDagster) -> None:
    """Dagster makes its tables itself; the receiver says RetryableError until then, which is another test's matter."""
    code = f"from dagster_postgres import DagsterPostgresStorage as S; S({dagster.url.reveal()!r})"
    code = code.replace("postgresql://", "postgresql+psycopg2://")
    subprocess.run([dagster_python(), "-c", code], check=True, capture_output=True)
