"""The outbox of one exporter: from items to payloads, from committed payloads to acknowledged ones.

An item's way: `push` gathers it, `build` turns what has gathered into payloads, the checkpoint takes and stores them,
`release` makes them ready to be sent, `acked` forgets them. Nothing is sent before `release`. `push`, `build` and
`release` never wait: limits are kept at the intake alone.
"""

from collections import deque
from collections.abc import Callable, Collection, Sequence
from typing import Any, Final

import anyio

from pipeline.alert_records import RECORDS
from pipeline.batch import WHOLE, Batch
from pipeline.components import Exporter, ExporterSpec, Payload, Receipt
from pipeline.delivery import Delivery
from pipeline.runtime.dead_letters import DeadLetters
from pipeline.runtime.ids import Ids
from pipeline.runtime.joining import Joining
from pipeline.runtime.overtaking import Entry, Overtaking
from pipeline.store.state import OutboxRow, Waiting

PIECE: Final = 1000
"""Items that an exporter whose payloads can be joined is given at once: a checkpoint, which pauses the intake, has no
more of them left to build. 1,000 spans take 10 ms."""
_RECORDS: Final = frozenset(RECORDS)


class Edge:
    """Where the stages of one shard leave items for an exporter: a `Sink`. `alike`: all items of a push are of one
    type, as they are but among alerts."""

    def __init__(self, outbox: "Outbox", shard: str, alike: bool = False) -> None:
        self._outbox, self._shard, self._alike = outbox, shard, alike

    async def push(self, items: Sequence[Any], now_ns: int) -> None:
        await self._outbox.push(items, now_ns, self._shard, self._alike)


class Outbox:
    """One exporter's edge of the graph (a `Sink`) and its queue of committed payloads.

    A payload holds items of one shard, and goes with it to whoever takes the shard on. Where one process owns all
    there is, that is `WHOLE` for everything.
    """

    def __init__(
        self,
        id: str,
        spec: ExporterSpec[Any],
        exporter: Exporter[Any],
        delivery: Delivery,
        ids: Ids,
        dead: DeadLetters,
        urge: Callable[[], None],
        receipt: Callable[[Receipt], None] = lambda receipt: None,
    ) -> None:
        self.id, self.spec, self.exporter, self.delivery = id, spec, exporter, delivery
        self.receipt = receipt
        """Gives a committed receipt back to the exporter."""
        self.bytes = 0
        """Bytes of all payloads that are built and not acknowledged yet, in memory and on disk."""
        self.dropped = 0
        self.unsealed = 0
        """Bytes of payloads that wait for the next checkpoint."""
        self._joining = Joining(id, exporter, delivery)
        self._ids, self._dead, self._urge = ids, dead, urge
        self.place = ""
        """Tells its receipts from those of the same exporter in other processes."""
        self._gathered: dict[tuple[str, type], list[Any]] = {}
        self._built: list[OutboxRow] = []
        self._ready: deque[Entry] = deque()
        self._in_memory = 0
        self._open: dict[int, int] = {}
        self._sending: dict[int, Entry] = {}
        self._wake, self._settled = anyio.Event(), anyio.Event()
        self._overtaking = Overtaking()

    # --- the driver's side ---

    async def push(self, items: Sequence[Any], now_ns: int, shard: str = WHOLE, alike: bool = False) -> None:
        """Gather items; a full payload, or a piece of one, is built at once. Each type has payloads of its own. Only
        exporters that keep records get them, and with all else in one payload: a reader finds all of it or nothing.
        `alike`: all are of one type; nobody need look at each, which is far away in memory."""
        if self.spec.records:
            self._gather(items, object, now_ns, shard)
            return
        if alike and items:
            self._gather(items, type(items[0]), now_ns, shard)
            return
        types = set(map(type, items))
        for kind in types - _RECORDS:
            own = items if len(types) == 1 else [item for item in items if type(item) is kind]
            self._gather(own, kind, now_ns, shard)

    def _gather(self, items: Sequence[Any], kind: type, now_ns: int, shard: str) -> None:
        gathered = self._gathered.setdefault((shard, kind), [])
        gathered.extend(items)
        if len(gathered) >= self._at_once:
            self.build(now_ns)
        if self.spec.urgent and items:
            self._urge()

    def build(self, now_ns: int) -> None:
        """Turn what has gathered into payloads."""
        size = self._at_once
        gathered, self._gathered = self._gathered, {}
        for (shard, _), items in gathered.items():
            for start in range(0, len(items), size):
                self._build(items[start : start + size], now_ns, shard)

    @property
    def _at_once(self) -> int:
        most = self.delivery.sending_queue.batch.max_size
        return min(most, PIECE) if self._joining.joins else most

    def take_built(self) -> list[OutboxRow]:
        """The payloads built since the last time, for the checkpoint."""
        built, self._built = self._built, []
        self.unsealed = 0
        return built

    def aside(self, items: Sequence[Any], now_ns: int, shard: str) -> list[OutboxRow]:
        """Payloads of these items alone, for a commit beside the checkpoints."""
        built, self._built = self._built, []
        self._build(items, now_ns, shard)
        made, self._built = self._built, built
        return made

    def _build(self, items: Sequence[Any], now_ns: int, shard: str) -> None:
        try:
            payloads = self.exporter.build(Batch(items, shard, now_ns))
        except Exception as error:  # noqa: BLE001  # whatever an exporter raises must not stop the others
            if len(items) == 1:
                self._dead.add_item(items[0], error, f"exporters.{self.id}", now_ns, shard)
            else:
                for item in items:
                    self._build((item,), now_ns, shard)
            return
        for payload in payloads:
            self._put(payload, shard)

    def resend(self, payload: Payload, shard: str = WHOLE) -> None:
        """Take a payload that was refused as it is: it was sealed when it was first committed."""
        self._joining.sealed.add(self._put(payload, shard))

    def _put(self, payload: Payload, shard: str) -> int:
        row = OutboxRow(self._ids.next(), self.id, payload, shard)
        self._built.append(row)
        self.unsealed += len(payload.body)
        self._account(row.id, len(payload.body))
        return row.id

    # --- the committer's side ---

    def sealed(self, built: list[OutboxRow], rest: list[OutboxRow] | None = None) -> list[OutboxRow]:
        """These payloads as they are stored; see `Joining.stored`."""
        return self._joining.stored(built, rest)

    def restore(self, waiting: Sequence[Waiting]) -> None:
        """Payloads that an earlier process committed and did not see acknowledged: they go first."""
        for row in waiting:
            self._account(row.id, row.size)
            self._add(Entry(row.id, row.size, None, shard=row.shard))

    def release(self, rows: Sequence[OutboxRow]) -> None:
        """These payloads are committed and may be sent."""
        memory = self.delivery.sending_queue.memory
        for row in rows:
            size = len(row.payload.body)
            kept = row.payload if self._in_memory + size <= memory else None
            self._add(Entry(row.id, size, kept, shard=row.shard), row.payload)

    def resized(self, row: OutboxRow) -> None:
        """A payload was joined to others, or compressed."""
        self._account(row.id, len(row.payload.body))

    def _account(self, id: int, size: int) -> None:
        self.bytes += size - self._open.get(id, 0)
        self._open[id] = size

    def _add(self, entry: Entry, payload: Payload | None = None) -> None:
        self._ready.append(entry)
        self._overtaking.add(entry, payload)
        if entry.payload is not None:
            self._in_memory += entry.size
        self._wake.set()

    # --- the senders' side ---

    async def next(self) -> Entry:
        """The oldest payload that nobody sends yet; waits for one."""
        while not self._ready:
            self._wake = anyio.Event()
            await self._wake.wait()
        entry = self._ready.popleft()
        self._sending[entry.id] = entry
        if entry.payload is not None:
            self._in_memory -= entry.size
        return entry

    @property
    def unread(self) -> list[Entry]:
        """Waiting payloads of an earlier process of which nobody knows yet what they overtake."""
        return [entry for entry in self._ready if self._overtaking.unknown(entry)]

    def known(self, entry: Entry, payload: Payload) -> None:
        """What a payload of an earlier process is."""
        self._overtaking.know(entry, payload)

    def overtaken(self, entry: Entry) -> bool:
        """Whether a newer payload that is committed too makes this one pointless."""
        return self._overtaking.overtaken(entry)

    def acked(self, id: int) -> None:
        """A payload needs no more sending, or no more by us."""
        self.bytes -= self._open.pop(id, 0)
        self._overtaking.remove(id)
        if self._sending.pop(id, None) is not None:
            self._settled.set()

    # --- a shard that goes to another process ---

    def withdraw(self, shards: Collection[str]) -> None:
        """Forget the payloads of these shards that nobody sends yet: the next owner sends them."""
        gone = [entry for entry in self._ready if entry.shard in shards]
        self._ready = deque(entry for entry in self._ready if entry.shard not in shards)
        for entry in gone:
            if entry.payload is not None:
                self._in_memory -= entry.size
            self.acked(entry.id)

    def sending(self, shards: Collection[str]) -> list[Entry]:
        """The payloads of these shards that are being sent."""
        return [entry for entry in self._sending.values() if entry.shard in shards]

    async def settled(self) -> None:
        """Wait until one that was being sent is sent, or given up."""
        self._settled = anyio.Event()
        await self._settled.wait()

    # --- bounds ---

    def drop_excess(self) -> list[tuple[int, str]]:
        """With `drop_oldest`: take the oldest waiting payloads out until the rest fits; their ids and shards."""
        queue = self.delivery.sending_queue
        gone: list[tuple[int, str]] = []
        while queue.on_full == "drop_oldest" and self.bytes > queue.queue_size and self._ready:
            entry = self._ready.popleft()
            if entry.payload is not None:
                self._in_memory -= entry.size
            self.acked(entry.id)
            gone.append((entry.id, entry.shard))
        self.dropped += len(gone)
        return gone

    def __len__(self) -> int:
        """Payloads that are not acknowledged yet."""
        return len(self._open)

    @property
    def ready(self) -> bool:
        """Something waits that nobody sends yet."""
        return bool(self._ready)

    @property
    def full(self) -> bool:
        """It holds all it may and blocks the intake."""
        queue = self.delivery.sending_queue
        return queue.on_full == "block" and self.bytes >= queue.queue_size
