"""What metadata says in figures: rows, bytes, pass rates. Pure; source of the rules: docs/metrics.md.

Metadata comes from user code, so a value is anything: only finite numbers below a trillion trillions count, a bool
is no number, and what is counted up is never negative.
"""

from collections.abc import Iterable, Mapping
from math import isfinite

from pipeline.facts import Json, Metadata
from pipeline.outcomes import CheckEvaluated

_LIMIT = 1e24  # beyond it a counter's sum would no longer be a figure of anything


def number(value: Json) -> float | None:
    """The value if it is a finite number of a size that can be meant, else None."""
    kind = type(value)
    if kind is not int and kind is not float:
        return None
    if not -_LIMIT < value < _LIMIT:  # type: ignore[operator]  # an int or a float; also false for NaN
        return None
    found = float(value)  # type: ignore[arg-type]  # an int or a float
    return found if isfinite(found) else None


def amount(metadata: Metadata, labels: Iterable[str]) -> float | None:
    """The first of `labels` that holds a number of at least 0, None if none does."""
    for label in labels:
        if label in metadata:
            found = number(metadata[label])
            if found is not None and found >= 0:
                return found
    return None


def amounts(metadata: Metadata, operations: Mapping[str, tuple[str, ...]]) -> list[tuple[str, float]]:
    """Rows by operation, in the order of `operations`; those that the metadata does not speak of are left out."""
    found = [(operation, amount(metadata, labels)) for operation, labels in operations.items()]
    return [(operation, rows) for operation, rows in found if rows is not None]


def schema_of(asset: str, metadata: Metadata) -> str:
    """The schema part of `dagster/table_name` (`lake.raw.orders` → `raw`), else the key's prefix, else ""."""
    table = metadata.get("dagster/table_name")
    if isinstance(table, str):
        parts = table.split(".")
        if len(parts) > 1 and parts[-2]:
            return parts[-2]
    prefix, found, _ = asset.rpartition("/")
    return prefix if found else ""


class PassRateLabels:
    """Where a check's metadata may say how many rows failed. See `MetricsConfig` for the defaults."""

    __slots__ = ("failed_alone", "failed_of_total", "rate")

    def __init__(
        self,
        failed_of_total: tuple[tuple[str, str], ...],
        failed_alone: tuple[str, ...],
        rate: tuple[str, ...],
    ) -> None:
        self.failed_of_total, self.failed_alone, self.rate = failed_of_total, failed_alone, rate


def pass_rate(check: CheckEvaluated, labels: PassRateLabels) -> float:
    """Percent of rows that passed, 0 to 100.

    In this order: failed and total of the check's metadata; failed alone over the rows of the target
    materialization; a rate (0 to 100; at most 1 on a passed check is a ratio); else 100 or 0.
    """
    metadata = check.metadata
    if metadata:
        for failed_label, total_label in labels.failed_of_total:
            if failed_label in metadata and total_label in metadata:
                found = _share(amount(metadata, (failed_label,)), amount(metadata, (total_label,)))
                if found is not None:
                    return found
        found = _share(amount(metadata, labels.failed_alone), None if check.rows is None else number(check.rows))
        if found is None:
            found = _rate(amount(metadata, labels.rate), check.passed)
        if found is not None:
            return found
    return 100.0 if check.passed else 0.0


def _share(failed: float | None, total: float | None) -> float | None:
    if failed is None or total is None or total <= 0:
        return None
    return max(0.0, 100.0 * (total - failed) / total)


def _rate(rate: float | None, passed: bool) -> float | None:
    if rate is None or rate > 100:
        return None
    return rate * 100.0 if passed and rate <= 1 else rate
