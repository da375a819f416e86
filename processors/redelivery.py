"""The `redelivery` processor: an event that comes again is dropped. An exact set of the last N ids, a shard.

An id has 8 bytes: where the carrier says instance and storage id (our bridge does), the digest of instance and run
plus the storage id (a storage id alone is not unique: on SQLite each run counts from 1); else the digest of the
event's bytes. Two different events share an id once in 2^64; with a million remembered, one event in 18 million million
is dropped wrongly.

Stored as chunks of ids, appended to at each checkpoint: the last chunk is written again until it is full, so that
few events a second do not make many rows (a row an id took 167 ms for 90,000; one blob of them 11 ms). Chunks are
struck out oldest first, each when at least N younger ids are there.
"""

from array import array
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from hashlib import blake2b, sha1

import msgspec

from pipeline.batch import Batch
from pipeline.components import Context, ProcessorSpec, Table
from pipeline.events import Event
from pipeline.signals import Signal

INSTANCE = "dagtel-instance"
STORAGE_ID = "dagtel-storage-id"

_CHUNK = 16_384  # ids at most; a chunk that is written again costs 128 KB of a checkpoint
_RUNS = 20_000  # digests of runs kept at hand
_MOST_STORAGE_ID = 2**62  # a digest of 63 bits and a storage id still fit 64


class RedeliveryConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Drops events that were delivered before: after a crash of the bridge, a replayed topic, a producer's retry.

    Exact over the last `remember` events of each shard, across restarts; what repeats from further back passes. Events
    are told apart by Dagster instance, run and storage id where they carry them (headers of `dagtel bridge`), else by
    their bytes. Leave it out where equal lines are two events, as with the `file` receiver.
    """

    remember: int = 1_000_000
    """Events remembered in each shard. A million take about 100 MB of memory and 8 MB of state."""

    def problems(self) -> Iterator[tuple[str, str]]:
        """What is wrong with the options beyond their types."""
        if self.remember < 1:
            yield "remember", "must be at least 1; leave the processor out to remember nothing"


class Redelivery:
    """The processor, one instance a shard. `_new` are the ids since the last flush, in order."""

    def __init__(self, config: RedeliveryConfig, context: Context) -> None:
        self._chunks: Table[int, bytes] = context.state.table("chunks", int, bytes, version=1)
        self._remember = config.remember
        self._chunk = min(_CHUNK, max(1, config.remember // 16))
        self._id = EventIds()
        self._new: list[int] = []
        self._seen: set[int] = set()
        for _, chunk in self._chunks.items():
            self._seen.update(_ids(chunk))
        self._dropped = context.meter.create_counter(
            "dagtel_redelivery_dropped", description="Events that had been delivered before."
        )
        self._labels = {"component": context.id}

    async def process(self, batch: Batch[Event], /) -> Batch[Event]:
        """The events that were not there before; of equal ones in the batch the first."""
        ids = self._id.of(batch.items)
        fresh = set(ids)
        if len(fresh) == len(ids) and fresh.isdisjoint(self._seen):
            self._take(ids)
            return batch
        seen, first, kept = self._seen, set[int](), list[Event]()
        for id, event in zip(ids, batch.items, strict=True):
            if id not in seen and id not in first:
                first.add(id)
                kept.append(event)
        self._take([id for id in dict.fromkeys(ids) if id in first])
        self._dropped.add(len(ids) - len(kept), self._labels)
        return batch.carrying(kept)

    def _take(self, ids: Sequence[int]) -> None:
        self._new += ids
        self._seen.update(ids)

    async def flush(self, now_ns: int) -> Sequence[Event]:
        """Append the new ids to the stored ones and strike out the oldest."""
        if self._new:
            self._append(array("Q", self._new))
            self._new = []
            self._forget()
        return ()

    def _append(self, ids: "array[int]") -> None:
        number = max((number for number, _ in self._chunks.items()), default=0)
        last = self._chunks.get(number) or b""
        room = self._chunk - len(last) // 8
        if room > 0:
            self._chunks.put(number, last + ids[:room].tobytes())
            ids = ids[room:]
        while ids:
            number += 1
            self._chunks.put(number, ids[: self._chunk].tobytes())
            ids = ids[self._chunk :]

    def _forget(self) -> None:
        for number in sorted(number for number, _ in self._chunks.items()):
            chunk = self._chunks.get(number) or b""
            if len(self._seen) - len(chunk) // 8 < self._remember:
                return
            self._seen.difference_update(_ids(chunk))
            self._chunks.delete(number)


class EventIds:
    """Ids of events: numbers below 2^64. Keeps what does not change from event to event at hand."""

    def __init__(self) -> None:
        self._runs: dict[tuple[bytes, str], int] = {}
        self._places = (0, 1)  # of the two headers: a bridge sends them in one order

    def of(self, events: Sequence[Event]) -> list[int]:
        """The ids of these events."""
        return [self._stored(event) if event.headers else _by_bytes(event) for event in events]

    def _stored(self, event: Event) -> int:
        headers = event.headers
        stored_at, instance_at = self._places
        try:
            name, value = headers[stored_at]
            other, instance = headers[instance_at]
            if name != STORAGE_ID or other != INSTANCE:
                raise IndexError
            stored = int(value)
        except IndexError:
            return self._stored(event) if self._find(headers) else _by_bytes(event)
        except ValueError:
            return _by_bytes(event)
        if not 0 <= stored < _MOST_STORAGE_ID:
            return _by_bytes(event)
        run = self._runs.get((instance, event.run_id))
        return (self._run(instance, event.run_id) if run is None else run) + stored

    def _find(self, headers: Sequence[tuple[str, bytes]]) -> bool:
        names = [name for name, _ in headers]
        if STORAGE_ID not in names or INSTANCE not in names:
            return False
        self._places = (names.index(STORAGE_ID), names.index(INSTANCE))
        return True

    def _run(self, instance: bytes, run_id: str) -> int:
        if len(self._runs) >= _RUNS:
            self._runs.clear()
        text = b"%d\0%b%b" % (len(instance), instance, run_id.encode("utf-8", "surrogatepass"))
        found = int.from_bytes(blake2b(text, digest_size=8).digest(), "little") >> 1
        self._runs[instance, run_id] = found
        return found


def _by_bytes(event: Event) -> int:
    # The bytes hold the run id. SHA-1, which processors have an instruction for, takes half of what BLAKE2 does
    # (0.9 µs for 1.2 KB); this is no defence against events made to collide: who can write the topic can do worse.
    return int.from_bytes(sha1(event.raw, usedforsecurity=False).digest()[:8], "little")


def _ids(chunk: bytes) -> "array[int]":
    ids = array("Q")
    ids.frombytes(chunk)
    return ids


@asynccontextmanager
async def build(config: RedeliveryConfig, context: Context) -> AsyncIterator[Redelivery]:
    """Load the stored ids: 0.15 s a million."""
    yield Redelivery(config, context)


SPEC = ProcessorSpec("redelivery", RedeliveryConfig, build, takes=frozenset({Signal.EVENTS}))
