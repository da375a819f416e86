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
from itertools import islice, takewhile
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


class _Unseen(msgspec.Struct):
    """`is_sent`: the payload with which it begins was sent; `until_ns`: when it is held long enough, 0: not known."""

    is_sent: bool = False
    until_ns: int = 0
    digest: bytes = b""


class Holding:
    """The held series of `figures`, each for `hold_ns` at most. It begins with the first payload."""

    def __init__(self, figures: Figures, hold_ns: int) -> None:
        self._figures, self._hold_ns = figures, hold_ns
        self.first = True
        """No process of this exporter has published anything before."""
        self._has_begun, self._number = False, 0
        self._unseen_before: frozenset[bytes] = frozenset()
        self._committed: Receipt | None = None
        self._unseen: dict[Figure, _Unseen] = {}  # in the order in which they began
        self._sending: list[_Unseen] = []
        self._undated: list[_Unseen] = []
        self._seen: dict[Figure, int] = {}
        """By figure: the number of the first receipt that says so, 0: none yet."""

    def begin(self, receipt: Receipt | None) -> None:
        """A payload comes; `receipt` is the last of the process before, if this is the first one."""
        if self._has_begun:
            return
        self._has_begun, self._committed = True, receipt
        before = _read(receipt)
        if before is not None:
            self.first, self._number, unseen = False, before.number, before.unseen
            self._unseen_before = frozenset(unseen[at : at + _DIGEST] for at in range(0, len(unseen), _DIGEST))

    def unseen_before(self, name: str, labels: Labels) -> bool:
        """Whether the series was published in the process before, and nobody has seen it there."""
        return bool(self._unseen_before) and _digest(name, labels) in self._unseen_before

    def hold(self, figure: Figure) -> None:
        """A series begins."""
        self._figures.hold(figure)
        self._unseen[figure] = unseen = _Unseen()
        self._sending.append(unseen)

    def end(self, figure: Figure) -> None:
        """A series has ended."""
        self._unseen.pop(figure, None)
        self._seen.pop(figure, None)

    def sent(self, now_ns: int | None) -> Receipt:
        """A payload of this time is published (None: one of the process before). What was held for long enough counts
        as seen."""
        for unseen in self._sending:
            unseen.is_sent = True
        self._undated += self._sending
        self._sending = []
        if now_ns is not None:
            for unseen in self._undated:
                unseen.until_ns = now_ns + self._hold_ns
            self._undated = []
            over = takewhile(lambda found: found[1].until_ns <= now_ns, self._unseen.items())
            self._move([figure for figure, _ in over])
        return self.receipt()

    def see(self, shown: Sequence[Figure]) -> bool:
        """A scrape has shown these as 0. True if it was the first for some of them: then a receipt is to be stored."""
        new = [figure for figure in shown if (unseen := self._unseen.get(figure)) is not None and unseen.is_sent]
        self._move(new)
        return bool(new)

    def _move(self, figures: Sequence[Figure]) -> None:
        for figure in figures:
            del self._unseen[figure]
            self._seen[figure] = 0

    def receipt(self) -> Receipt:
        """Of how it is now. It must be stored after those before it."""
        self._number += 1
        for figure, number in self._seen.items():
            self._seen[figure] = number or self._number
        for figure, unseen in islice(self._unseen.items(), MOST):
            unseen.digest = unseen.digest or _digest(figure.name, figure.labels)
        digests = b"".join([unseen.digest for unseen in islice(self._unseen.values(), MOST)])
        return _encode(_Told(self._number, digests))

    def commit(self, receipt: Receipt | None) -> None:
        """This receipt is stored: what is seen by it shows its value from now on."""
        if receipt is self._committed:
            return
        self._committed = receipt
        told = _read(receipt)
        if told is not None:
            shown = [figure for figure, number in self._seen.items() if 0 < number <= told.number]
            self._figures.release(shown)
            for figure in shown:
                del self._seen[figure]


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
