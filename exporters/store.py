"""Keeps the history of alerts: what failed, what was decided and why, who was told, and what became of it.

What it writes are records (`pipeline.alert_records`): those of `dedup` come with the alerts, those of deliveries from
the runtime. Each is part of a payload, committed with what it tells of and written until the history has it; written
twice it is there once. So the history has neither holes nor doubles, wherever the process was killed.
"""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

import anyio.to_thread
import msgspec

from exporters.valid_text import valid_items
from pipeline.alert_records import (
    RECORDS,
    Keeper,
    Notified,
    Occurred,
    Record,
    decode_records,
    encode_records,
    notification_id,
)
from pipeline.batch import Batch
from pipeline.clock import Clock, SystemClock
from pipeline.components import Context, Exporter, ExporterSpec, Payload, Receipt
from pipeline.delivery import Delivery, SendingQueue
from pipeline.errors import PermanentError
from pipeline.options import Duration, Secret, Size
from pipeline.signals import Alert, Signal

Item = Alert | Record

_EXPIRE_S: Final = 600.0
"""How often old rows are looked for; oftener where they grow old faster."""
_FIRST_S: Final = 30.0
"""When for the first time: a start has better things to do."""
_UNTOLD: Final = frozenset({"heartbeat"})
"""Kinds of notifications that are nobody's problem."""


class PostgresqlHistory(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The history in a PostgreSQL database."""

    url: Secret
    """The database: `postgresql://user:password@host:5432/name`; write `${env:NAME}`."""
    schema: str = "dagtel_history"
    """The schema in it, made if it is not there. Not that of the state store."""

    def problems(self) -> Iterator[tuple[str, str]]:
        """Path and message of each fault."""
        if not self.url.reveal().startswith(("postgresql://", "postgres://")):
            yield "url", "is no URL of PostgreSQL; write for example `postgresql://user:password@host:5432/name`"
        if not self.schema.isidentifier() or not self.schema.isascii() or self.schema != self.schema.lower():
            yield "schema", "must be small letters, digits and `_`, and begin with a letter"


class StoreConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Keeps the history of alerts, for `dagtel alerts list|show|explain` and the HTTP API. See docs/history.md.

    Stands in an alerts pipeline beside the notifiers. While the history cannot be written (locked, damaged, of a newer
    version, on a full disk) what belongs into it waits in the outbox, and the oldest is dropped at
    `sending_queue.queue_size`; with `sending_queue.on_full: block` input stops instead.
    """

    path: str = "history.db"
    """The SQLite file. Not used with `postgresql`."""
    postgresql: PostgresqlHistory | None = None
    """In PostgreSQL instead of the file."""
    retention: Duration = Duration("90d")
    """What was written longer ago is forgotten, in the background; an alert that is still open stays. 0: for good."""
    max_occurrences: int = 1000
    """Failures, and decisions, that are kept of one alert: the first half of them and the latest half."""

    def problems(self) -> Iterator[tuple[str, str]]:
        """Path and message of each fault."""
        if self.retention < 0:
            yield "retention", "must not be negative"
        if self.max_occurrences < 2:
            yield "max_occurrences", "must be at least 2"


class Store:
    """The exporter."""

    def __init__(self, config: StoreConfig, keeper: Keeper, clock: Clock) -> None:
        self._config, self._keeper, self._clock = config, keeper, clock

    def build(self, batch: Batch[Item], /) -> Sequence[Payload]:
        """All records of the batch in one payload."""
        records = self._bounded([record for item in batch.items if (record := _record(item)) is not None])
        if not records:
            return ()
        try:
            body = encode_records(records)
        except UnicodeEncodeError:
            body = encode_records(valid_items(records))
        return (Payload(body, len(records)),)

    async def send(self, payload: Payload, /) -> Receipt | None:
        """Write it. Raises RetryableError while it cannot be written; then no part of it stays."""
        try:
            records = decode_records(payload.body)
        except msgspec.MsgspecError as error:
            raise PermanentError(f"records of another version of dagtel: {error}") from error
        await anyio.to_thread.run_sync(self._keeper.write, records, self._clock.wall_ns())
        return None

    async def expire(self) -> int:
        """Forget what is too old; gives how many rows went."""
        before = self._clock.wall_ns() - self._config.retention.ns
        return await anyio.to_thread.run_sync(self._keeper.expire, before)

    def _bounded(self, records: list[Record]) -> list[Record]:
        """Without failures that would be left out at once: those of a storm that has one cause."""
        most = self._config.max_occurrences
        if len(records) <= most:
            return records
        latest: dict[tuple[str, int], int] = {}
        for record in records:
            if isinstance(record, Occurred):
                life = record.key, record.began_ns
                latest[life] = max(record.number, latest.get(life, 0))
        half = most // 2
        return [
            record
            for record in records
            if not isinstance(record, Occurred)
            or record.number <= half
            or record.number > latest[record.key, record.began_ns] - (most - half)
        ]


def _record(item: Item) -> Record | None:
    if isinstance(item, Alert):
        return None if item.kind in _UNTOLD else Notified(notification_id(item), item)
    return item if isinstance(item, RECORDS) else None


@asynccontextmanager
async def build(config: StoreConfig, context: Context) -> AsyncIterator[Exporter[Item]]:
    other = config.postgresql
    url, schema = (other.url.reveal(), other.schema) if other else ("", "")
    keeper = context.keeper(config.path, url, schema, config.max_occurrences)
    store = Store(config, keeper, SystemClock())

    def said(gone: int) -> None:
        if gone:
            context.log.info("Old history was forgotten.", extra={"rows": gone})

    if config.retention:
        every = min(_EXPIRE_S, max(1.0, config.retention / 20))
        waits = iter([min(every, _FIRST_S)])

        async def expire() -> int:
            await anyio.sleep(next(waits, 0))
            return await store.expire()

        context.side_input("retention", every, expire, said, wait_s=0)
    try:
        yield store
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(keeper.close)


SPEC = ExporterSpec(
    "store",
    StoreConfig,
    build,
    takes=frozenset({Signal.ALERTS}),
    serial=True,
    records=True,
    delivery=Delivery(
        timeout=Duration("60s"), sending_queue=SendingQueue(queue_size=Size("64MiB"), on_full="drop_oldest")
    ),
)
