"""The `kafka` receiver: the door to aiokafka, and what the configuration names.

Everything that decides is behind the door: `kafka_reading` (the loop), `kafka_members` (whose partitions they are),
`kafka_partition` and `kafka_positions` (records to events, where to go on).
"""

import re
import socket
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager

import anyio
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.errors import (
    AuthenticationFailedError,
    AuthenticationMethodNotSupported,
    GroupAuthorizationFailedError,
    IllegalSaslStateError,
    InconsistentGroupProtocolError,
    InvalidGroupIdError,
    InvalidSessionTimeoutError,
    KafkaConnectionError,
    KafkaError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
    TopicAuthorizationFailedError,
    UnsupportedCodecError,
    UnsupportedSaslMechanismError,
)
from opentelemetry.metrics import Meter

from pipeline.components import Context, Intake, Receiver, ReceiverSpec, Rejected
from pipeline.errors import PermanentError, RetryableError
from pipeline.events import Event
from pipeline.kafka_client import Security, listed, security
from pipeline.outcomes_wire import decode_events
from receivers.dagster_wire import TWIN, decode, redecode
from receivers.kafka_history import history
from receivers.kafka_members import REVOKE_SHARE, Membership, Tp
from receivers.kafka_options import KafkaReceiverConfig
from receivers.kafka_partition import Decode, DecodeAll
from receivers.kafka_reading import Fetched, OutOfRange, Reading
from receivers.kafka_records import flat, read_lean
from receivers.kafka_stream import receive_frames
from receivers.outcomes_wire import decode_outcomes

STOP_S = 5.0
COMMIT_S = 2.0
TOPIC_CHECK_S = 0.5
ONCE_WAIT_S = 0.05  # at its end `--once` need not wait for more

_FOR_GOOD = (
    AuthenticationFailedError,
    AuthenticationMethodNotSupported,
    GroupAuthorizationFailedError,
    IllegalSaslStateError,
    InconsistentGroupProtocolError,
    InvalidGroupIdError,
    InvalidSessionTimeoutError,
    TopicAuthorizationFailedError,
    UnsupportedCodecError,
    UnsupportedSaslMechanismError,
)


@contextmanager
def _translating(brokers: str) -> Iterator[None]:
    """aiokafka's errors as ours: what a person must set right is permanent, the rest may pass."""
    try:
        yield
    except _FOR_GOOD as error:
        raise PermanentError(f"Kafka at {brokers} refuses: {error!r}") from error
    except KafkaError as error:
        raise RetryableError(f"Kafka at {brokers}: {error!r}") from error


class _Consumer:
    """aiokafka's consumer as the reading loop asks for it; see `kafka_reading.Broker`."""

    def __init__(self, config: KafkaReceiverConfig, safe: Security, instance_id: str | None, wait_s: float) -> None:
        receive_frames()
        self._topics = listed(config.topics)
        self._brokers = ",".join(listed(config.brokers))
        self._inner = AIOKafkaConsumer(
            bootstrap_servers=listed(config.brokers),
            client_id=config.client_id,
            group_id=config.group_id,
            group_instance_id=instance_id,
            enable_auto_commit=False,
            auto_offset_reset="none",  # where to begin is ours to say, and an offset that is gone is an error
            session_timeout_ms=_ms(config.session_timeout),
            heartbeat_interval_ms=_ms(config.heartbeat_interval),
            rebalance_timeout_ms=_ms(config.rebalance_timeout),
            max_poll_interval_ms=_ms(config.max_poll_interval),
            fetch_min_bytes=config.min_fetch_size,
            fetch_max_bytes=config.max_fetch_size,
            max_partition_fetch_bytes=config.max_partition_fetch_size,
            fetch_max_wait_ms=_ms(wait_s),
            metadata_max_age_ms=_ms(config.metadata_refresh_interval),
            request_timeout_ms=_ms(config.request_timeout),
            security_protocol=safe.protocol,
            ssl_context=safe.context,
            sasl_mechanism=safe.sasl.mechanism if safe.sasl else "PLAIN",
            sasl_plain_username=safe.sasl.username if safe.sasl else None,
            sasl_plain_password=safe.sasl.password.reveal() if safe.sasl else None,
        )
        self._listener: _Listener | None = None
        self._renewed = False

    async def start(self, topic_timeout_s: float) -> None:
        """Connect, and wait for the topics. Raises RetryableError, PermanentError.

        The topics are looked for before they are subscribed: asking for one that is not there would make many brokers
        create it, with settings that nobody chose.
        """
        with _translating(self._brokers):
            try:
                await self._inner.start()
            except KafkaConnectionError as error:  # whatever the reason was: aiokafka says it in its log alone
                raise RetryableError(
                    f"Kafka at {self._brokers}: no broker lets us in. Are they up, and do `tls` and `sasl` fit? "
                    "The log of `aiokafka` says what each answered."
                ) from error
            deadline = anyio.current_time() + topic_timeout_s
            while missing := sorted(set(self._topics) - await self._inner.topics()):
                if anyio.current_time() > deadline:
                    raise PermanentError(
                        f"Kafka at {self._brokers} has no topic {', '.join(missing)}, or we may not describe it. "
                        "Create it, or set `topics`; `topic_timeout` says how long to wait for it."
                    )
                await anyio.sleep(TOPIC_CHECK_S)
        read_lean(self._inner)
        self._inner._client.cluster.add_listener(self._on_metadata)  # aiokafka 0.14 has no public way to hear of it

    def _on_metadata(self, cluster: object) -> None:
        self._renewed = True

    def renewed(self) -> bool:
        renewed, self._renewed = self._renewed, False
        return renewed

    def join(self, members: Membership) -> None:
        self._listener = _Listener(members)
        self._inner.subscribe(self._topics, listener=self._listener)

    def rejoin(self) -> None:
        self._inner.subscribe(self._topics, listener=self._listener)

    def leave(self) -> None:
        """Have `stop` give the membership up, also a static one: the next owner then begins at once.

        aiokafka 0.14 has no public way; it sends LeaveGroup for members without a name, and the broker knows a member
        by its id, which it sends.
        """
        self._inner._coordinator._group_instance_id = None

    async def stop(self) -> None:
        """Stop within STOP_S. A static member stays in the group for its session timeout, a dynamic one leaves."""
        with anyio.CancelScope(deadline=anyio.current_time() + STOP_S, shield=True):
            await self._inner.stop()

    async def fetch(self, timeout_s: float, most: int) -> Sequence[Fetched]:
        with _translating(self._brokers):
            try:
                fetched = await self._inner.getmany(timeout_ms=_ms(timeout_s), max_records=most)
            except OffsetOutOfRangeError as error:
                raise OutOfRange(error.args[0]) from error
            except NoOffsetForPartitionError:
                return ()  # the client looks for a place to begin before we have told it one
            found: list[Fetched] = []
            for tp, records in fetched.items():
                *before, last = flat(records, most)
                end = self._inner.highwater(tp)
                found += [Fetched(tp, part, part[-1].offset + 1, end) for part in before]
                found.append(Fetched(tp, last, await self._inner.position(tp), end))
            return found

    async def bounds(self, partitions: Iterable[Tp]) -> Mapping[Tp, tuple[int, int]]:
        tps = [TopicPartition(*tp) for tp in partitions]
        with _translating(self._brokers):
            begins = await self._inner.beginning_offsets(tps)
            ends = await self._inner.end_offsets(tps)
        return {tp: (begins[tp], ends[tp]) for tp in tps}

    async def at_time(self, partitions: Iterable[Tp], at_ms: int) -> Mapping[Tp, int | None]:
        with _translating(self._brokers):
            found = await self._inner.offsets_for_times({TopicPartition(*tp): at_ms for tp in partitions})
        return {tp: None if at is None else at.offset for tp, at in found.items()}

    async def cursor(self, tp: Tp) -> int | None:
        return await self._inner.position(tp) if tp in self._inner.assignment() else None

    def end(self, tp: Tp) -> int | None:
        return self._inner.highwater(tp) if tp in self._inner.assignment() else None

    def seek(self, tp: Tp, offset: int) -> None:
        self._inner.seek(TopicPartition(*tp), offset)

    def pause(self) -> None:
        self._inner.pause(*self._inner.assignment())

    def resume(self) -> None:
        self._inner.resume(*self._inner.paused())

    async def commit(self, offsets: Mapping[Tp, int]) -> None:
        """Within COMMIT_S: without a coordinator aiokafka would try for ever, and we would not read."""
        with _translating(self._brokers):
            try:
                with anyio.fail_after(COMMIT_S):
                    await self._inner.commit({TopicPartition(*tp): offset for tp, offset in offsets.items()})
            except TimeoutError as error:
                raise RetryableError(f"no answer to a commit within {COMMIT_S:.0f}s") from error

    def partition_counts(self) -> Mapping[str, int]:
        return {topic: len(self._inner.partitions_for_topic(topic) or ()) for topic in self._topics}


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka has no types
    """aiokafka's callbacks, passed on."""

    def __init__(self, members: Membership) -> None:
        self._members = members

    async def on_partitions_revoked(self, revoked: Iterable[Tp]) -> None:
        await self._members.taken()

    def on_partitions_assigned(self, assigned: Iterable[Tp]) -> None:
        self._members.given(assigned)


class _Figures:
    """The receiver's own metrics, named after the Collector's."""

    def __init__(self, meter: Meter) -> None:
        self._lag = meter.create_gauge(
            "dagtel_kafka_receiver_offset_lag", description="Records of the partition that are not read yet"
        )
        self._records = meter.create_counter("dagtel_kafka_receiver_records", description="Records read")
        self._bytes = meter.create_counter("dagtel_kafka_receiver_bytes", unit="By", description="Bytes read")

    def read(self, tp: Tp, records: int, size: int) -> None:
        labels = {"topic": tp[0], "partition": str(tp[1])}
        self._records.add(records, labels)
        self._bytes.add(size, labels)

    def lag(self, tp: Tp, records: int) -> None:
        self._lag.set(records, {"topic": tp[0], "partition": str(tp[1])})


class KafkaReceiver:
    """A member of a consumer group; each `run` is one membership."""

    def __init__(
        self, config: KafkaReceiverConfig, context: Context, decode: Decode, decode_all: DecodeAll | None = None
    ) -> None:
        self._config, self._decode, self._decode_all, self._log = config, decode, decode_all, context.log
        self._safe = security(config.tls, config.sasl)
        self._instance_id = _instance_id(config, context)
        self._leaves = context.leaves or self._instance_id is None
        self._figures = _Figures(context.meter)

    async def run(self, intake: Intake[object]) -> None:
        """See `pipeline.components.Receiver`. Raises RetryableError, PermanentError."""
        wait_s = min(ONCE_WAIT_S, self._config.max_fetch_wait) if intake.once else self._config.max_fetch_wait
        consumer = _Consumer(self._config, self._safe, self._instance_id, wait_s)
        try:
            await consumer.start(self._config.topic_timeout)
            reading = Reading(self._config, consumer, intake, self._decode, self._figures, self._log, self._decode_all)
            consumer.join(reading.members)
            try:
                await reading.run()
            except RetryableError:
                await self._hand_over(reading.members)  # the next run takes them on anew
                raise
            except anyio.get_cancelled_exc_class():
                if self._leaves:  # the next owner begins at once
                    await self._hand_over(reading.members)
                    consumer.leave()
                raise
            finally:
                reading.members.stop()
        finally:
            await consumer.stop()

    async def _hand_over(self, members: Membership) -> None:
        members.stop()
        budget_s = self._config.rebalance_timeout * REVOKE_SHARE
        with anyio.CancelScope(deadline=anyio.current_time() + budget_s, shield=True):
            await members.release()


def _instance_id(config: KafkaReceiverConfig, context: Context) -> str | None:
    if config.group_instance_id == "":
        return None
    name = config.group_instance_id or f"{socket.gethostname()}-{context.id}"
    worker = f"-{context.worker}" if context.worker else ""
    return re.sub(r"[^a-zA-Z0-9._-]", "-", name)[: 249 - len(worker)] + worker


def _ms(seconds: float) -> int:
    return max(1, round(seconds * 1000))


def _redecode(config: KafkaReceiverConfig, rejected: Rejected) -> Sequence[Event]:
    """A record that was rejected before, as it is read now. Raises DecodeError."""
    return decode_events(rejected.body) if config.encoding == "outcomes" else redecode(config, rejected)


@asynccontextmanager
async def build(config: KafkaReceiverConfig, context: Context) -> AsyncIterator[Receiver[Event]]:
    if config.encoding == "outcomes":
        yield KafkaReceiver(config, context, decode_outcomes, None)
    else:
        yield KafkaReceiver(config, context, decode, TWIN.decode_all if TWIN is not None else None)


SPEC = ReceiverSpec(
    "kafka",
    KafkaReceiverConfig,
    build,
    redecode=_redecode,
    brings=lambda config: ("run_ledger",) if config.encoding == "outcomes" else (),
    shares=True,
    history=history,
)
