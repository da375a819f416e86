"""Who is meant by an alert: channels are names of notifiers. Pure.

A name is a notifier's type (`slack`: each of them), its id (`slack/data`: that one), or `*` (all of them).
"""

from collections.abc import Iterable
from typing import Final

from pipeline.signals import Alert, Urgency

ALL: Final = "*"
NOBODY: Final = "-"
"""Names no notifier: what was decided is on record, and everybody who is meant hears of it in another way."""


def meant_for(alert: Alert, id: str) -> bool:
    """Whether the notifier `id` takes the alert. One that nobody has routed is for all."""
    return not alert.channels or names(alert.channels, id)


def names(channels: Iterable[str], id: str) -> bool:
    """Whether any of the channels is the notifier `id`."""
    kind = id.partition("/")[0]
    return any(channel in (ALL, id, kind) for channel in channels)


def urgency(alert: Alert) -> Urgency:
    """PagerDuty's: what was routed, else high for CRITICAL and low for the rest."""
    return alert.urgency or ("high" if alert.severity == "CRITICAL" else "low")
