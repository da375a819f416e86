"""The `redelivery` processor: an event that comes again is dropped. An exact set of the last N ids, a shard.

An id has 8 bytes: where the carrier says instance and storage id (our bridge does), the digest of instance and run
plus the storage id (a storage id alone is not unique: on SQLite each run counts from 1); else the digest of the
event's bytes. Two different events share an id once in 2^64; with a million remembered, one event in 18 million million
is dropped wrongly. `redelivery_ids` holds them.

Stored as chunks of ids (`id_codes`), appended to at each checkpoint: the last chunk is written again until it is full,
so that few events a second do not make many rows (a row an id took 167 ms for 90,000; one blob of them 11 ms). Chunks
are struck out oldest first, each when at least N younger ids are there.
"""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from hashlib import blake2b, sha1

import msgspec

from pipeline.batch import Batch
from pipeline.components import Context, ProcessorSpec, Table
from pipeline.events import Event
from pipeline.native import HAS_NATIVE, native
from pipeline.signals import Signal
from processors.redelivery_ids import MOST, Ids

INSTANCE = "dagtel-instance"
STORAGE_ID = "dagtel-storage-id"

_RUNS = 2048  # digests of runs kept at hand, those that are going on: 300 bytes each
_MOST_STORAGE_ID = 2**62  # a digest of 63 bits and a storage id still fit 64
_DIGITS = len(str(_MOST_STORAGE_ID))  # a number of fewer is below it


class RedeliveryConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Drops events that were delivered before: after a crash of the bridge, a replayed topic, a producer's retry.

    Exact over the last `remember` events of each shard, across restarts; what repeats from further back passes. Events
    are told apart by Dagster instance, run and storage id where they carry them (headers of `dagtel bridge`), else by
    their bytes. Leave it out where equal lines are two events, as with the `file` receiver.
    """

    remember: int = 1_000_000
    """Events remembered in each shard, that is of each partition. A million take about 35 MB of memory (16 with
    `dagtel-native`, which takes 14 of them at the start) and 1.5 MB of state, or 8 where they have no storage ids. With
    many partitions a share of it for each will do."""

    def problems(self) -> Iterator[tuple[str, str]]:
        """What is wrong with the options beyond their types."""
        if self.remember < 1:
            yield "remember", "must be at least 1; leave the processor out to remember nothing"


class Redelivery:
    """The processor, one instance a shard."""

    def __init__(self, config: RedeliveryConfig, context: Context) -> None:
        # Of version 1 a row was the bytes of the ids, which are a code of them, too.
        self._chunks: Table[int, bytes] = context.state.table("chunks", int, bytes, 2, {1: msgspec.msgpack.encode})
        self._remember = config.remember
        self._id = EventIds()
        stored = dict(self._chunks.items())
        self._seen = native.IdChunks(config.remember, MOST, stored) if HAS_NATIVE else Ids(config.remember, stored)
        self._dropped = context.meter.create_counter(
            "dagtel_redelivery_dropped", description="Events that had been delivered before."
        )
        self._labels = {"component": context.id}

    async def process(self, batch: Batch[Event], /) -> Batch[Event]:
        """The events that were not there before; of equal ones in the batch the first."""
        ids = self._id.of(batch.items)
        if self._seen.take_new(ids):
            return batch
        seen = self._seen.take(list(dict.fromkeys(ids)))
        kept: list[Event] = []
        for id, event in zip(ids, batch.items, strict=True):
            if id not in seen:
                seen.add(id)
                kept.append(event)
        self._dropped.add(len(ids) - len(kept), self._labels)
        return batch.carrying(kept)

    async def flush(self, now_ns: int) -> Sequence[Event]:
        """Store the new ids and strike out the oldest."""
        for number, ids in self._seen.take_changed():
            self._chunks.put(number, ids)
        for number in self._seen.strike_beyond(self._remember):
            self._chunks.delete(number)
        return ()


class EventIds:
    """Ids of events: numbers below 2^64. Keeps what does not change from event to event at hand.

    An id depends on its event alone: of headers of one name the first counts.
    """

    def __init__(self) -> None:
        self._runs: dict[tuple[bytes, str], int] = {}
        self._places = (0, 1)  # of the two headers, if they are the first two: a bridge sends them in one order
        self._twin = native.EventIds(Event, STORAGE_ID, INSTANCE, _DIGITS, _digest, _RUNS) if HAS_NATIVE else None

    def of(self, events: Sequence[Event]) -> list[int]:
        """The ids of these events."""
        if self._twin is not None:
            return self._twin.of(events, self._any)
        stored_at, instance_at = self._places
        found: list[int] = []
        for event in events:
            headers = event.headers
            if len(headers) > 1:  # nearly always; all else takes the long way
                name, value = headers[stored_at]
                other, instance = headers[instance_at]
                if name == STORAGE_ID and other == INSTANCE and value.isdigit() and len(value) < _DIGITS:
                    run = self._runs.get((instance, event.run_id))
                    found.append((self._run(instance, event.run_id) if run is None else run) + int(value))
                    continue
            found.append(self._any(event))
        return found

    def _any(self, event: Event) -> int:
        if not (headers := event.headers):
            return _by_bytes(event)
        names = [name for name, _ in headers]
        if STORAGE_ID not in names or INSTANCE not in names:
            return _by_bytes(event)
        stored_at, instance_at = names.index(STORAGE_ID), names.index(INSTANCE)
        if stored_at + instance_at == 1:
            self._places = (stored_at, instance_at)
        try:
            stored = int(headers[stored_at][1])
        except ValueError:
            return _by_bytes(event)
        if not 0 <= stored < _MOST_STORAGE_ID:
            return _by_bytes(event)
        instance = headers[instance_at][1]
        run = self._runs.get((instance, event.run_id))
        return (self._run(instance, event.run_id) if run is None else run) + stored

    def _run(self, instance: bytes, run_id: str) -> int:
        if len(self._runs) >= _RUNS:
            self._runs.clear()
        found = self._runs[instance, run_id] = _digest(instance, run_id)
        return found


def _digest(instance: bytes, run_id: str) -> int:
    text = b"%d\0%b%b" % (len(instance), instance, run_id.encode("utf-8", "surrogatepass"))
    return int.from_bytes(blake2b(text, digest_size=8).digest(), "little") >> 1


def _by_bytes(event: Event) -> int:
    # The bytes hold the run id. SHA-1, which processors have an instruction for, takes half of what BLAKE2 does
    # (0.9 µs for 1.2 KB); this is no defence against events made to collide: who can write the topic can do worse.
    return int.from_bytes(sha1(event.raw, usedforsecurity=False).digest()[:8], "little")


@asynccontextmanager
async def build(config: RedeliveryConfig, context: Context) -> AsyncIterator[Redelivery]:
    """Load the stored ids: 0.15 s a million."""
    yield Redelivery(config, context)


SPEC = ProcessorSpec("redelivery", RedeliveryConfig, build, takes=frozenset({Signal.EVENTS}))
