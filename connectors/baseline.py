"""What is usual, and what is not: the median of the last values and how far they stray. Pure.

Median and MAD (median absolute deviation) are not moved by the outliers that they are to find. Each value, odd or not,
becomes one of the last, so what stays odd becomes usual. Source: Hampel, "The influence curve", 1974; 1.4826 makes of a
MAD what a standard deviation would be.
"""

from collections.abc import Sequence
from typing import Final, Literal

import msgspec

_SIGMA: Final = 1.4826


class BaselineOption(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How much is remembered, and how far from usual is odd."""

    history: int = 20
    """How many of the last values are remembered."""
    at_least: int = 5
    """How many must be known before one is called odd."""
    deviations: float = 5.0
    """So many (robust) standard deviations from the median is odd."""
    tolerance: float = 0.1
    """And it must be this part of the median away, so that what hardly varies is not odd at once."""

    def __post_init__(self) -> None:
        if not 3 <= self.at_least <= self.history <= 1000:
            raise ValueError("3 <= at_least <= history <= 1000 must hold")
        if self.deviations <= 0 or self.tolerance < 0:
            raise ValueError("deviations must be more than 0 and tolerance not below 0")


class Baseline(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """The last values, oldest first; `told`: the last one was odd, and that was told."""

    values: tuple[float, ...] = ()
    told: bool = False


class Usual(msgspec.Struct, frozen=True):
    """The median of `of` values, and the range that is not odd."""

    median: float
    low: float
    high: float
    of: int

    def odd(self, value: float, side: Literal["above", "below", "both"] = "both") -> bool:
        """Whether the value is out of the range, on that side of it."""
        return (side != "below" and value > self.high) or (side != "above" and value < self.low)


def usual(values: Sequence[float], option: BaselineOption) -> Usual | None:
    """What was usual so far; None while too little is known."""
    if len(values) < option.at_least:
        return None
    median = _median(sorted(values))
    spread = _SIGMA * _median(sorted(abs(value - median) for value in values))
    away = max(option.deviations * spread, option.tolerance * abs(median))
    return Usual(median, median - away, median + away, len(values))


def learned(baseline: Baseline, value: float, told: bool, option: BaselineOption) -> Baseline:
    """With this value as the last."""
    return Baseline((*baseline.values, value)[-option.history :], told)


def _median(ordered: Sequence[float]) -> float:
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
