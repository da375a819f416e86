"""The yardsticks: fetching alone, and the bare loop (fetch and untyped decode), over the same topic."""

import sys
import time

import anyio
import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition


async def loop(bootstrap: str, topic: str, decode: bool, partitions: int = 1) -> tuple[int, float, float]:
    """(records, wall seconds, CPU seconds) from the first fetch to the end of the topic."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False)
    await consumer.start()
    parts = [TopicPartition(topic, p) for p in range(partitions)]
    consumer.assign(parts)
    await consumer.seek_to_beginning(*parts)
    ends = await consumer.end_offsets(parts)
    want, got = sum(ends.values()), 0
    decoder = msgspec.json.Decoder()
    wall, cpu = time.perf_counter(), time.process_time()
    while got < want:
        for some in (await consumer.getmany(timeout_ms=1000, max_records=5000)).values():
            got += len(some)
            if decode:
                for record in some:
                    decoder.decode(record.value)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    await consumer.stop()
    return got, wall, cpu


if __name__ == "__main__":
    count, wall, cpu = anyio.run(loop, sys.argv[1], sys.argv[2], sys.argv[3] == "decode", int(sys.argv[4]))
    print(msgspec.json.encode({"events": count, "wall": wall, "cpu": cpu}).decode())
