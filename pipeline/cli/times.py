"""Moments as people write them: `2h` ago, or a date with or without a time."""

from datetime import UTC, datetime

import typer

from pipeline.options import Duration


def moment_ns(text: str | None, now_ns: int) -> int:
    """Unix ns of `2h` or `1 day` (so long ago), `2026-11-23`, `2026-11-23T10:00`, `…+01:00`; UTC where no zone is said.

    0 for nothing. Raises typer.BadParameter.
    """
    if not text:
        return 0
    try:
        return now_ns - Duration(text).ns
    except ValueError:
        pass
    try:
        at = datetime.fromisoformat(text.strip())
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is no time; write `2h` (so long ago), `2026-11-23` or `2026-11-23T10:00`"
        ) from None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return int(at.timestamp()) * 10**9 + at.microsecond * 1000


def moment(at_ns: int, form: str = "%Y-%m-%d %H:%M:%SZ") -> str:
    """Unix ns as people read it, in UTC; "?" for one that no calendar has."""
    try:
        return datetime.fromtimestamp(at_ns / 1e9, UTC).strftime(form)
    except (ValueError, OverflowError, OSError):
        return "?"
