"""The figures of service levels: ages, targets, budgets. They change by the passing of time, so they are given now and
then: each asset has its second within `every`, so that no checkpoint has to give all at once.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from zlib import crc32

from connectors.metric_labels import label_value
from pipeline.clock import SECOND
from pipeline.names_metrics import GAUGES
from pipeline.signals import Labels, Sample


class Gauges:
    """`figures` gives the present figures of one asset: name, value."""

    def __init__(self, every_s: int, extra: Labels, figures: Callable[[str, int], Iterable[tuple[str, float]]]) -> None:
        self._every_s, self._extra, self._figures = every_s, extra, figures
        self._slots: defaultdict[int, dict[str, None]] = defaultdict(dict)
        self._given: dict[str, frozenset[str]] = {}
        self._last_s: int | None = None

    def add(self, asset: str) -> None:
        """An asset has figures from now on."""
        self._slots[crc32(asset.encode("utf-8", "surrogatepass")) % self._every_s][asset] = None

    def forget(self) -> None:
        """Which assets have figures is told anew; those of which something was given still have to be ended."""
        self._slots.clear()
        for asset in self._given:
            self.add(asset)

    def flush(self, now_ns: int) -> list[Sample]:
        """What is due since the last flush; after a start, everything."""
        now_s, last_s = now_ns // SECOND, self._last_s
        self._last_s = now_s
        if last_s is not None and now_s <= last_s:
            return []
        every = self._every_s
        if last_s is None or now_s - last_s >= every:
            slots: Iterable[int] = range(every)
        else:
            slots = [second % every for second in range(last_s + 1, now_s + 1)]
        assets = sorted(asset for slot in slots for asset in self._slots.get(slot, ()))
        return [sample for asset in assets for sample in self._of(asset, now_ns)]

    def _of(self, asset: str, now_ns: int) -> Iterator[Sample]:
        figures = dict(self._figures(asset, now_ns))
        for name in sorted(self._given.get(asset, frozenset()) - figures.keys()):
            yield self._sample(asset, name, None, now_ns)
        for name, value in figures.items():
            yield self._sample(asset, name, value, now_ns)
        if figures:
            self._given[asset] = frozenset(figures)
        else:
            self._given.pop(asset, None)

    def _sample(self, asset: str, name: str, value: float | None, now_ns: int) -> Sample:
        labels = tuple(sorted((("asset_name", label_value(asset)), *self._extra)))
        return Sample(name, "gauge", labels, value, now_ns, GAUGES[name].help)
