"""Ids that PostgreSQL handed out but that cannot be seen yet: a tail that forgets them loses rows.

An insert takes its id first and becomes visible when it commits, so a reader that goes by `id > last` overtakes
slow inserts (measured with nine writers: 7.6 % of the rows lost; a horizon of transaction ids still lost some, because
an id is taken before the transaction has one of its own). So every id that a read skips is remembered and asked for
again until it shows, or until nobody is left who could make it show.

Who could: an insert locks the table before it takes its id, and lets go after its row can be seen. So of the ids that a
read has skipped, those who have locked the table shortly after that read are all who can still store them; once each of
them has been seen gone, one more read finds what they stored, and what it does not find was rolled back or deleted.
Where the locks do not say it (a standby, a sequence that hands out ids ahead), an id is given up after a time.
"""

from collections.abc import Iterable

import msgspec

from pipeline.components import Context

Writers = frozenset[str]
"""Transactions that have locked the table for writing."""


class _Missed(msgspec.Struct):
    """Ids that one read has skipped: when, and once somebody has `looked`, who may still store them (None: that is not
    known)."""

    at: float
    writers: Writers | None = None
    looked: bool = False

    def is_over(self, now: float, timeout: float) -> bool:
        return self.looked and (now - self.at >= timeout if self.writers is None else not self.writers)


class Gaps:
    """The missing ids, oldest first. Bounded by `limit`. Times are seconds of a clock that never goes back. Pure."""

    def __init__(self, ids: Iterable[int] = (), *, now: float, timeout: float, limit: int) -> None:
        self._missed: dict[int, _Missed] = dict.fromkeys(ids, _Missed(now))
        self._timeout, self._limit = timeout, limit
        self.expired = 0
        """Ids given up so far because they never showed: rolled back, deleted, or over the limit."""

    def passed(self, after: int, ids: Iterable[int], now: float) -> None:
        """A read went from `after` over these ids, in order; what lies between them is missing."""
        missed = _Missed(now)
        for found in ids:
            self._miss(after + 1, found, missed)
            after = found

    def _miss(self, first: int, end: int, missed: _Missed) -> None:
        if end - first > self._limit:  # the newest are the likeliest to show: old holes are deleted runs
            self.expired += end - first - self._limit
            first = end - self._limit
        self._missed.update(dict.fromkeys(range(first, end), missed))
        while len(self._missed) > self._limit:
            del self._missed[next(iter(self._missed))]
            self.expired += 1

    def look(self, writers: Writers | None) -> None:
        """Who writes now, asked for after the last read; None where nobody can tell."""
        for missed in {id(each): each for each in self._missed.values()}.values():
            if writers is None or missed.writers is None:
                missed.writers = writers
            else:
                missed.writers &= writers
            missed.looked = True

    def filled(self, ids: Iterable[int]) -> None:
        """These showed."""
        for found in ids:
            self._missed.pop(found, None)

    def expire(self, now: float) -> bool:
        """After a read that began after the last look: give up those that nobody can store any more, or that are missed
        for longer than the timeout where it is not known who could. Whether there were any."""
        gone = [found for found, missed in self._missed.items() if missed.is_over(now, self._timeout)]
        for found in gone:
            del self._missed[found]
        self.expired += len(gone)
        return bool(gone)

    def ids(self) -> list[int]:
        """Those to ask for again."""
        return list(self._missed)

    def __len__(self) -> int:
        return len(self._missed)


class GapMetrics:
    """What the gaps of one receiver look like from outside."""

    def __init__(self, context: Context) -> None:
        self._labels = {"receiver": context.id}
        self._told = 0
        self._expired = context.meter.create_counter(
            "dagtel_receiver_gaps_expired", description="Ids given up that were handed out and never showed."
        )
        self._open = context.meter.create_gauge(
            "dagtel_receiver_gaps", description="Ids that were handed out and cannot be seen yet."
        )

    def tell(self, gaps: Gaps) -> None:
        """Report how many are open and how many were given up since the last time."""
        self._open.set(len(gaps), self._labels)
        self._expired.add(gaps.expired - self._told, self._labels)
        self._told = gaps.expired
