"""What an asset's definition says of its alerts: severity, channels, owners. Pure.

Two components may know the definitions (`enrichment` sets an event's catalog, `lineage_impact` has its own sources),
so both apply the same rule, and applying it twice changes nothing.
"""

from collections.abc import Callable, Iterable
from itertools import chain
from typing import Final

import msgspec

from pipeline.lineage import AssetFacts
from pipeline.signals import Alert, Severity

_SEVERITIES: Final[dict[str, Severity]] = {
    "INFO": "INFO",
    "WARN": "WARNING",
    "WARNING": "WARNING",
    "ERROR": "ERROR",
    "CRITICAL": "CRITICAL",
}
SEVERITIES: Final[tuple[Severity, ...]] = ("INFO", "WARNING", "ERROR", "CRITICAL")
"""From the least to the worst."""


def with_facts(alert: Alert, facts_of: Callable[[str], AssetFacts | None], by: str) -> Alert:
    """The alert with what is known of its asset; what it says already stands. `by`: which component knows it.

    Of several that failed together: the worst severity, all owners and channels, the group of the first.
    """
    assets = alert.assets or (alert.asset,)
    known = [facts for asset in assets if (facts := facts_of(asset)) is not None]
    if not known:
        return alert
    severities = [_severity(alert.severity, facts) for facts in known]
    if len(known) < len(assets):
        severities.append(alert.severity)
    severity = max(severities, key=SEVERITIES.index)
    owners = alert.owners or _all(facts.owners or ((facts.group,) if facts.group else ()) for facts in known)
    channels = alert.channels or _all(_channels(facts) for facts in known)
    said_by = dict(alert.said_by)
    if severity != alert.severity:
        said_by["severity"] = f"metadata alert_severity_override of the asset ({by})"
    if owners and not alert.owners:
        said_by["owners"] = f"{'owners' if any(facts.owners for facts in known) else 'group'} of the asset ({by})"
    if channels and not alert.channels:
        said_by["channels"] = f"metadata alert_channels of the asset ({by})"
    first = facts_of(assets[0]) or known[0]
    return msgspec.structs.replace(
        alert,
        severity=severity,
        owners=owners,
        group=alert.group or first.group,
        channels=channels,
        code_location=alert.code_location or first.code_location,
        said_by=said_by,
    )


def _all(names: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    """Each once, in order."""
    return tuple(dict.fromkeys(chain.from_iterable(names)))


def _severity(severity: Severity, facts: AssetFacts) -> Severity:
    """By metadata `alert_severity_override`. It speaks of failures: a check that only warns goes on warning."""
    if severity != "ERROR":
        return severity
    return _SEVERITIES.get(facts.metadata.get("alert_severity_override", "").strip().upper(), severity)


def _channels(facts: AssetFacts) -> tuple[str, ...]:
    """By metadata `alert_channels`: a JSON list, or names with commas between."""
    text = facts.metadata.get("alert_channels", "").strip()
    if not text:
        return ()
    try:
        return tuple(msgspec.json.decode(text, type=list[str]))
    except msgspec.MsgspecError:
        return tuple(name for part in text.strip("[]").split(",") if (name := part.strip(" \"'")))
