"""Which waiting payloads have been overtaken by newer ones: a resolved problem is not announced as failing. Pure.

A payload with a `life` is overtaken once a newer one of that life with at least its rank waits too, or one that ends
the life. Only what is committed counts: the older one may then be acknowledged unsent, and after a crash the newer
one is still there. Payloads without a life cost nothing here.
"""

from typing import Final

import anyio
import msgspec

from pipeline.alert_records import Outcome
from pipeline.batch import WHOLE
from pipeline.components import Payload

_END: Final = 1 << 30
"""The rank of a payload for the lives that it ends."""


class Entry(msgspec.Struct):
    """A committed payload that waits. `payload` is None while its bytes are on disk only."""

    id: int
    size: int
    payload: Payload | None
    failures: int = 0
    shard: str = WHOLE
    scope: anyio.CancelScope | None = None
    """Cancels its sending."""
    outcome: Outcome = "delivered"
    answer: str = ""
    """What became of it, and what its backend said last of it."""
    calls: int = 0


class _Mark(msgspec.Struct, frozen=True, gc=False):
    """That the payload `id` is the `order`-th, of this rank."""

    order: int
    rank: int
    id: int


class Overtaking:
    """What waits to be sent, by the lives that it tells of."""

    def __init__(self) -> None:
        self._orders: dict[int, int] = {}
        self._unknown: set[int] = set()
        self._own: dict[int, tuple[str, _Mark]] = {}
        self._lives: dict[str, list[_Mark]] = {}
        self._touched: dict[int, list[str]] = {}
        self._next = 0

    def add(self, entry: Entry, payload: Payload | None) -> None:
        """A payload waits, behind all others. None: nobody has read it yet."""
        self._next += 1
        if payload is None:
            self._orders[entry.id] = self._next
            self._unknown.add(entry.id)
        else:
            self._mark(entry.id, self._next, payload)

    def unknown(self, entry: Entry) -> bool:
        """Nobody has said yet what it is."""
        return entry.id in self._unknown

    def know(self, entry: Entry, payload: Payload) -> None:
        """What a payload is that had not been read."""
        if entry.id in self._unknown:
            self._unknown.discard(entry.id)
            self._mark(entry.id, self._orders.pop(entry.id), payload)

    def overtaken(self, entry: Entry) -> bool:
        """Whether it need not be sent any more."""
        found = self._own.get(entry.id)
        if found is None:
            return False
        life, own = found
        return any(other.order > own.order and other.rank >= own.rank for other in self._lives[life])

    def remove(self, id: int) -> None:
        """It waits no longer."""
        self._orders.pop(id, None)
        self._unknown.discard(id)
        self._own.pop(id, None)
        for life in self._touched.pop(id, ()):
            left = [mark for mark in self._lives[life] if mark.id != id]
            if left:
                self._lives[life] = left
            else:
                del self._lives[life]

    def _mark(self, id: int, order: int, payload: Payload) -> None:
        lives = dict.fromkeys(payload.ends, _END)
        if payload.life:
            lives.setdefault(payload.life, payload.rank)
            self._own[id] = (payload.life, _Mark(order, payload.rank, id))
        for life, rank in lives.items():
            self._lives.setdefault(life, []).append(_Mark(order, rank, id))
        if lives:
            self._touched[id] = list(lives)
