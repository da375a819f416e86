"""The `kafka` exporter: events, log records and alerts become records of a topic. The door to aiokafka's producer.

A payload is a list of whole records (key, value, headers, time), so that it is sent again byte for byte. What became
of each record of the payload in hand is remembered: an attempt that ran out of time goes on with the records that are
still on their way instead of sending them twice.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import Literal, TypeVar

import anyio
import msgspec
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import (
    AuthenticationFailedError,
    InvalidTimestampError,
    KafkaConnectionError,
    KafkaError,
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
    TopicAlreadyExistsError,
    for_code,
)

from exporters.json_lines import without_edges
from exporters.kafka_records import Item, Record, decode_records, outcome_records_of, payloads_of, records_of
from pipeline.batch import Batch
from pipeline.components import Context, Exporter, ExporterSpec, Payload, Receipt
from pipeline.delivery import Delivery
from pipeline.errors import PartialError, PermanentError, RetryableError
from pipeline.http import Tls
from pipeline.kafka_client import Listed, Sasl, Security, listed, security
from pipeline.options import Duration, Size
from pipeline.signals import Edges, Signal

T = TypeVar("T")
START_S = 10.0
STOP_S = 5.0
BATCH_BYTES = 256 << 10
BATCH_HEAD = 1 << 10
"""More than what a batch holds beside its one record: the broker's limit is on batches."""

_OF_THE_RECORD = (InvalidTimestampError, MessageSizeTooLargeError, RecordListTooLargeError)


class CreateTopic(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Make the topic when it is not there. One that is there stays as it is."""

    partitions: int = 1
    """Partitions: how many daemons can share the work."""
    replication: int = 1
    """Copies of each partition; 3 where there are three brokers."""
    config: dict[str, str] = msgspec.field(default_factory=lambda: {"message.timestamp.type": "LogAppendTime"})
    """The topic's settings. With LogAppendTime a record's time is when the broker had it, which is what dagtel's timers
    go by while it catches up. `max.message.bytes` is `max_message_size` where it does not stand here."""


class KafkaExporterConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Writes to a Kafka topic: events as the bytes that were read, with their headers and the run id as key (the asset
    for one without a run); log records and alerts as JSON, with the run id and the fingerprint as keys.

    A payload is delivered when all in-sync replicas have all of it. Records of one key stay in order.
    """

    brokers: Listed = ("localhost:9092",)
    """Some of the brokers, `host:port`; a list, or one text with commas."""
    topic: str
    """The topic."""
    encoding: Literal["dagster", "outcomes"] = "dagster"
    """`dagster`: each event as the bytes that were read. `outcomes`: what `run_ledger` made of events, many to a
    record, for a `kafka` receiver with the same encoding (docs/cluster.md)."""
    client_id: str = "dagtel"
    """Our name in the brokers' logs and quotas."""
    create_topic: CreateTopic | None = None
    """Make the topic when it is not there; unset: it must be there, or the broker makes it."""
    idempotence: Literal["auto", "on", "off"] = "auto"
    """Whether the broker drops what a retry of the client's sends twice. `auto`: where it can."""
    compression: Literal["none", "gzip", "snappy", "lz4", "zstd"] = "none"
    """How batches are compressed."""
    linger: Duration = Duration("5ms")
    """How long a batch waits for more."""
    max_message_size: Size = Size("1MiB")
    """A larger record goes to the dead letters; the topic's `max.message.bytes` must allow it."""
    request_timeout: Duration = Duration("20s")
    """How long one request may take."""
    tls: Tls | None = None
    """Encrypt the connections; `tls: {}` trusts the system's certificates."""
    sasl: Sasl | None = None
    """Sign in at the brokers."""

    def __post_init__(self) -> None:
        if not self.topic:
            raise ValueError("`topic` is empty")
        if not listed(self.brokers):
            raise ValueError("`brokers` is empty; write at least one `host:port`")


class _Attempt:
    """What became of the records of one payload: None is not sent yet, a future is on its way or delivered."""

    def __init__(self, payload: Payload) -> None:
        self.body = payload.body
        self.records = decode_records(payload.body)
        self.sent: list[asyncio.Future[object] | None] = [None] * len(self.records)
        self.refused: dict[int, str] = {}

    def take_failures(self) -> dict[int, BaseException]:
        """What failed and why; it counts as not sent from here on."""
        failures = {i: e for i, f in enumerate(self.sent) if f is not None and f.done() and (e := f.exception())}
        for index in failures:
            self.sent[index] = None
        return failures

    def forget_open(self) -> None:
        """What has no answer yet will have none: its producer is gone."""
        self.sent = [future if future is not None and future.done() else None for future in self.sent]


def _raise_refused(attempt: _Attempt) -> None:
    refused = attempt.refused
    if refused and len(refused) == len(attempt.records):
        raise PermanentError(next(iter(refused.values())))
    if refused:
        raise PartialError(f"{len(refused)} of {len(attempt.records)} records were refused", refused)


@contextmanager
def _translating(brokers: str) -> Iterator[None]:
    """aiokafka's errors as ours. All may pass: what a person must set right (an ACL, a password) is waited for, because
    the other way is to throw the data away."""
    try:
        yield
    except KafkaConnectionError as error:
        raise RetryableError(
            f"Kafka at {brokers}: no broker lets us in. Are they up, and do `tls` and `sasl` fit? "
            "The log of `aiokafka` says what each answered."
        ) from error
    except KafkaError as error:
        raise RetryableError(f"Kafka at {brokers}: {error!r}") from error


class KafkaExporter:
    """See `pipeline.components.Exporter`."""

    def __init__(self, config: KafkaExporterConfig, context: Context) -> None:
        self._config, self._log = config, context.log
        self._brokers = ",".join(listed(config.brokers))
        self._safe = security(config.tls, config.sasl)
        self._idempotent = config.idempotence != "off"
        self._producer: AIOKafkaProducer | None = None
        self._attempt: _Attempt | None = None
        self._topic_is_there = config.create_topic is None

    def build(self, batch: Batch[Item | Edges], /) -> Sequence[Payload]:
        """See `records_of` and `outcome_records_of`."""
        as_records = outcome_records_of if self._config.encoding == "outcomes" else records_of
        return payloads_of(as_records(without_edges(batch.items), batch.now_ns))

    async def send(self, payload: Payload, /) -> Receipt | None:
        """Returns when all in-sync replicas have all records. Raises RetryableError, PermanentError, PartialError."""
        attempt = self._attempt
        if attempt is None or attempt.body != payload.body:
            attempt = self._attempt = _Attempt(payload)
        with _translating(self._brokers):
            try:
                await self._send_open(attempt)
                await self._settle(attempt)
            except KafkaError as error:
                if not (error.retriable or isinstance(error, KafkaTimeoutError)):
                    await self._discard()
                raise
        self._attempt = None
        _raise_refused(attempt)
        return None

    async def _send_open(self, attempt: _Attempt) -> None:
        """Send what is not on its way, and wait for the answers to all."""
        producer = await self._ready()
        for index, record in enumerate(attempt.records):
            if attempt.sent[index] is None and index not in attempt.refused:
                try:
                    attempt.sent[index] = await self._send_one(producer, record)
                except MessageSizeTooLargeError as error:
                    attempt.refused[index] = str(error)
        waited = [future for future in attempt.sent if future is not None]
        if waited:
            await asyncio.wait(waited)  # cancelled by the runtime's timeout: they go on, and are found here again

    async def _send_one(self, producer: AIOKafkaProducer, record: Record) -> "asyncio.Future[object]":
        future: asyncio.Future[object] = await producer.send(
            self._config.topic,
            record.value,
            key=record.key,
            timestamp_ms=record.at_ms,
            headers=list(record.headers),
        )
        return future

    async def _settle(self, attempt: _Attempt) -> None:
        """See what failed, and have it sent again. Raises the first KafkaError that may pass.

        A broker refuses a batch as a whole for one record in it, so its records are then tried one by one. After a
        refusal the producer is replaced: the idempotent one has counted the batch, and the broker has not.
        """
        failures = attempt.take_failures()
        if not failures:
            return
        await self._discard()
        for error in failures.values():
            if not isinstance(error, _OF_THE_RECORD):
                raise error
        for index in failures:
            attempt.sent[index] = future = await self._send_one(await self._ready(), attempt.records[index])
            await asyncio.wait([future])
            if alone := attempt.take_failures():
                await self._discard()
                if not isinstance(alone[index], _OF_THE_RECORD):
                    raise alone[index]
                attempt.refused[index] = repr(alone[index])

    # --- connecting --------------------------------------------------------------------------------------------------

    async def _ready(self) -> AIOKafkaProducer:
        """The producer, connected; the topic is there if it is ours to make."""
        if not self._topic_is_there and self._config.create_topic is not None:
            await self._make_topic(self._config.create_topic)
            self._topic_is_there = True
        if self._producer is None:
            try:
                self._producer = await self._started(self._idempotent)
            except (KafkaConnectionError, AuthenticationFailedError):
                raise
            except KafkaError as error:
                if self._config.idempotence != "auto" or not self._idempotent:
                    raise
                self._producer = await self._started(False)
                self._idempotent = False
                self._log.warning(
                    "The broker has no idempotent producer: a retry may write a record twice.",
                    extra={"brokers": self._brokers, "answer": repr(error)},
                )
        return self._producer

    async def _started(self, idempotent: bool) -> AIOKafkaProducer:
        config = self._config
        producer = AIOKafkaProducer(
            **self._connection(),
            acks="all",
            enable_idempotence=idempotent,
            compression_type=None if config.compression == "none" else config.compression,
            linger_ms=round(config.linger * 1000),
            max_batch_size=min(BATCH_BYTES, config.max_message_size),
            max_request_size=config.max_message_size,
        )
        async with AsyncExitStack() as opened:
            opened.push_async_callback(_stopped, producer)
            await _within(START_S, producer.start)  # it asks for ever, if the broker hangs up on what it does not know
            opened.pop_all()
        return producer

    def _connection(self) -> Mapping[str, object]:
        safe: Security = self._safe
        return {
            "bootstrap_servers": listed(self._config.brokers),
            "client_id": self._config.client_id,
            "request_timeout_ms": round(self._config.request_timeout * 1000),
            "security_protocol": safe.protocol,
            "ssl_context": safe.context,
            "sasl_mechanism": safe.sasl.mechanism if safe.sasl else "PLAIN",
            "sasl_plain_username": safe.sasl.username if safe.sasl else None,
            "sasl_plain_password": safe.sasl.password.reveal() if safe.sasl else None,
        }

    async def _make_topic(self, wanted: CreateTopic) -> None:
        settings = {"max.message.bytes": str(self._config.max_message_size + BATCH_HEAD), **wanted.config}
        topic = NewTopic(self._config.topic, wanted.partitions, wanted.replication, topic_configs=settings)
        admin = AIOKafkaAdminClient(**self._connection())
        async with AsyncExitStack() as opened:
            opened.push_async_callback(_closed, admin)
            await _within(START_S, admin.start)
            answer = await _within(START_S, lambda: admin.create_topics([topic]))
        for _, code, *text in answer.topic_errors:
            if code and for_code(code) is not TopicAlreadyExistsError:
                reason = next((str(part) for part in text if part), for_code(code).__name__)
                raise RetryableError(f"Kafka at {self._brokers} does not make topic {self._config.topic}: {reason}")

    async def _discard(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            await _stopped(producer)
        if self._attempt is not None:
            self._attempt.forget_open()

    async def make_topic(self) -> None:
        """Make the topic now and not with the first record: who reads it may start before there is any. Raises
        RetryableError."""
        if not self._topic_is_there and self._config.create_topic is not None:
            with _translating(self._brokers):
                await self._make_topic(self._config.create_topic)
            self._topic_is_there = True

    async def close(self) -> None:
        """Let what is on its way arrive, within STOP_S."""
        await self._discard()


async def _within(timeout_s: float, call: Callable[[], Awaitable[T]]) -> T:
    """Raises KafkaTimeoutError."""
    try:
        with anyio.fail_after(timeout_s):
            return await call()
    except TimeoutError as error:
        raise KafkaTimeoutError(f"no answer within {timeout_s:.0f}s") from error


async def _stopped(producer: AIOKafkaProducer) -> None:
    with anyio.CancelScope(deadline=anyio.current_time() + STOP_S, shield=True):
        await producer.stop()


async def _closed(admin: AIOKafkaAdminClient) -> None:
    with anyio.CancelScope(deadline=anyio.current_time() + STOP_S, shield=True):
        await admin.close()


@asynccontextmanager
async def build(config: KafkaExporterConfig, context: Context) -> AsyncIterator[Exporter[Item | Edges]]:
    exporter = KafkaExporter(config, context)
    if config.create_topic is not None:
        context.side_input("topic", 0, exporter.make_topic, lambda nothing: None, 0)
    try:
        yield exporter
    finally:
        await exporter.close()


SPEC = ExporterSpec(
    "kafka",
    KafkaExporterConfig,
    build,
    takes=frozenset({Signal.EVENTS, Signal.LOGS, Signal.ALERTS}),
    serial=True,
    delivery=Delivery(timeout=Duration("60s")),
)
