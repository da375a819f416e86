"""Which series show as 0 until somebody has seen that, also over restarts.

    begins ─► unseen ─► a scrape, or `hold` is over ─► seen ─► a receipt that says so is committed ─► shows its value
              (shows 0)                                (shows 0)

The payload with which it begins is acknowledged by then: it will not be sent again, to begin a second time.

A receipt names the series that are unseen. So a start knows of each whether its value can have been shown: not of one
that is named, nor of one that begins in a payload which no receipt acknowledges; of all others it can, and to show
them as 0 would be a reset. `increase()` is then the truth whenever the daemon is killed.
"""

from collections.abc import Sequence
from hashlib import blake2b
from typing import Final

import msgspec

from exporters.prometheus_text import Figure, Figures
from pipeline.components import Receipt
from pipeline.signals import Labels

MOST: Final = 50_000
"""Series that a receipt names, at most: 400 KB. Of more, the rest shows its values after a crash as if it was seen."""

_DIGEST: Final = 8


class _Told(msgspec.Struct, frozen=True, array_like=True):
    """A receipt: its number, and the digests of the unseen series."""

    number: int
    unseen: bytes


class _Held(msgspec.Struct):
    """One series that shows as 0. `is_sent`: the payload with which it begins was sent; `until_ns`: for how long."""

    digest: bytes
    until_ns: int = 0
    is_sent: bool = False
    seen: bool = False
    seen_by_receipt: int = 0


class Holding:
    """The held series of `figures`, each for `hold_ns` at most. `receipt` is what the process before has left."""

    def __init__(self, figures: Figures, hold_ns: int, receipt: Receipt | None) -> None:
        before = _read(receipt)
        self.first = before is None
        """No process of this exporter has published anything yet."""
        self._figures, self._hold_ns = figures, hold_ns
        self._number = before.number if before else 0
        unseen = before.unseen if before else b""
        self._unseen_before = frozenset(unseen[at : at + _DIGEST] for at in range(0, len(unseen), _DIGEST))
        self._committed: Receipt | None = receipt
        self._held: dict[Figure, _Held] = {}

    def unseen_before(self, name: str, labels: Labels) -> bool:
        """Whether the series was published in the process before, and nobody has seen it there."""
        return bool(self._unseen_before) and _digest(name, labels) in self._unseen_before

    def hold(self, figure: Figure) -> None:
        """A series begins."""
        self._figures.hold(figure)
        self._held[figure] = _Held(_digest(figure.name, figure.labels))

    def sent(self, now_ns: int | None) -> Receipt:
        """A payload of this time is published (None: one of the process before). What was held for long enough counts
        as seen."""
        for held in self._held.values():
            held.is_sent = True
            if now_ns is not None and not held.until_ns:
                held.until_ns = now_ns + self._hold_ns
            elif now_ns is not None and held.until_ns <= now_ns:
                held.seen = True
        return self.receipt()

    def see(self, shown: Sequence[Figure]) -> bool:
        """A scrape has shown these as 0. True if it was the first for some of them: then a receipt is to be stored."""
        found = [self._held[figure] for figure in shown if figure in self._held]
        new = [held for held in found if held.is_sent and not held.seen]
        for held in new:
            held.seen = True
        return bool(new)

    def receipt(self) -> Receipt:
        """Of how it is now. It must be stored after those before it."""
        self._number += 1
        self._held = {figure: self._held[figure] for figure in self._figures.held()}  # some have ended
        for held in self._held.values():
            if held.seen and not held.seen_by_receipt:
                held.seen_by_receipt = self._number
        unseen = [held.digest for held in self._held.values() if not held.seen]
        return _encode(_Told(self._number, b"".join(unseen[:MOST])))

    def commit(self, receipt: Receipt | None) -> None:
        """This receipt is stored: what is seen by it shows its value from now on."""
        if receipt is self._committed:
            return
        self._committed = receipt
        told = _read(receipt)
        if told is not None:
            self._figures.release([f for f, held in self._held.items() if 0 < held.seen_by_receipt <= told.number])


_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(_Told).decode


def _read(receipt: Receipt | None) -> _Told | None:
    """None where there is no receipt. One of an earlier version (a time) names no series: all were seen."""
    if not receipt:
        return None
    try:
        return _decode(receipt)
    except msgspec.MsgspecError:
        return _Told(0, b"")


def _digest(name: str, labels: Labels) -> bytes:
    text = repr((name, labels)).encode("utf-8", "surrogatepass")
    return blake2b(text, digest_size=_DIGEST).digest()
