"""Until when: `1h` from now, or a date and time. Pure."""

from datetime import UTC, datetime

from pipeline.alert_asks import AskError
from pipeline.options import Duration

LONGEST = Duration("366 days")


def until_ns(for_: str, until: str, now_ns: int) -> int:
    """Unix ns of the end that was asked for: so long from now, or that moment (UTC where no zone is said).

    Raises AskError: neither, both, no duration, no moment, one that has passed or that is more than a year away.
    """
    if bool(for_.strip()) == bool(until.strip()):
        raise AskError("say for how long (`1h`, `2 days`), or until when (`2026-11-23T18:00`)")
    at = now_ns + _duration(for_).ns if for_.strip() else moment_ns(until)
    if at <= now_ns:
        raise AskError("it would be over before it begins")
    if at > now_ns + LONGEST.ns:
        raise AskError("a year is the longest")
    return at


def _duration(text: str) -> Duration:
    try:
        return Duration(text)
    except (ValueError, OverflowError):
        raise AskError(f"{text!r} is no duration; write for example `1h` or `2 days`") from None


def moment_ns(text: str) -> int:
    """Unix ns of a date with or without a time; UTC where no zone is said. Raises AskError."""
    try:
        at = datetime.fromisoformat(text.strip())
    except ValueError:
        raise AskError(
            f"{text!r} is no time; write for example `2026-11-23T18:00` or `2026-11-23T18:00+01:00`"
        ) from None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return int(at.timestamp()) * 10**9 + at.microsecond * 1000
