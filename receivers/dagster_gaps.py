"""Ids that PostgreSQL handed out but that cannot be seen yet: a tail that forgets them loses rows.

An insert takes its id first and becomes visible when it commits, so a reader that goes by `id > last` overtakes
slow inserts (measured with nine writers: 7.6 % of the rows lost; a horizon of transaction ids still lost some, because
an id is taken before the transaction has one of its own). So every id that a read skips is remembered and asked for
again until it shows, or until it is older than any insert can be: a rolled-back insert never shows.
"""

from collections.abc import Iterable

from pipeline.components import Context


class Gaps:
    """The missing ids, oldest first, each with the moment it was first missed. Bounded by `limit`. Pure."""

    def __init__(self, ids: Iterable[int] = (), *, now: float, timeout: float, limit: int) -> None:
        self._since: dict[int, float] = dict.fromkeys(ids, now)
        self._timeout, self._limit = timeout, limit
        self.expired = 0
        """Ids given up so far because they never showed: rolled back, deleted, or over the limit."""

    def passed(self, after: int, ids: Iterable[int], now: float) -> None:
        """A read went from `after` over these ids, in order; what lies between them is missing."""
        for found in ids:
            self._miss(after + 1, found, now)
            after = found

    def _miss(self, first: int, end: int, now: float) -> None:
        if end - first > self._limit:  # the newest are the likeliest to show: old holes are deleted runs
            self.expired += end - first - self._limit
            first = end - self._limit
        self._since.update(dict.fromkeys(range(first, end), now))
        while len(self._since) > self._limit:
            del self._since[next(iter(self._since))]
            self.expired += 1

    def filled(self, ids: Iterable[int]) -> None:
        """These showed."""
        for found in ids:
            self._since.pop(found, None)

    def expire(self, now: float) -> bool:
        """Give up those that are missed for longer than the timeout; whether there were any."""
        before = self.expired
        while self._since:
            oldest = next(iter(self._since))
            if now - self._since[oldest] < self._timeout:
                break
            del self._since[oldest]
            self.expired += 1
        return self.expired > before

    def ids(self) -> list[int]:
        """Those to ask for again."""
        return list(self._since)

    def __len__(self) -> int:
        return len(self._since)


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
