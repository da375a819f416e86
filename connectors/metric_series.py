"""The figures themselves: state tables of series, bounded in number, and which of them changed since the last flush.

A series begins at 0, when its asset is first heard of or with its first count; `flush` gives the present figure of
what changed, and all of them after a start. Retiring a series deletes it and gives a sample without a value once.
Everything that can fail happens before this module is called: it only puts into tables, so that a call is never
undone halfway (the sizes and sets kept beside the tables would not be).
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate
from typing import Literal, TypeAlias, TypeVar
from zlib import crc32

import msgspec

from connectors.metric_labels import labels_of
from connectors.metric_tally import Key, Latest, Subject
from pipeline.clock import SECOND
from pipeline.components import State, Table
from pipeline.names_metrics import METRICS, OVERFLOW
from pipeline.signals import HistogramValue, Labels, Sample

_FULL = 2**62  # microseconds: 146,000 years of work, and still an integer that state can hold


class Count(msgspec.Struct, frozen=True, gc=False):
    """A counter. `since_ns`: domain time when it began, at most that of the flush that gave it out first."""

    value: float = 0.0
    since_ns: int = 0


class Gauge(msgspec.Struct, frozen=True, gc=False):
    """A gauge and the event time of its value."""

    value: float
    at_ns: int


class Buckets(msgspec.Struct, frozen=True, gc=False):
    """A histogram: values in each bucket (the last is +Inf) and their sum. `shape` digests the bounds.

    The sum is of whole microseconds, so that it does not depend on how the values came in batches.
    """

    counts: tuple[int, ...]
    sum_us: int
    shape: int
    since_ns: int = 0


Knows: TypeAlias = Callable[[Key], bool]
"""Whether the subject of a series has room of its own, else it overflows; asked where a series is about to begin."""
_Figure: TypeAlias = Count | Gauge | Buckets
F = TypeVar("F", Count, Gauge, Buckets)
_Face: TypeAlias = tuple[str, Literal["counter", "gauge", "histogram"], str, Callable[[Key], Labels]]
"""What all samples of a metric share: name, kind, help, and what gives their labels."""


class Series:
    """All series of one connector. `overflowed` is called with a metric's name for each thing it had no room for."""

    def __init__(
        self,
        state: State,
        bounds: tuple[float, ...],
        most: int,
        extra: Labels,
        overflowed: Callable[[str], None],
    ) -> None:
        self._counts: Table[Key, Count] = state.table("counters", tuple[str, ...], Count, version=1)
        self._gauges: Table[Key, Gauge] = state.table("gauges", tuple[str, ...], Gauge, version=1)
        self._buckets: Table[Key, Buckets] = state.table("histograms", tuple[str, ...], Buckets, version=1)
        self._bounds, self._shape = bounds, crc32(repr(bounds).encode())
        self._bounds_ns = tuple(round(bound * SECOND) for bound in bounds)
        self._most, self._overflowed = most, overflowed
        self._faces: dict[str, _Face] = {
            name: (metric.name, metric.kind, metric.help, labels_of(metric.labels, extra))
            for name, metric in METRICS.items()
        }
        self._sizes = dict.fromkeys(METRICS, 0)
        for key, _ in self._figures():
            self._sizes[key[0]] += OVERFLOW not in key
        self._changed: dict[Key, _Figure] = dict(self._figures())
        """With the present figures, as the tables have them: to look each up costs as much as all else in a flush."""
        self._retired: dict[Key, None] = {}
        self._born: set[Key] = set()
        """Begun since the last flush: nobody has been told of them, so nobody is told when they end before the next."""

    def _figures(self) -> Iterator[tuple[Key, _Figure]]:
        for table in (self._counts, self._gauges, self._buckets):
            yield from ((key, value) for key, value in table.items() if key[0] in METRICS)

    def __len__(self) -> int:
        return sum(self._sizes.values())

    # --- changing ---

    def count(self, key: Key, by: float, knows: Knows, now_ns: int) -> None:
        """Add to a counter; 0 makes it begin."""
        known = self._counts.get(key)
        if known is None:
            key = self._room(key, knows)
            known = self._counts.get(key)
        elif not by:
            return
        old = known or Count(0.0, now_ns)
        self._put(self._counts, key, known, Count(old.value + by, old.since_ns))

    def observe(self, key: Key, times_ns: Iterable[int], knows: Knows, now_ns: int) -> None:
        """Add durations to a histogram. One whose bounds have changed begins anew."""
        old = known = self._buckets.get(key)
        if known is None:
            key = self._room(key, knows)
            old = known = self._buckets.get(key)
        if old is None or old.shape != self._shape:
            old = Buckets((0,) * (len(self._bounds) + 1), 0, self._shape, now_ns)
        counts, total = list(old.counts), old.sum_us
        for took_ns in times_ns:
            counts[bisect_left(self._bounds_ns, took_ns)] += 1
            total += took_ns // 1000
        self._put(self._buckets, key, known, Buckets(tuple(counts), min(total, _FULL), self._shape, old.since_ns))

    def gauge(self, key: Key, latest: Latest, knows: Knows) -> bool:
        """Set a gauge unless it holds something later. False where there was no room for it."""
        old = self._gauges.get(key)
        if old is None:
            if self._room(key, knows) != key:
                return False
        elif latest.at_ns < old.at_ns:
            return True
        self._put(self._gauges, key, old, Gauge(latest.value, latest.at_ns))
        return True

    def vary(self, name: str, subject: Subject, latest: Latest, present: str | None, knows: Knows) -> str | None:
        """Set a gauge of which a subject has one, whatever its last label; gives the label that is now in force."""
        key = (name, *subject[1:], latest.variant or "")
        if present is not None and present != latest.variant:
            before = (name, *subject[1:], present)
            old = self._gauges.get(before)
            if old is not None and latest.at_ns < old.at_ns:
                return present
            self._drop(self._gauges, (before,))
        return latest.variant if self.gauge(key, latest, knows) else None

    def retire(self, subjects: set[Subject]) -> None:
        """Delete all series of these subjects; an asset takes its checks with it. One pass over all series."""
        for table in (self._counts, self._gauges, self._buckets):
            self._drop(table, [key for key, _ in table.items() if _belongs(key, subjects)])

    def _drop(self, table: "Table[Key, Count] | Table[Key, Gauge] | Table[Key, Buckets]", keys: Sequence[Key]) -> None:
        for key in keys:
            if key in table:
                table.delete(key)
                self._sizes[key[0]] -= 1
                self._changed.pop(key, None)
                if key in self._born:
                    self._born.remove(key)
                else:
                    self._retired[key] = None

    def _put(self, table: Table[Key, F], key: Key, old: F | None, figure: F) -> None:
        if old is None:
            self._born.add(key)
        table.put(key, figure)
        self._changed[key] = figure

    def _room(self, key: Key, knows: Knows) -> Key:
        """The key of a series about to begin, or that of the overflow series."""
        name = key[0]
        if knows(key) and self._sizes[name] < self._most:
            self._sizes[name] += 1
            return key
        self._overflowed(name)
        return _overflow(key)

    # --- giving out ---

    def flush(self, now_ns: int) -> list[Sample]:
        """The present figure of each series that changed since the last flush, retired ones first."""
        samples, born = list[Sample](), self._born
        for key in self._retired:
            name, kind, help, labels = self._faces[key[0]]
            samples.append(Sample(name, kind, labels(key), None, now_ns, help))
        for key, figure in self._changed.items():  # by type, and nothing called that need not be: there may be many
            name, kind, help, labels = self._faces[key[0]]
            if type(figure) is Gauge:
                samples.append(Sample(name, kind, labels(key), figure.value, now_ns, help))
            elif type(figure) is Count:
                since_ns = figure.since_ns
                if since_ns > now_ns:  # its partition is ahead of the others, whose time is the whole's
                    since_ns = now_ns
                    self._counts.put(key, Count(figure.value, now_ns))
                samples.append(Sample(name, kind, labels(key), figure.value, now_ns, help, since_ns, key in born))
            elif type(figure) is Buckets and figure.shape == self._shape:
                since_ns = figure.since_ns
                if since_ns > now_ns:
                    since_ns = now_ns
                    self._buckets.put(key, Buckets(figure.counts, figure.sum_us, figure.shape, now_ns))
                value = self._cumulative(figure)
                samples.append(Sample(name, kind, labels(key), value, now_ns, help, since_ns, key in born))
        self._retired.clear()
        self._changed.clear()
        self._born.clear()
        return samples

    def _cumulative(self, buckets: Buckets) -> HistogramValue:
        *below, count = accumulate(buckets.counts)
        return HistogramValue(self._bounds, tuple(below), count, buckets.sum_us / 1e6)


def _overflow(key: Key) -> Key:
    metric = METRICS[key[0]]
    values = (
        value if label in metric.bounded else OVERFLOW for label, value in zip(metric.labels, key[1:], strict=True)
    )
    return (key[0], *values)


def _belongs(key: Key, subjects: set[Subject]) -> bool:
    metric = METRICS.get(key[0])
    if metric is None or not metric.owner:
        return False
    if metric.owner == "job":
        return ("job", key[1]) in subjects
    return ("asset", key[1]) in subjects or (metric.owner == "check" and ("check", key[1], key[2]) in subjects)
