"""The `route` processor: a table of conditions that decides where alerts go and how much of the events passes."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any
from zlib import crc32

import msgspec

from pipeline.batch import Batch
from pipeline.components import Context, ProcessorSpec
from pipeline.events import Event
from pipeline.expressions import Condition, ExpressionError
from pipeline.signals import Alert, Severity, Signal


class AlertRule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What becomes of the alerts that a condition holds of."""

    when: str
    """A condition over the alert: `group == "finance" && severity == "ERROR"`."""
    channels: tuple[str, ...] | None = None
    """The notifiers that it goes to, in place of those that its severity or the asset's metadata name."""
    severity: Severity | None = None
    """INFO, WARNING, ERROR or CRITICAL."""
    owners: tuple[str, ...] | None = None
    """Who owns it, in place of the asset's owners."""
    stop: bool = False
    """No later rule is looked at."""


class EventRule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What becomes of the events that a condition holds of."""

    when: str
    """A condition over the event: `job == "heartbeat"`."""
    keep_ratio: float = 1.0
    """The part of runs whose events pass, 0 to 1: chosen by the run's id, so a run passes as a whole, and the same ones
    after a restart. Events without a run pass unless it is 0."""
    stop: bool = False
    """No later rule is looked at."""


class RouteConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Routes alerts (channels, severity, owners) and thins out events, by conditions in the Common Expression Language.

    Rules are looked at in order; later ones that hold go over earlier ones, up to the first with `stop`. In an alerts
    pipeline it stands before `dedup`: what it decides is frozen in the alert, and no part of its fingerprint.
    """

    alerts: tuple[AlertRule, ...] = ()
    """Rules for alerts."""
    events: tuple[EventRule, ...] = ()
    """Rules for events."""
    owners: dict[str, tuple[str, ...]] = {}
    """Names of owners as definitions have them → whom to name instead: `"team:sales": ["@oncall-sales"]`."""

    def problems(self) -> Iterator[tuple[str, str]]:
        """Rules that cannot be used, each as (option, why)."""
        if not (self.alerts or self.events or self.owners):
            yield "", "needs `alerts`, `events` or `owners`, or it does nothing"
        for number, rule in enumerate(self.alerts, 1):
            yield from _faults("alerts", number, rule.when, Signal.ALERTS)
        for number, thinning in enumerate(self.events, 1):
            yield from _faults("events", number, thinning.when, Signal.EVENTS)
            if not 0 <= thinning.keep_ratio <= 1:
                yield "events", f"rule {number}: keep_ratio must lie between 0 and 1"


def _faults(name: str, number: int, when: str, signal: Signal) -> Iterator[tuple[str, str]]:
    try:
        Condition(when, signal)
    except ExpressionError as error:
        yield name, f"rule {number}: {error}"


class Route:
    """The processor; stateless."""

    def __init__(self, config: RouteConfig, context: Context) -> None:
        self._alerts = [(Condition(rule.when, Signal.ALERTS), rule) for rule in config.alerts]
        self._events = [(Condition(rule.when, Signal.EVENTS), rule) for rule in config.events]
        self._owners = config.owners
        self._context = context
        self._errors = context.meter.create_counter(
            "dagtel_expression_errors", description="Items of which a condition could not be said."
        )
        self._said: set[str] = set()

    async def process(self, batch: Batch[object], /) -> Batch[object]:
        """Alerts with what the rules set, events that pass; anything else as it is."""
        routed: list[object] = []
        for item in batch.items:
            if isinstance(item, Alert):
                routed.append(self._routed(item))
            elif not isinstance(item, Event) or self._passes(item):
                routed.append(item)
        return batch.carrying(routed)

    def _routed(self, alert: Alert) -> Alert:
        changes: dict[str, Any] = {}
        said_by: dict[str, str] = {}
        for number, (condition, rule) in enumerate(self._alerts, 1):
            if self._holds(condition, alert, Signal.ALERTS):
                for name in ("channels", "severity", "owners"):
                    if (value := getattr(rule, name)) is not None:
                        changes[name] = value
                        said_by[name] = f"rule {number} of {self._context.id}"
                if rule.stop:
                    break
        if self._owners:
            before = changes.get("owners", alert.owners)
            changes["owners"] = self._named(before)
            if changes["owners"] != before:
                said_by["owners"] = f"owners of {self._context.id}"
        if said_by:
            changes["said_by"] = alert.said_by | said_by
        return msgspec.structs.replace(alert, **changes) if changes else alert

    def _named(self, owners: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for owner in owners for name in self._owners.get(owner, (owner,))))

    def _passes(self, event: Event) -> bool:
        ratio = 1.0
        for condition, rule in self._events:
            if self._holds(condition, event, Signal.EVENTS):
                ratio = rule.keep_ratio
                if rule.stop:
                    break
        if ratio >= 1 or not event.run_id:
            return ratio > 0
        return crc32(event.run_id.encode("utf-8", "surrogatepass")) < ratio * 2**32

    def _holds(self, condition: Condition, item: object, signal: Signal) -> bool:
        try:
            return condition.holds(item, signal)
        except ExpressionError as error:
            self._errors.add(1, {"component": self._context.id})
            if condition.source not in self._said:
                self._said.add(condition.source)
                self._context.log.warning(
                    "A rule could not be evaluated and does not hold; said once, counted as "
                    "dagtel_expression_errors_total.",
                    extra={"why": str(error)},
                )
            return False


@asynccontextmanager
async def build(config: RouteConfig, context: Context) -> AsyncIterator[Route]:
    """Compile the conditions. Raises ExpressionError on one that cannot be used."""
    yield Route(config, context)


SPEC = ProcessorSpec("route", RouteConfig, build, takes=frozenset({Signal.ALERTS, Signal.EVENTS}))
