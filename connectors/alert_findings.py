"""What went wrong, as a finding: outcome and event in, `Alert(state="failing")` out. Pure.

A finding is complete when it leaves here (place, error, fingerprint, severity, owners, links), because everything
behind it works on alerts alone. Only the impact is added later, by `lineage_impact`.
"""

from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from string import Formatter
from typing import Final
from urllib.parse import quote

import msgspec

from connectors.alert_checks import check_words
from connectors.alert_subjects import Healed
from pipeline.alert_facts import with_facts
from pipeline.events import Event
from pipeline.facts import ErrorInfo, RunFacts
from pipeline.fingerprint import Fingerprinter, fingerprint
from pipeline.outcomes import AssetFailed, AssetSkipped, CheckEvaluated, CheckRaised, RunEnded, StepRaised
from pipeline.signals import Alert, Links, Severity
from pipeline.trace_ids import trace_id

MESSAGE_LENGTH: Final = 4000
"""Characters of an error's message that an alert carries; the log line has all of it."""

TAGS: Final = 20
"""Tags of its run that an alert carries, each up to TAG_LENGTH characters."""
TAG_LENGTH: Final = 200

_SELECTION: Final = "__ASSET_JOB"
"""Dagster's name of the job of any selection of assets (before 1.8 with a number behind it)."""

_NO_LINKS: Final = Links()

_quoted: Final = lru_cache(256)(quote)  # names of assets and jobs come again

_PLACEHOLDERS: Final = frozenset({"run_id", "trace_id", "asset", "job", "step_key", "partition", "check"})


class LinkTemplates(msgspec.Struct, frozen=True):
    """URL templates with `{run_id}`, `{trace_id}`, `{asset}`, `{job}`, `{step_key}`, `{partition}`, `{check}`."""

    run: str = ""
    trace: str = ""
    dashboard: str = ""


def template_fault(template: str) -> str:
    """What is wrong with a URL template: another scheme, an unknown placeholder, a lonely brace. "" if nothing."""
    if not template:
        return ""
    if not template.startswith(("http://", "https://")):
        return f"{template!r} is no URL: it begins with http:// or https://"
    try:
        names = _names(template)
    except ValueError as error:
        return f"{template!r} is no template: {error}"
    unknown = sorted(names - _PLACEHOLDERS)
    known = ", ".join(sorted(_PLACEHOLDERS))
    return f"{template!r} has an unknown placeholder {{{unknown[0]}}}; there are {known}" if unknown else ""


class Findings:
    """Makes findings by one configuration."""

    def __init__(self, fingerprinter: Fingerprinter, links: LinkTemplates, prefixes: tuple[str, ...] = ()) -> None:
        self._fingerprinter = fingerprinter
        templates = (("run", links.run), ("trace", links.trace), ("dashboard", links.dashboard))
        self._links = [(place, template, _names(template)) for place, template in templates if template]
        self._prefixes = sorted(prefixes, key=len, reverse=True)

    def assets_failed(self, event: Event, together: Sequence[AssetFailed], planned: int = 0) -> Alert:
        """`asset_failure`: one asset was not made, or several of a step by one failure of it."""
        o = together[0]
        assets = tuple([failed.asset for failed in together]) if o.several else ()
        return self._finding(
            "asset_failure",
            "Asset Materialization Failed",
            event,
            o,
            o.error,
            asset=o.asset,
            assets=assets,
            step=o.step,
            partition=o.partition,
            planned=planned,
        )

    def check_failed(self, event: Event, o: CheckEvaluated) -> Alert:
        """`check_failure`: the data is not as it should be."""
        return self._finding(
            "check_failure",
            "Quality Check Failed",
            event,
            o,
            None,
            severity="WARNING" if o.severity == "WARN" else "ERROR",
            said_by={"severity": f"severity {o.severity} of the check"} if o.severity else {},
            summary=check_words(o),
            asset=o.asset,
            check=o.check,
            step=o.step,
            partition=o.partition,
        )

    def check_raised(self, event: Event, o: CheckRaised) -> Alert:
        """`check_failure`: nobody knows whether the data is as it should be."""
        title = "Quality Check Raised an Error"
        return self._finding("check_failure", title, event, o, o.error, asset=o.asset, check=o.check, step=o.step)

    def step_failed(self, event: Event, o: StepRaised) -> Alert:
        """`run_failure` of one step that makes no asset, or had made them all."""
        partition = o.partition or (event.run.partition if event.run else None)
        return self._finding("run_failure", "Step Failed", event, o, o.error, step=o.step, partition=partition)

    def run_failed(self, event: Event, o: RunEnded, unmade: Sequence[AssetSkipped] = ()) -> Alert:
        """`run_failure`: the run failed and nothing in it did (it never started, its process died).

        A selection of assets has no job of its own (all of them are `__ASSET_JOB`): what failed is then the first
        asset of `unmade`, those that the run was to make and did not.
        """
        asset, partition = "", event.run.partition if event.run else None
        summary = reason = _reason(event, o)
        if unmade and o.job.startswith(_SELECTION):
            asset, partition = unmade[0].asset, unmade[0].partition or partition
            more = f"{len(unmade) - 1} more of its assets were not made" if len(unmade) > 1 else ""
            summary = ". ".join(filter(None, (reason, more)))
        return self._finding(
            "run_failure",
            "Run Failed",
            event,
            o,
            o.error,
            reason,
            asset=asset,
            partition=partition,
            summary=summary,
        )

    def _finding(
        self,
        kind: str,
        title: str,
        event: Event,
        o: AssetFailed | CheckEvaluated | CheckRaised | StepRaised | RunEnded,
        error: ErrorInfo | None,
        text: str = "",
        *,
        severity: Severity = "ERROR",
        said_by: dict[str, str] | None = None,
        summary: str = "",
        asset: str = "",
        assets: tuple[str, ...] = (),
        check: str = "",
        step: str = "",
        partition: str | None = None,
        planned: int = 0,
    ) -> Alert:
        """`text` speaks for a failure without an error; a check is one problem, whatever figures it is told with."""
        run = event.run
        parts = self._fingerprinter.explain(
            kind,
            asset="" if assets else asset,
            job="" if assets else o.job,  # assets are the same whatever job makes them
            step=step,
            check=check,
            error=error,
            text=text,
            partition=partition,
            run=o.run,
        )
        finding = Alert(
            kind,
            "failing",
            severity,
            fingerprint(parts),
            event.now_ns,
            o.at_ns,
            o.at_ns,
            title,
            summary,
            asset,
            check,
            step,
            o.job,
            o.run,
            partition,
            error=self._short(error) if error else None,
            code_location=run.code_location if run else "",
            planned=planned,
            links=self._linked(o.run, asset, o.job, step, partition, check),
            tags=_tags(run) if run else {},
            assets=assets,
            said_by=said_by or {},
            parts=parts,
        )
        return with_facts(finding, event.catalog.assets.get, "enrichment") if event.catalog and asset else finding

    def _short(self, error: ErrorInfo) -> ErrorInfo:
        """Without the stack: alerts are kept in state as long as they are open."""
        file = error.file
        for prefix in self._prefixes:
            if file.startswith(prefix):
                file = file[len(prefix) :].lstrip("/\\")
                break
        message = error.message[:MESSAGE_LENGTH]
        return ErrorInfo(error.type, message, file, error.line, error.function, error.frames, error.chain)

    def _linked(self, run: str, asset: str, job: str, step: str, partition: str | None, check: str) -> Links:
        if not self._links:
            return _NO_LINKS
        values = {
            "run_id": run,
            "trace_id": trace_id(run) if run else "",
            "asset": asset,
            "job": job,
            "step_key": step,
            "partition": partition or "",
            "check": check,
        }
        return Links(**{place: _filled(template, names, values) for place, template, names in self._links})


def recovered(
    healed: Healed,
    event: Event,
    at_ns: int,
    asset: str = "",
    check: str = "",
    step: str = "",
    job: str = "",
    run: str = "",
) -> Alert:
    """The end of a problem. `at_ns`: when its subject was well; `run`: the run that was, "" if that is not known."""
    return Alert(
        kind=healed.kind,
        state="recovered",
        severity="INFO",
        fingerprint=healed.fingerprint,
        now_ns=event.now_ns,
        first_ns=at_ns,
        last_ns=at_ns,
        asset=asset,
        check=check,
        step_key=step,
        job=job,
        run_id=run,
        partition=healed.partition,
    )


def _reason(event: Event, o: RunEnded) -> str:
    """Why a run failed of which no error is known; at least Dagster's word ("marked as failed from outside …")."""
    return {
        "START_TIMEOUT": "The run did not start in time",
        "RUN_WORKER_RESTART": "The run worker was restarted",
        "UNEXPECTED_TERMINATION": "The run worker ended unexpectedly",
        "JOB_INITIALIZATION_FAILURE": "The job could not be loaded",
    }.get(o.reason, "" if o.error else event.message[:MESSAGE_LENGTH] or "The run failed")


def _tags(run: RunFacts) -> dict[str, str]:
    """The run's own tags, for routes; of Dagster's only the backfill. An alert is kept, so there is an end to them."""
    tags: dict[str, str] = {}
    if run.tags:
        own = [(name, value) for name, value in run.tags.items() if not name.startswith((".", "dagster/"))]
        tags = {name: value[:TAG_LENGTH] for name, value in sorted(own)[:TAGS]}
    if run.backfill:
        tags["dagster/backfill"] = run.backfill
    return tags


def _filled(template: str, names: Collection[str], values: Mapping[str, str]) -> str:
    """The URL; "" when there is nothing to put in place of the `names` in it (a run that has no id)."""
    if names and not any(values[name] for name in names):
        return ""
    # An asset's page is at /assets/raw/orders.
    return template.format(**{name: _quoted(values[name], "/" if name == "asset" else "") for name in names})


def _names(template: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(template) if name is not None}
