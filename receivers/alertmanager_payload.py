"""What Prometheus Alertmanager's webhook says, as findings. Pure.

A payload tells of a whole group, each time anything in it changes and again every `repeat_interval`. So what is told
already is kept (`Active`): of a payload with news only the news are findings, one without is Alertmanager's own repeat.
Source: https://prometheus.io/docs/alerting/latest/configuration/#webhook_config (version 4).
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Final

import msgspec

from pipeline.clock import SECOND
from pipeline.conditions import Conditions, Of
from pipeline.errors import DecodeError
from pipeline.fingerprint import VERSION
from pipeline.signals import Alert, Links, Severity

Active = dict[str, int]
"""Fingerprint → when it began (Unix ns), of what fires."""

TEXT: Final = 4000
"""Characters of a text that a finding carries."""
LABELS: Final = 50
"""Labels of an alert that a finding carries as tags."""


class AmAlert(msgspec.Struct, rename="camel"):
    """One alert of a group."""

    labels: dict[str, str]
    annotations: dict[str, str] = {}
    status: str = "firing"
    starts_at: datetime | None = None
    ends_at: datetime | None = None
    generator_url: str = msgspec.field(default="", name="generatorURL")


class AmGroup(msgspec.Struct, rename="camel"):
    """A payload."""

    alerts: list[AmAlert]
    group_key: str = ""
    truncated_alerts: int = 0
    external_url: str = msgspec.field(default="", name="externalURL")


class Reading(msgspec.Struct, frozen=True):
    """Which labels and annotations mean what; the first that an alert has counts."""

    asset: tuple[str, ...]
    check: tuple[str, ...]
    job: tuple[str, ...]
    owner: tuple[str, ...]
    severities: Mapping[str, Severity]
    default_severity: Severity
    ignore: frozenset[str]
    ignore_labels: frozenset[str]


_decode = msgspec.json.Decoder(AmGroup).decode


def group_of(body: bytes) -> AmGroup:
    """The payload. Raises DecodeError for what is none."""
    try:
        return _decode(body)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise DecodeError(f"no payload of Alertmanager's webhook: {error}") from error


def findings(group: AmGroup, active: Active, reading: Reading, conditions: Conditions) -> tuple[list[Alert], Active]:
    """The findings of a payload, and what fires after it. Their `now_ns` is 0: the runtime gives them the time."""
    known, told, repeats = dict(active), list[Alert](), list[Alert]()
    for each in group.alerts:
        found = _finding(each, group, reading, conditions)
        if found is None:
            continue
        if found.state == "recovered":
            if known.pop(found.fingerprint, None) is not None:
                told.append(found)
        elif known.get(found.fingerprint) == found.first_ns:
            repeats.append(found)
        else:
            known[found.fingerprint] = found.first_ns
            told.append(found)
    return (told or repeats), known


def _finding(each: AmAlert, group: AmGroup, reading: Reading, conditions: Conditions) -> Alert | None:
    """None for what is none of ours to tell: what is to be ignored, and our own, come back."""
    labels = each.labels
    name = labels.get("alertname", "")
    if name in reading.ignore or labels.get("fingerprint", "").startswith(f"{VERSION}:"):
        return None
    of = Of(
        asset=_first(labels, reading.asset),
        check=_first(labels, reading.check),
        job=_first(labels, reading.job),
        thing=_thing(name, labels, reading),
    )
    starts = _ns(each.starts_at)
    if each.status == "resolved":
        return conditions.recovered("external", of, 0, _ns(each.ends_at) or starts)
    title, summary = _words(name, each.annotations)
    finding = conditions.failing(
        "external", _severity(labels, reading), title, summary, of, 0, starts, tags=_tags(labels, group)
    )
    owner = _first(labels, reading.owner)
    links = msgspec.structs.replace(finding.links, dashboard=_link(each, finding.links))
    return msgspec.structs.replace(finding, links=links, owners=(owner,) if owner else ())


def _thing(name: str, labels: Mapping[str, str], reading: Reading) -> str:
    """The alert's identity, as for Alertmanager: its labels, but those that differ between replicas and the severity
    (one rule at two severities is one problem)."""
    kept = sorted((k, v) for k, v in labels.items() if k not in reading.ignore_labels and k != "alertname")
    return " ".join((name, *(f"{key}={value}" for key, value in kept)))


def _words(name: str, annotations: Mapping[str, str]) -> tuple[str, str]:
    title = annotations.get("summary") or annotations.get("title") or name or "External Alert"
    said = annotations.get("description") or annotations.get("message") or ""
    return title[:TEXT], said[:TEXT]


def _severity(labels: Mapping[str, str], reading: Reading) -> Severity:
    return reading.severities.get(labels.get("severity", "").lower(), reading.default_severity)


def _tags(labels: Mapping[str, str], group: AmGroup) -> dict[str, str]:
    tags = {name: value[:TEXT] for name, value in list(labels.items())[:LABELS]}
    return {**tags, "alertmanager/group": group.group_key[:TEXT]} if group.group_key else tags


def _link(each: AmAlert, links: Links) -> str:
    """Its dashboard where the rule names one, else ours, else the expression in Prometheus."""
    named = (each.annotations.get(name, "") for name in ("dashboard_url", "dashboard", "runbook_url"))
    urls: Iterator[str] = (url for url in (*named, links.dashboard, each.generator_url) if url.startswith("http"))
    return next(urls, "")


def _first(labels: Mapping[str, str], names: Sequence[str]) -> str:
    return next((labels[name] for name in names if labels.get(name)), "")


def _ns(at: datetime | None) -> int:
    """Unix ns; 0 for a time that is not given (`0001-01-01T00:00:00Z` means that it has not ended)."""
    return round(at.timestamp() * 1_000_000) * (SECOND // 1_000_000) if at is not None and at.year > 1970 else 0
