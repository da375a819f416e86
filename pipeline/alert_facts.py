"""What an asset's definition says of its alerts: severity, channels, owners. Pure.

Two components may know the definitions (`enrichment` sets an event's catalog, `lineage_impact` has its own sources),
so both apply the same rule, and applying it twice changes nothing.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any, Final

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
    """The alert with what is known of its asset; what it says already stands. `by`: which component knows it."""
    said = facts_said(alert, facts_of, by)
    return msgspec.structs.replace(alert, **said) if said else alert


def facts_said(alert: Alert, facts_of: Callable[[str], AssetFacts | None], by: str) -> dict[str, Any]:
    """Fields of the alert that what is known of its asset changes.

    Of several that failed together: the worst severity, all owners and channels, the group of the first.
    """
    assets = alert.assets or (alert.asset,)
    known = [facts for asset in assets if (facts := facts_of(asset)) is not None]
    if not any([f.owners or f.group or f.metadata or f.code_location for f in known]):  # noqa: C419  # twice as fast
        return {}  # nearly always, where all that is known is what reads what
    said: dict[str, Any] = {}
    by_whom: dict[str, str] = {}
    severity = _worst(alert.severity, known, len(assets))
    if severity != alert.severity:
        said["severity"] = severity
        by_whom["severity"] = f"metadata alert_severity_override of the asset ({by})"
    if not alert.owners and (owners := _all([facts.owners or _owning(facts) for facts in known])):
        said["owners"] = owners
        by_whom["owners"] = f"{'owners' if any(facts.owners for facts in known) else 'group'} of the asset ({by})"
    if not alert.channels and (channels := _all([_channels(facts) for facts in known])):
        said["channels"] = channels
        by_whom["channels"] = f"metadata alert_channels of the asset ({by})"
    if not alert.group and known[0].group:
        said["group"] = known[0].group
    if not alert.code_location and known[0].code_location:
        said["code_location"] = known[0].code_location
    if by_whom:
        said["said_by"] = {**alert.said_by, **by_whom}
    return said


def _worst(severity: Severity, known: Sequence[AssetFacts], assets: int) -> Severity:
    severities = [_severity(severity, facts) for facts in known]
    if len(known) < assets:
        severities.append(severity)
    return max(severities, key=SEVERITIES.index) if len(severities) > 1 else severities[0]


def _owning(facts: AssetFacts) -> tuple[str, ...]:
    return (facts.group,) if facts.group else ()


def _all(names: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    """Each once, in order."""
    if not any(names):
        return ()
    return tuple(dict.fromkeys(chain.from_iterable(names)))


def _severity(severity: Severity, facts: AssetFacts) -> Severity:
    """By metadata `alert_severity_override`. It speaks of failures: a check that only warns goes on warning."""
    if severity != "ERROR":
        return severity
    return _SEVERITIES.get(facts.metadata.get("alert_severity_override", "").strip().upper(), severity)


def _channels(facts: AssetFacts) -> tuple[str, ...]:
    """By metadata `alert_channels`: a JSON list, or names with commas between."""
    text = facts.metadata.get("alert_channels")
    return _listed(text) if text else ()


@lru_cache(256)
def _listed(text: str) -> tuple[str, ...]:
    text = text.strip()
    if not text:
        return ()
    try:
        return tuple(msgspec.json.decode(text, type=list[str]))
    except msgspec.MsgspecError:
        return tuple(name for part in text.strip("[]").split(",") if (name := part.strip(" \"'")))
