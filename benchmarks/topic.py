"""Topics of recorded events, as the bridge writes them: filled, read by a group, deleted."""

from collections.abc import Iterable

import anyio
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import GroupCoordinatorNotAvailableError, NotCoordinatorForGroupError

from benchmarks.load import Record, records

ASK_S = 0.2


async def fill(bootstrap: str, topic: str, count: int, partitions: int = 1, later_s: int = 0, salt: str = "") -> None:
    """Make `topic` and write `count` records with the bridge's headers, keyed by run."""
    await fill_with(bootstrap, topic, records(count, later_s=later_s, salt=salt), partitions)


async def fill_with(bootstrap: str, topic: str, load: Iterable[Record], partitions: int = 1) -> None:
    """The same with records of your own."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    await admin.create_topics([NewTopic(topic, partitions, 1)])
    await admin.close()
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, linger_ms=20, max_batch_size=2**20)
    await producer.start()
    for record in load:
        headers = [("dagtel-instance", b"bench"), ("dagtel-storage-id", str(record.storage_id).encode())]
        await producer.send(topic, record.value, key=record.key, headers=headers)
    await producer.flush()
    await producer.stop()


async def read_by(bootstrap: str, group: str, topic: str, count: int, within_s: float) -> list[tuple[float, int]]:
    """Wait until the group has committed `count` records of the topic: (seconds from now, records) as it went on.

    Raises TimeoutError.
    """
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    seen: list[tuple[float, int]] = []
    began = anyio.current_time()
    try:
        with anyio.fail_after(within_s):
            while True:
                try:
                    committed = await admin.list_consumer_group_offsets(group)
                except (GroupCoordinatorNotAvailableError, NotCoordinatorForGroupError):
                    await anyio.sleep(ASK_S)  # a broker that was just started has no coordinator until a group asks
                    continue
                read = sum(at.offset for part, at in committed.items() if _of(part, topic) and at.offset > 0)
                if not seen or read != seen[-1][1]:
                    seen.append((anyio.current_time() - began, read))
                if read >= count:
                    return seen
                await anyio.sleep(ASK_S)
    finally:
        await admin.close()


def _of(part: TopicPartition, topic: str) -> bool:
    return bool(part.topic == topic)


async def ends(bootstrap: str, topic: str) -> int:
    """How many records have been written to its first partition."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap)
    await consumer.start()
    try:
        return sum((await consumer.end_offsets([TopicPartition(topic, 0)])).values())
    finally:
        await consumer.stop()


async def delete(bootstrap: str, *topics: str) -> None:
    """Give their disk back."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    await admin.delete_topics(list(topics))
    await admin.close()


if __name__ == "__main__":
    import sys

    anyio.run(fill, sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]) if len(sys.argv) > 4 else 1)
