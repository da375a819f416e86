"""Findings about what lasts: a stale asset, a full disk, a daemon that is down. Pure.

A failure happens; a condition holds until it no longer does. Whoever watches one says `failing` when it begins, again
when it gets worse or has lasted another while, and `recovered` when it is over: `dedup` makes messages of that as of
any other finding. What is the same condition is its kind and what it is of, never its figures.
"""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from itertools import pairwise
from types import MappingProxyType
from typing import Final
from urllib.parse import quote

import msgspec

from pipeline.alert_facts import with_facts
from pipeline.clock import DAY, HOUR, MINUTE, SECOND
from pipeline.facts import Parts
from pipeline.fingerprint import Fingerprinter, fingerprint
from pipeline.lineage import AssetFacts
from pipeline.signals import Alert, Links, Severity

KINDS: Final = frozenset(
    {
        "sla_breach", "availability_breach", "slow_run", "row_count_anomaly", "metric_anomaly", "run_stuck",
        "resource", "daemon", "tick_failure", "pipeline_silent", "external",
    }
)  # fmt: skip
"""The kinds of alert that are conditions: nothing "failed again", they last."""


_LAST_NS: Final = 253_402_214_400 * SECOND


class Of(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """What a condition is of: an asset (and partition), a job (and run), else a `thing` by name ("disk /var")."""

    asset: str = ""
    partition: str | None = None
    job: str = ""
    run: str = ""
    check: str = ""
    thing: str = ""


class Conditions:
    """Makes findings by one configuration. `dashboard_url` is a template with `{asset}`, `{job}` and `{run_id}`."""

    def __init__(self, deployment: str = "", dashboard_url: str = "") -> None:
        self._fingerprinter, self._dashboard = Fingerprinter(deployment=deployment), dashboard_url

    def fingerprint(self, kind: str, of: Of) -> str:
        """The same for the same condition of the same thing."""
        return fingerprint(self._parts(kind, of))

    def _parts(self, kind: str, of: Of) -> Parts:
        # Not the text, which is masked: disks and fields are told apart by names that a mask would take for data.
        check = " ".join(filter(None, (of.check, of.thing if of.asset else "")))
        return self._fingerprinter.explain(kind, asset=of.asset, job=of.job, step=of.thing, check=check)

    def failing(
        self,
        kind: str,
        severity: Severity,
        title: str,
        summary: str,
        of: Of,
        now_ns: int,
        at_ns: int = 0,
        facts: AssetFacts | None = None,
        tags: Mapping[str, str] = MappingProxyType({}),
    ) -> Alert:
        """It holds. `at_ns`: since when, or when it was seen, by the clock of what it is of (0: `now_ns`)."""
        alert = self._of(kind, "failing", severity, of, now_ns, at_ns or now_ns)
        alert = msgspec.structs.replace(alert, title=title, summary=summary, links=self._links(of), tags=dict(tags))
        return with_facts(alert, lambda _: facts, "enrichment")

    def recovered(self, kind: str, of: Of, now_ns: int, at_ns: int = 0) -> Alert:
        """It no longer holds."""
        return self._of(kind, "recovered", "INFO", of, now_ns, at_ns or now_ns)

    def _links(self, of: Of) -> Links:
        url = self._dashboard
        for name, value in (("{asset}", of.asset), ("{job}", of.job), ("{run_id}", of.run)):
            if name in url:
                if not value:
                    return Links()
                url = url.replace(name, quote(value, safe="/" if name == "{asset}" else ""))
        return Links(dashboard=url)

    def _of(self, kind: str, state: str, severity: Severity, of: Of, now_ns: int, at_ns: int) -> Alert:
        parts = self._parts(kind, of)
        return Alert(
            kind=kind,
            state="failing" if state == "failing" else "recovered",
            severity=severity,
            fingerprint=fingerprint(parts),
            parts=parts if state == "failing" else None,
            now_ns=now_ns,
            first_ns=at_ns,
            last_ns=at_ns,
            asset=of.asset,
            partition=of.partition,
            job=of.job,
            run_id=of.run,
            check=of.check,
        )


def url_problems(path: str, template: str) -> Iterator[tuple[str, str]]:
    """What is wrong with a template of `Conditions`, for `problems()` of a configuration."""
    if template and not template.startswith(("http://", "https://")):
        yield path, f"{template!r} is no URL: it begins with http:// or https://"


# --- words -----------------------------------------------------------------------------------------------------------


def span(ns: float) -> str:
    """A time span as people say it, two units at most: `500 ms`, `1.2 s`, `2 h 15 min`, `3 d`."""
    if ns < SECOND:
        return f"{ns / 1e6:.3g} ms"
    if ns < MINUTE:
        return f"{ns / SECOND:.3g} s"
    units = ((DAY, "d"), (HOUR, "h"), (MINUTE, "min"), (SECOND, "s"))
    for (size, name), (below, below_name) in pairwise(units):
        if ns >= size:
            whole = int(ns // size)
            rest = int((ns - whole * size) // below)
            return f"{whole} {name} {rest} {below_name}" if rest else f"{whole} {name}"
    return f"{ns / SECOND:.3g} s"


def moment(ns: int) -> str:
    """`2024-01-15 02:00 UTC`; a time beyond the calendar stands at its end."""
    return datetime.fromtimestamp(min(max(ns, 0), _LAST_NS) // SECOND, UTC).strftime("%Y-%m-%d %H:%M UTC")
