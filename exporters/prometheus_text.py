"""Figures as text: the present value of each series, rendered once it is asked for and kept until it changes.

Two formats share their sample lines and differ in the heads of families: Prometheus' text format 0.0.4 and OpenMetrics
1.0 (a counter's family is named without `_total`, quotes in help texts are escaped, a line `# EOF` ends it).
Families and series are sorted, so that equal figures are equal bytes.

A held series is one that began a moment ago: it shows as 0 until somebody has seen that (`held`, `release`), because
`rate()` takes a counter's first value for its beginning.
"""

import re
from collections.abc import Iterable
from typing import Final, Literal

from pipeline.signals import HistogramValue, Labels

Kind = Literal["counter", "gauge", "histogram"]
Value = float | HistogramValue

_BAD_NAME: Final = re.compile(r"[^a-zA-Z0-9_:]")
_BAD_LABEL: Final = re.compile(r"[^a-zA-Z0-9_]")


class Figure:
    """One series: its value, and its lines as they were last rendered."""

    __slots__ = ("_bounds", "_heads", "_lines", "labels", "name", "value")

    def __init__(self, name: str, labels: Labels, value: Value) -> None:
        self.name, self.labels, self.value = name, labels, value
        self._lines: str | None = None
        self._heads: list[str] = []
        self._bounds: tuple[float, ...] = ()

    def set(self, value: Value) -> None:
        """A new value; the lines are made when somebody asks."""
        self.value, self._lines = value, None

    def lines(self) -> str:
        """The sample lines of the present value, each with its line end."""
        if self._lines is None:
            self._lines = self._rendered(self.value)
        return self._lines

    def zero(self) -> str:
        """The lines as they were before anything was counted."""
        value = self.value
        if isinstance(value, HistogramValue):
            return self._rendered(HistogramValue(value.bounds, (0,) * len(value.bounds), 0, 0.0))
        return self._rendered(0.0)

    def _rendered(self, value: Value) -> str:
        if not isinstance(value, HistogramValue):
            if not self._heads:
                self._heads = [_series(self.name, self.labels)]
            return f"{self._heads[0]} {number(value)}\n"
        if not self._heads or self._bounds != value.bounds:
            self._bounds, self._heads = value.bounds, _histogram(self.name, self.labels, value.bounds)
        figures = (*map(str, value.counts), str(value.count), number(value.sum), str(value.count))
        return "".join([f"{head} {figure}\n" for head, figure in zip(self._heads, figures, strict=True)])


class Family:
    """All series of one metric."""

    def __init__(self, name: str, kind: Kind, help: str) -> None:
        self.name, self.kind, self.help = name, kind, help
        self.figures: dict[Labels, Figure] = {}
        self.held: set[Labels] = set()
        self._order: list[Figure] | None = None
        self._text: str | None = None

    def set(self, labels: Labels, value: Value) -> Figure | None:
        """Set a series; gives it if it is new."""
        self._text = None
        figure = self.figures.get(labels)
        if figure is not None:
            figure.set(value)
            return None
        self._order = None
        self.figures[labels] = figure = Figure(self.name, labels, value)
        return figure

    def drop(self, labels: Labels) -> Figure | None:
        """Forget a series; gives it, None if it is not there."""
        self._order = self._text = None
        self.held.discard(labels)
        return self.figures.pop(labels, None)

    def lines(self, holding: bool) -> str:
        """The sample lines of all series, sorted by labels; with `holding`, held ones as 0."""
        if self._order is None:
            self._order = [self.figures[labels] for labels in sorted(self.figures)]
        if holding and self.held:
            return "".join([f.zero() if f.labels in self.held else f.lines() for f in self._order])
        if self._text is None:
            self._text = "".join([figure.lines() for figure in self._order])
        return self._text


class Figures:
    """Every series that is published."""

    def __init__(self) -> None:
        self.families: dict[str, Family] = {}

    def __len__(self) -> int:
        return sum([len(family.figures) for family in self.families.values()])

    def set(self, name: str, kind: Kind, help: str, labels: Labels, value: Value) -> Figure | None:
        """Set a series; gives it if it is new. Raises ValueError when the metric is of another kind."""
        if isinstance(value, HistogramValue) != (kind == "histogram"):
            raise ValueError(f"a sample of {name} has no value of a {kind}")
        family = self.families.get(name)
        if family is None:
            family = self.families[name] = Family(name, kind, help)
        elif family.kind != kind:
            raise ValueError(f"{name} is a {family.kind}, and a sample of it says {kind}")
        return family.set(labels, value)

    def drop(self, name: str, labels: Labels) -> Figure | None:
        """Forget a series, and its family with the last one; gives it, None if it is not there."""
        family = self.families.get(name)
        if family is None:
            return None
        figure = family.drop(labels)
        if not family.figures:
            del self.families[name]
        return figure

    def hold(self, figure: Figure) -> None:
        """Show a series as 0 until it is released."""
        self.families[figure.name].held.add(figure.labels)

    def held(self) -> list[Figure]:
        """The series that show as 0."""
        return [family.figures[labels] for family in self.families.values() for labels in family.held]

    def release(self, figures: Iterable[Figure]) -> None:
        """Show these as they are from now on."""
        for figure in figures:
            family = self.families.get(figure.name)
            if family is not None and family.figures.get(figure.labels) is figure:
                family.held.discard(figure.labels)

    def text(self, holding: bool) -> str:
        """All series in the text format."""
        parts: list[str] = []
        for name, family in sorted(self.families.items()):
            parts += (f"# HELP {name} {_help(family.help)}\n# TYPE {name} {family.kind}\n", family.lines(holding))
        return "".join(parts)

    def openmetrics(self, holding: bool) -> str:
        """All series in OpenMetrics; a counter whose name does not end in `_total` is of unknown type there."""
        parts: list[str] = []
        for name, family in sorted(self.families.items()):
            shown, kind = name, str(family.kind)
            if kind == "counter":
                base = name.removesuffix("_total")
                shown, kind = (base, kind) if base != name and base not in self.families else (name, "unknown")
            told = _help(family.help).replace('"', '\\"')
            parts += (f"# HELP {shown} {told}\n# TYPE {shown} {kind}\n", family.lines(holding))
        return "".join([*parts, "# EOF\n"])


def metric_name(name: str) -> str:
    """The name with what Prometheus does not allow replaced by `_`."""
    return _started(_BAD_NAME.sub("_", name))


def label_name(name: str) -> str:
    """The name with what Prometheus does not allow replaced by `_`."""
    return _started(_BAD_LABEL.sub("_", name))


def number(value: float) -> str:
    """A sample's value: the shortest text that reads back as the same double."""
    if value != value:
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "+Inf" if value > 0 else "-Inf"
    if value == int(value) and abs(value) < 1e15:
        return str(int(value))
    return repr(float(value))


def _started(name: str) -> str:
    return name if name and not name[0].isdigit() else f"_{name}"


def _series(name: str, labels: Labels, *more: tuple[str, str]) -> str:
    pairs = ",".join([f'{key}="{_escaped(value)}"' for key, value in (*labels, *more)])
    return f"{name}{{{pairs}}}" if pairs else name


def _histogram(name: str, labels: Labels, bounds: tuple[float, ...]) -> list[str]:
    buckets = [_series(f"{name}_bucket", labels, ("le", repr(float(bound)))) for bound in bounds]
    last = _series(f"{name}_bucket", labels, ("le", "+Inf"))
    return [*buckets, last, _series(f"{name}_sum", labels), _series(f"{name}_count", labels)]


def _escaped(value: str) -> str:
    return _help(value).replace('"', '\\"')


def _help(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")
