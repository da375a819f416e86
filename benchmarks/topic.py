"""Fills a topic with recorded events, as the bridge writes them."""

import anyio
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from benchmarks.load import records


async def fill(bootstrap: str, topic: str, count: int, partitions: int = 1, later_s: int = 0, salt: str = "") -> None:
    """Make `topic` and write `count` records with the bridge's headers, keyed by run."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    await admin.create_topics([NewTopic(topic, partitions, 1)])
    await admin.close()
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, linger_ms=20, max_batch_size=2**20)
    await producer.start()
    for record in records(count, later_s=later_s, salt=salt):
        headers = [("dagtel-instance", b"bench"), ("dagtel-storage-id", str(record.storage_id).encode())]
        await producer.send(topic, record.value, key=record.key, headers=headers)
    await producer.flush()
    await producer.stop()


if __name__ == "__main__":
    import sys

    anyio.run(fill, sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]) if len(sys.argv) > 4 else 1)
