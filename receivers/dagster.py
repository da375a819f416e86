"""The `dagster` receiver: Dagster's event log straight from its storage, by our own driver.

This is the loop; how each storage is followed is in `dagster_postgres` and `dagster_sqlite`.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal

import anyio
import msgspec

from pipeline.clock import Clock, SystemClock
from pipeline.components import Context, Intake, Position, Read, Receiver, ReceiverSpec, Rejected
from pipeline.dagster_home import PostgresStorage, SqliteStorage, Storage, find_storage
from pipeline.dagster_sql import PostgresRunRows, SqliteRunRows, open_postgres
from pipeline.errors import DecodeError
from pipeline.events import Event
from pipeline.options import Duration, Secret, Size
from receivers.dagster_gaps import GapMetrics
from receivers.dagster_headers import RunHeaders
from receivers.dagster_page import Limits, Page, Tail
from receivers.dagster_postgres import OnRecreated, open_postgres_tail
from receivers.dagster_sqlite import open_sqlite_tail
from receivers.dagster_wire import decode, redecode


class DagsterReceiverConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Reads Dagster's event log straight from Dagster's storage, PostgreSQL or SQLite; nothing is written there.

    All events of an instance are one source (`dagster:<instance>`). Where reading goes on is kept in dagtel's own
    state. On PostgreSQL an event that becomes visible late is still read, on SQLite each run has its own cursor; the
    stored bytes are handed on untouched, and the headers `dagtel-storage-id`, `dagtel-instance`, `dagster-event-type`
    and `dagster-run` (tags, parent, code location) come with each. Dagster itself need not be installed.
    """

    home: str = ""
    """The folder that DAGSTER_HOME names; its `dagster.yaml` says where the storage is."""
    postgres_url: Secret = Secret("")
    """The database of a Dagster that stores in PostgreSQL (`postgresql://user:password@host:5432/dagster`). Goes
    before `home`."""
    instance: str = "dagster"
    """Name of this Dagster instance, for the headers and the source's name. Two instances on one topic need two."""
    start: Literal["beginning", "now"] = "beginning"
    """Where to begin an instance that was never read before."""
    poll_interval: Duration = Duration("250ms")
    """How long to wait before asking again when there was nothing more."""
    batch_size: int = 1000
    """Events taken at once at most."""
    batch_bytes: Size = Size("16MiB")
    """Bytes taken at once at most; a single larger event still comes."""
    gap_timeout: Duration = Duration("60s")
    """PostgreSQL, where its locks do not tell whether an id that was handed out can still show (a standby, a sequence
    with a cache): how long it is asked for. An insert that takes longer to commit is then lost."""
    max_gaps: int = 10000
    """PostgreSQL: ids asked for at most; more and the oldest are given up, counted."""
    max_runs: int = 10000
    """Runs whose row is remembered at most, so as not to ask for it again."""
    on_recreated: OnRecreated = "fail"
    """PostgreSQL: what to do when the event log is not the one that was read (dropped, restored from another one):
    `fail` stops the start, `accept` reads what is there now from its beginning."""

    def __post_init__(self) -> None:
        if self.poll_interval < 0.01:
            raise ValueError("`poll_interval` must be at least 10ms")
        if min(self.batch_size, self.batch_bytes, self.max_gaps, self.max_runs) < 1:
            raise ValueError("`batch_size`, `batch_bytes`, `max_gaps` and `max_runs` must be at least 1")
        if not self.instance:
            raise ValueError("`instance` is empty")


class DagsterReceiver:
    """See `pipeline.components.Receiver`."""

    def __init__(self, config: DagsterReceiverConfig, context: Context, clock: Clock) -> None:
        self._config, self._context, self._clock = config, context, clock
        self._source = f"dagster:{config.instance}"
        self._limits = Limits(
            rows=config.batch_size,
            bytes=config.batch_bytes,
            gap_timeout_s=config.gap_timeout,
            gaps=config.max_gaps,
        )

    async def run(self, intake: Intake[object]) -> None:
        storage = find_storage(self._config.home, self._config.postgres_url)
        stored = (await intake.assign([self._source]))[self._source]
        async with self._open(storage, stored) as (tail, headers):
            at_ns = stored.at_ns if stored else 0
            behind: bool | None = None  # as the pipelines know it
            while True:
                page = await tail.read()
                if page.moved or page.behind is not behind:
                    read = await self._decoded(page, tail, headers, at_ns)
                    at_ns, behind = read.position.at_ns, page.behind
                    await intake.put(read)
                if intake.once and tail.ended():
                    return
                if not page.behind:
                    await anyio.sleep(self._config.poll_interval)

    async def _decoded(self, page: Page, tail: Tail, headers: RunHeaders, at_ns: int) -> Read[object]:
        events: list[Event] = []
        rejected: list[Rejected] = []
        for row in page.rows:
            try:
                event = decode(row.raw, source=self._source, offset=row.id)
            except DecodeError as error:
                place = f"{self._source}/{row.run_id}@{row.id}"
                known = headers.of_row(row.id)
                rejected.append(Rejected(row.raw, str(error), place, self._source, row.id, headers=known))
                continue
            if event.at_ns > row.skip_until_ns:
                event.record_ns = event.at_ns
                events.append(event)
        await headers.attach(events)
        return Read(
            self._source,
            events,
            tail.position(events[-1].at_ns if events else at_ns),
            rejected,
            page.behind,
            sum(len(row.raw) for row in page.rows),
        )

    @asynccontextmanager
    async def _open(self, storage: Storage, stored: Position | None) -> AsyncIterator[tuple[Tail, RunHeaders]]:
        config, from_now = self._config, self._config.start == "now"
        match storage:
            case PostgresStorage():
                async with open_postgres(storage.url) as database:
                    tail = await open_postgres_tail(
                        database,
                        self._limits,
                        self._clock,
                        GapMetrics(self._context),
                        stored,
                        from_now=from_now,
                        on_recreated=config.on_recreated,
                    )
                    yield tail, RunHeaders(PostgresRunRows(database), config.instance, config.max_runs)
            case SqliteStorage():
                if not storage.events.exists():
                    self._context.log.warning("No event log there yet.", extra={"folder": str(storage.events)})
                files = await open_sqlite_tail(
                    storage, self._limits, self._clock, self._context.log, stored, from_now=from_now
                )
                yield files, RunHeaders(SqliteRunRows(storage.runs, self._clock), config.instance, config.max_runs)


@asynccontextmanager
async def build(config: DagsterReceiverConfig, context: Context) -> AsyncIterator[Receiver[Event]]:
    """A receiver; connections are opened by its `run`, so that each try has a new one."""
    yield DagsterReceiver(config, context, SystemClock())


SPEC = ReceiverSpec("dagster", DagsterReceiverConfig, build, redecode=redecode)
