"""What went wrong, as a finding: outcome and event in, `Alert(state="failing")` out. Pure.

A finding is complete when it leaves here (place, error, fingerprint, severity, owners, links), because everything
behind it works on alerts alone. Only the impact is added later, by `lineage_impact`.
"""

from collections.abc import Sequence
from string import Formatter
from typing import Final
from urllib.parse import quote

import msgspec

from connectors.alert_checks import check_words
from connectors.alert_subjects import Healed
from pipeline.alert_facts import with_facts
from pipeline.events import Event
from pipeline.facts import ErrorInfo
from pipeline.fingerprint import Fingerprinter, fingerprint
from pipeline.outcomes import AssetFailed, AssetSkipped, CheckEvaluated, CheckRaised, RunEnded, StepRaised
from pipeline.signals import Alert, Links
from pipeline.trace_ids import trace_id

MESSAGE_LENGTH: Final = 4000
"""Characters of an error's message that an alert carries; the log line has all of it."""

TAGS: Final = 20
"""Tags of its run that an alert carries, each up to TAG_LENGTH characters."""
TAG_LENGTH: Final = 200

_SELECTION: Final = "__ASSET_JOB"
"""Dagster's name of the job of any selection of assets (before 1.8 with a number behind it)."""

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
        self._fingerprinter, self._links = fingerprinter, links
        self._prefixes = sorted(prefixes, key=len, reverse=True)

    def assets_failed(self, event: Event, together: Sequence[AssetFailed]) -> Alert:
        """`asset_failure`: one asset was not made, or several of a step by one failure of it."""
        o = together[0]
        draft = _draft("asset_failure", "Asset Materialization Failed", event, o.run, o.job, o.at_ns, o.error)
        assets = tuple(failed.asset for failed in together) if o.several else ()
        return self._complete(
            msgspec.structs.replace(draft, asset=o.asset, assets=assets, step_key=o.step, partition=o.partition), event
        )

    def check_failed(self, event: Event, o: CheckEvaluated) -> Alert:
        """`check_failure`: the data is not as it should be."""
        draft = _draft("check_failure", "Quality Check Failed", event, o.run, o.job, o.at_ns, None)
        return self._complete(
            msgspec.structs.replace(
                draft,
                severity="WARNING" if o.severity == "WARN" else "ERROR",
                said_by={"severity": f"severity {o.severity} of the check"} if o.severity else {},
                summary=check_words(o),
                asset=o.asset,
                check=o.check,
                step_key=o.step,
                partition=o.partition,
            ),
            event,
        )

    def check_raised(self, event: Event, o: CheckRaised) -> Alert:
        """`check_failure`: nobody knows whether the data is as it should be."""
        draft = _draft("check_failure", "Quality Check Raised an Error", event, o.run, o.job, o.at_ns, o.error)
        return self._complete(msgspec.structs.replace(draft, asset=o.asset, check=o.check, step_key=o.step), event)

    def step_failed(self, event: Event, o: StepRaised) -> Alert:
        """`run_failure` of one step that makes no asset, or had made them all."""
        draft = _draft("run_failure", "Step Failed", event, o.run, o.job, o.at_ns, o.error)
        partition = o.partition or (event.run.partition if event.run else None)
        return self._complete(msgspec.structs.replace(draft, step_key=o.step, partition=partition), event)

    def run_failed(self, event: Event, o: RunEnded, unmade: Sequence[AssetSkipped] = ()) -> Alert:
        """`run_failure`: the run failed and nothing in it did (it never started, its process died).

        A selection of assets has no job of its own (all of them are `__ASSET_JOB`): what failed is then the first
        asset of `unmade`, those that the run was to make and did not.
        """
        draft = _draft("run_failure", "Run Failed", event, o.run, o.job, o.at_ns, o.error)
        partition = event.run.partition if event.run else None
        draft = msgspec.structs.replace(draft, partition=partition, summary=_reason(event, o))
        if unmade and o.job.startswith(_SELECTION):
            first = unmade[0]
            more = f"{len(unmade) - 1} more of its assets were not made" if len(unmade) > 1 else ""
            summary = ". ".join(filter(None, (draft.summary, more)))
            partition = first.partition or partition
            draft = msgspec.structs.replace(draft, asset=first.asset, partition=partition, summary=summary)
        return self._complete(draft, event, _reason(event, o))

    def _complete(self, draft: Alert, event: Event, text: str = "") -> Alert:
        """`text` speaks for a failure without an error; a check is one problem, whatever figures it is told with."""
        parts = self._fingerprinter.explain(
            draft.kind,
            asset="" if draft.assets else draft.asset,
            job="" if draft.assets else draft.job,  # assets are the same whatever job makes them
            step=draft.step_key,
            check=draft.check,
            error=draft.error,
            text=text,
            partition=draft.partition,
            run=draft.run_id,
        )
        finding = msgspec.structs.replace(
            draft,
            fingerprint=fingerprint(parts),
            code_location=event.run.code_location if event.run else "",
            links=self._linked(draft),
            error=self._short(draft.error) if draft.error else None,
            tags=_tags(event),
            parts=parts,
        )
        return with_facts(finding, event.catalog.assets.get, "enrichment") if event.catalog and draft.asset else finding

    def _short(self, error: ErrorInfo) -> ErrorInfo:
        """Without the stack: alerts are kept in state as long as they are open."""
        file = error.file
        for prefix in self._prefixes:
            if file.startswith(prefix):
                file = file[len(prefix) :].lstrip("/\\")
                break
        return msgspec.structs.replace(error, stack="", message=error.message[:MESSAGE_LENGTH], file=file)

    def _linked(self, draft: Alert) -> Links:
        if not (self._links.run or self._links.trace or self._links.dashboard):
            return Links()
        values = {
            "run_id": draft.run_id,
            "trace_id": trace_id(draft.run_id) if draft.run_id else "",
            "asset": draft.asset,
            "job": draft.job,
            "step_key": draft.step_key,
            "partition": draft.partition or "",
            "check": draft.check,
        }
        quoted = {name: quote(value, safe="") for name, value in values.items()}
        quoted["asset"] = quote(draft.asset)  # an asset's page is at /assets/raw/orders
        return Links(
            run=_filled(self._links.run, quoted),
            trace=_filled(self._links.trace, quoted),
            dashboard=_filled(self._links.dashboard, quoted),
        )


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


def _draft(kind: str, title: str, event: Event, run: str, job: str, at_ns: int, error: ErrorInfo | None) -> Alert:
    return Alert(
        kind=kind,
        state="failing",
        severity="ERROR",
        fingerprint="",
        now_ns=event.now_ns,
        first_ns=at_ns,
        last_ns=at_ns,
        title=title,
        run_id=run,
        job=job,
        error=error,
    )


def _reason(event: Event, o: RunEnded) -> str:
    """Why a run failed of which no error is known; at least Dagster's word ("marked as failed from outside …")."""
    return {
        "START_TIMEOUT": "The run did not start in time",
        "RUN_WORKER_RESTART": "The run worker was restarted",
        "UNEXPECTED_TERMINATION": "The run worker ended unexpectedly",
        "JOB_INITIALIZATION_FAILURE": "The job could not be loaded",
    }.get(o.reason, "" if o.error else event.message[:MESSAGE_LENGTH] or "The run failed")


def _tags(event: Event) -> dict[str, str]:
    """The run's own tags, for routes; of Dagster's only the backfill. An alert is kept, so there is an end to them."""
    if event.run is None:
        return {}
    own = [
        (name, value[:TAG_LENGTH]) for name, value in event.run.tags.items() if not name.startswith((".", "dagster/"))
    ]
    return {
        **dict(sorted(own)[:TAGS]),
        **({"dagster/backfill": event.run.backfill} if event.run.backfill else {}),
    }


def _filled(template: str, values: dict[str, str]) -> str:
    """The URL; "" when there is no template, or nothing to put in its place (a run that has no id)."""
    names = _names(template)
    return "" if not template or (names and not any(values[name] for name in names)) else template.format(**values)


def _names(template: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(template) if name is not None}
