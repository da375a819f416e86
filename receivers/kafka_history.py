"""What a topic held in a range of time, for `dagtel replay`: all partitions as one, in order of their records' times.

Beside the consumer group: no membership, no position, nothing is committed. A partition's records come in their own
order; of several partitions the one whose next record is the oldest goes on. So memory holds one fetch a partition.
"""

from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import suppress
from typing import Protocol

import anyio
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from pipeline.components import Rejected
from pipeline.errors import PermanentError, RetryableError
from pipeline.kafka_client import listed, security
from receivers.kafka_members import Tp, source_of
from receivers.kafka_options import KafkaReceiverConfig
from receivers.kafka_partition import MILLISECOND, Record

FETCH_MS = 500
MOST = 500
"""Records in one fetch of a partition."""
LOOK_S = 0.05


class Topics(Protocol):
    """Partitions that are read from one offset to before another."""

    async def fetch(self, tp: Tp) -> Sequence[Record]:
        """The next records of a partition, none where none came in time."""
        ...

    async def cursor(self, tp: Tp) -> int:
        """The offset behind what was fetched."""
        ...


async def merged(topics: Topics, ends: Mapping[Tp, int], patience_s: float) -> AsyncIterator[tuple[Tp, Record]]:
    """The records before `ends`, the oldest first; each partition in its own order. Raises RetryableError when a
    partition gives nothing for `patience_s`."""
    waiting: dict[Tp, deque[Record]] = {tp: deque() for tp in sorted(ends)}
    while waiting:
        for tp in [tp for tp, records in waiting.items() if not records]:
            waiting[tp].extend(await _more(topics, tp, ends[tp], patience_s))
            if not waiting[tp]:
                del waiting[tp]
        if waiting:
            first = min(waiting, key=lambda tp: waiting[tp][0].timestamp)
            yield first, waiting[first].popleft()


async def _more(topics: Topics, tp: Tp, end: int, patience_s: float) -> list[Record]:
    deadline = anyio.current_time() + patience_s
    while await topics.cursor(tp) < end:
        if records := [record for record in await topics.fetch(tp) if record.offset < end]:
            return records
        if anyio.current_time() > deadline:
            raise RetryableError(f"{source_of(tp)} gives no records though there are some before offset {end}")
    return []


async def history(config: KafkaReceiverConfig, since_ns: int, until_ns: int) -> AsyncGenerator[Rejected, None]:
    """Every record with a time from `since_ns` on and before `until_ns`. Raises RetryableError, PermanentError."""
    brokers, safe = listed(config.brokers), security(config.tls, config.sasl)
    consumer = AIOKafkaConsumer(
        bootstrap_servers=brokers,
        client_id=config.client_id,
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="earliest",  # what retention takes away meanwhile is gone
        fetch_max_bytes=config.max_fetch_size,
        max_partition_fetch_bytes=config.max_partition_fetch_size,
        request_timeout_ms=round(config.request_timeout * 1000),
        security_protocol=safe.protocol,
        ssl_context=safe.context,
        sasl_mechanism=safe.sasl.mechanism if safe.sasl else "PLAIN",
        sasl_plain_username=safe.sasl.username if safe.sasl else None,
        sasl_plain_password=safe.sasl.password.reveal() if safe.sasl else None,
    )
    try:
        await consumer.start()
        ends = await _range(consumer, listed(config.topics), since_ns, until_ns, config.request_timeout)
        async for tp, record in merged(_Kafka(consumer), ends, config.request_timeout):
            at_ns = max(0, record.timestamp) * MILLISECOND
            headers = tuple((name, text or b"") for name, text in record.headers)
            source = source_of(tp)
            yield Rejected(record.value or b"", "", f"{source}@{record.offset}", source, record.offset, at_ns, headers)
    except KafkaError as error:
        raise RetryableError(f"Kafka at {', '.join(brokers)}: {error!r}") from error
    finally:
        with suppress(KafkaError):
            await consumer.stop()


async def _range(
    consumer: AIOKafkaConsumer, topics: Sequence[str], since_ns: int, until_ns: int, patience_s: float
) -> dict[Tp, int]:
    """Set the cursors to the first records, and give the ends of those partitions that hold any."""
    if missing := sorted(set(topics) - await consumer.topics()):
        raise PermanentError(f"there is no topic {', '.join(missing)}, or we may not describe it")
    consumer.subscribe(topics)
    deadline = anyio.current_time() + patience_s
    while {tp.topic for tp in consumer.assignment()} != set(topics):  # aiokafka has no event for it
        if anyio.current_time() > deadline:
            raise RetryableError(f"the brokers do not tell of the partitions of {', '.join(topics)}")
        await anyio.sleep(LOOK_S)
    tps = list(consumer.assignment())
    begins, latest = await consumer.beginning_offsets(tps), await consumer.end_offsets(tps)
    first = await _at(consumer, tps, since_ns)
    last = await _at(consumer, tps, until_ns)
    ends: dict[Tp, int] = {}
    for tp in tps:
        begin = max(begins[tp], first.get(tp, latest[tp]))
        end = min(latest[tp], last.get(tp, latest[tp]))
        if begin < end:
            consumer.seek(tp, begin)
            ends[tp.topic, tp.partition] = end
    return ends


async def _at(consumer: AIOKafkaConsumer, tps: Sequence[TopicPartition], at_ns: int) -> dict[TopicPartition, int]:
    """The first offset at or after a time; without those partitions that hold none."""
    at_ms = -(-at_ns // MILLISECOND)
    found = await consumer.offsets_for_times(dict.fromkeys(tps, at_ms))
    return {tp: at.offset for tp, at in found.items() if at is not None}


class _Kafka:
    """aiokafka's consumer as `merged` asks for it."""

    def __init__(self, consumer: AIOKafkaConsumer) -> None:
        self._inner = consumer

    async def fetch(self, tp: Tp) -> Sequence[Record]:
        wanted = TopicPartition(*tp)
        found = await self._inner.getmany(wanted, timeout_ms=FETCH_MS, max_records=MOST)
        return list(found.get(wanted, ()))

    async def cursor(self, tp: Tp) -> int:
        return int(await self._inner.position(TopicPartition(*tp)))
