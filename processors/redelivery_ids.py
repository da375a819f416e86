"""Many ids in little memory: 34 bytes each at a million, where a set of them and their bytes take 96.

Ids come in chunks, numbered and 8 bytes an id, in the order in which they came; stored they are shorter (`id_codes`).
`_index` says where to look: a place for each value of an id's low bits holds the spot of the id that took it first. So
three of four ids that are not here are done with by one look, and the fourth by another at what stands on that spot. An
id whose place is taken by another stands `_beside`, in a plain set.

Invariant: each id of each chunk is either on the spot that its place names, or beside. A place that is free says
nothing of what is beside: who took it may have been struck out before.

Tried and left: chunks sorted and searched, behind an index of a byte (22 bytes an id, 0.5 µs more). Not exact: a filter
of Bloom's. The twin, `dagtel_native.IdChunks`, holds ids instead of spots, in 14 bytes each, and chunks as they are
stored.
"""

from array import array
from collections.abc import Mapping, Sequence
from itertools import compress
from operator import itemgetter
from typing import Final

from processors.id_codes import decoded, encoded

PLACES: Final = 4
"""Places for an id, at least: some eighth of the ids is beside."""

MOST: Final = 16_384
"""Ids of a chunk, at most: a chunk that is written again costs 128 KB of a checkpoint."""

_SMALL, _LARGE = 2**12, 2**31  # ids, from and up to which a spot is a number of 32 bits: some chunks of MOST fit in


class Ids:
    """Distinct ids below 2^64. `most`: how many there will be (more only take longer); `stored`: chunks by number."""

    def __init__(self, most: int, stored: Mapping[int, bytes]) -> None:
        self._chunk, self._count = min(MOST, max(1, most // 16)), 0
        places = 1 << (PLACES * most - 1).bit_length()
        code = "I" if _SMALL <= most < _LARGE else "Q"
        self._mask, self._index = places - 1, array(code, bytes(array(code).itemsize * places))
        self._beside: set[int] = set()
        self._chunks: list[Sequence[int]] = [()]  # a spot is MOST times a place in this list, and a place in the chunk
        self._at: dict[int, int] = {}  # number of a chunk → its place in the list
        self._open: array[int] = array("Q")
        self._last = -1
        self._changed: list[int] = []
        for number in sorted(stored):
            self._begin(number, decoded(stored[number]))
        if stored:
            at = self._at[self._last]
            self._open = self._chunks[at] = array("Q", self._chunks[at])

    def __len__(self) -> int:
        return self._count

    def take_new(self, ids: Sequence[int]) -> bool:
        """Add these ids if none of them is here and each stands once, else none; whether it did."""
        if len(set(ids)) < len(ids):
            return False
        mask = self._mask
        places = [id & mask for id in ids]
        if self._known(ids, places):
            return False
        self._append(ids, places)
        return True

    def take(self, ids: Sequence[int]) -> set[int]:
        """Add those of these ids, each of which stands once, that are not here; gives those that are."""
        mask = self._mask
        places = [id & mask for id in ids]
        known = self._known(ids, places)
        if known:
            fresh = [id not in known for id in ids]
            ids, places = list(compress(ids, fresh)), list(compress(places, fresh))
        self._append(ids, places)
        return known

    def _append(self, ids: Sequence[int], places: Sequence[int]) -> None:
        start = 0
        while start < len(ids):
            if self._last < 0 or len(self._open) >= self._chunk:
                self._open = array("Q")
                self._begin(self._last + 1, self._open)
            end = start + self._chunk - len(self._open)
            part = ids[start:end]
            self._enter(part, places[start:end], self._at[self._last] * MOST + len(self._open))
            self._open.extend(part)
            if not self._changed or self._changed[-1] != self._last:
                self._changed.append(self._last)
            start = end

    def _known(self, ids: Sequence[int], places: Sequence[int]) -> set[int]:
        beside, chunks = self._beside, self._chunks
        found = set() if beside.isdisjoint(ids) else beside.intersection(ids)
        spots = self._spots(places)
        for id, spot in zip(compress(ids, spots), filter(None, spots), strict=True):
            if chunks[spot // MOST][spot % MOST] == id:
                found.add(id)
        return found

    def _spots(self, places: Sequence[int]) -> Sequence[int]:
        if len(places) < 2:
            return [self._index[place] for place in places]
        spots: tuple[int, ...] = itemgetter(*places)(self._index)  # half of what a loop takes
        return spots

    def take_changed(self) -> list[tuple[int, bytes]]:
        """The chunks to which something came since the last time, to be stored: number and bytes."""
        taken = []
        for number in self._changed:
            at = self._at[number]
            ids = encoded(self._chunks[at])
            taken.append((number, ids))
            if number != self._last and len(ids) > len(self._chunks[at]) * self._open.itemsize:  # they are in it
                self._chunks[at] = decoded(ids)  # of the stored bytes themselves: one copy for both
        self._changed = []
        return taken

    def strike_beyond(self, least: int) -> list[int]:
        """Forget chunks, oldest first, each when `least` younger ids are there; gives their numbers."""
        gone = []
        for number, at in list(self._at.items()):
            if self._count - len(self._chunks[at]) < least:
                break
            self._strike(number)
            gone.append(number)
        return gone

    def _begin(self, number: int, ids: Sequence[int]) -> None:
        chunks = self._chunks
        free = next((at for at in range(1, len(chunks)) if isinstance(chunks[at], tuple)), len(chunks))
        chunks[free:] = [ids, *chunks[free + 1 :]]
        self._at[number], self._last = free, number
        self._enter(ids, [id & self._mask for id in ids], free * MOST)

    def _enter(self, ids: Sequence[int], places: Sequence[int], first: int) -> None:
        """To these ids, which are on spots from `first` on, from their places."""
        index, beside = self._index, self._beside
        for spot, place in enumerate(places, first):
            if index[place]:
                beside.add(ids[spot - first])
            else:
                index[place] = spot
        self._count += len(ids)

    def _strike(self, number: int) -> None:
        at = self._at.pop(number)
        ids, self._chunks[at] = self._chunks[at], ()
        index, mask = self._index, self._mask
        for spot, place in enumerate([id & mask for id in ids], at * MOST):
            if index[place] == spot:
                index[place] = 0
        self._beside.difference_update(ids)
        self._count -= len(ids)
