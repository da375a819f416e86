"""A problem in one line, for notifications that tell of several. Pure."""

from typing import Final

from pipeline.signals import Alert, AlertState, Member

MESSAGE: Final = 200
"""Characters of its error's first line."""


def member(alert: Alert, key: str, state: AlertState, count: int = 1) -> Member:
    """The line of a finding or notification."""
    text = (alert.error.message if alert.error else "") or alert.summary
    lines = text[: 10 * MESSAGE].strip().splitlines()
    return Member(
        key=key,
        state=state,
        kind=alert.kind,
        severity=alert.severity,
        title=alert.title,
        asset=alert.asset,
        check=alert.check,
        job=alert.job,
        step_key=alert.step_key,
        partition=alert.partition,
        message=lines[0][:MESSAGE] if lines else "",
        count=count,
        more=max(0, len(alert.assets) - 1),
    )
