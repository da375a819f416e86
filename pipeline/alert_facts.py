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


def with_facts(alert: Alert, facts: AssetFacts) -> Alert:
    """The alert with what `facts` of its asset say; what it says already stands."""
    return msgspec.structs.replace(
        alert,
        severity=_severity(alert.severity, facts),
        owners=alert.owners or facts.owners or ((facts.group,) if facts.group else ()),
        group=alert.group or facts.group,
        channels=alert.channels or _channels(facts),
        code_location=alert.code_location or facts.code_location,
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
