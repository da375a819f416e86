"""What a check that did not pass says of itself, with its figures. Pure; source of the labels: docs/semantics.md."""

from typing import Final

from connectors.metric_readings import amount
from pipeline.outcomes import CheckEvaluated

LENGTH: Final = 4000
"""Characters of what is said."""

_FAILED: Final = ("failed_count", "rows_failed", "dagster_dbt/failed_row_count")
_TOTAL: Final = ("total_count", "rows_total")


def check_words(check: CheckEvaluated) -> str:
    """Its description, else that it did not pass; then `2 of 48,211 rows failed`, where its metadata has figures."""
    said = (check.description or "").strip() or f"Check {check.check} did not pass"
    figures = _figures(check)
    room = LENGTH - len(figures) - 3
    return f"{said[:room]} ({figures})" if figures else said[:LENGTH]


def _figures(check: CheckEvaluated) -> str:
    if not check.metadata:
        return ""
    failed = amount(check.metadata, _FAILED)
    if not failed or failed != int(failed):
        return ""
    total = amount(check.metadata, _TOTAL)
    if total is None:
        total = float(check.rows) if check.rows is not None else None
    if total is None or total < failed:
        return f"{failed:,.0f} {'row' if failed == 1 else 'rows'} failed"
    return f"{failed:,.0f} of {total:,.0f} rows failed"
