"""What an asset's definition says of its alerts: severity, channels, owners. Pure.

Two components may know the definitions (`enrichment` sets an event's catalog, `lineage_impact` has its own sources),
so both apply the same rule, and applying it twice changes nothing.
"""

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


def with_facts(alert: Alert, facts: AssetFacts, by: str) -> Alert:
    """The alert with what `facts` of its asset say; what it says already stands. `by`: which component knows them."""
    severity = _severity(alert.severity, facts)
    owners = alert.owners or facts.owners or ((facts.group,) if facts.group else ())
    channels = alert.channels or _channels(facts)
    said_by = dict(alert.said_by)
    if severity != alert.severity:
        said_by["severity"] = f"metadata alert_severity_override of the asset ({by})"
    if owners and not alert.owners:
        said_by["owners"] = f"{'owners' if facts.owners else 'group'} of the asset ({by})"
    if channels and not alert.channels:
        said_by["channels"] = f"metadata alert_channels of the asset ({by})"
    return msgspec.structs.replace(
        alert,
        severity=severity,
        owners=owners,
        group=alert.group or facts.group,
        channels=channels,
        code_location=alert.code_location or facts.code_location,
        said_by=said_by,
    )


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
