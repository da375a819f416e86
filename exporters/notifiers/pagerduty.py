"""Alerts to PagerDuty by its Events API v2: trigger, acknowledge, resolve.

All notifications of a problem's life have one `dedup_key`, so they are one incident. How urgent it is PagerDuty tells
from the severity, where the service notifies "based on alert severity": `critical` and `error` are high urgency,
`warning` and `info` low. So the alert's urgency decides which pair, its severity which of the two.

Source: https://developer.pagerduty.com/docs/events-api-v2/trigger-events/ (summary 1,024 characters, dedup_key 255, an
event 512 KB; 202: taken, 400: never, 429 and 5xx: later) and https://support.pagerduty.com/docs/dynamic-notifications.
"""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from hashlib import sha256
from typing import Final, Literal

import msgspec

from exporters.notifiers.message import Message, cut, message, one_line, subject
from exporters.notifiers.payloads import ended, life, payloads, post
from pipeline.alert_json import iso_time
from pipeline.batch import Batch
from pipeline.channels import urgency
from pipeline.components import Context, Exporter, ExporterSpec, Payload, Receipt
from pipeline.errors import PermanentError
from pipeline.facts import Json
from pipeline.http import HttpClient
from pipeline.options import Secret
from pipeline.signals import Alert, Severity, Signal, Urgency

SUMMARY: Final = 1024
DEDUP_KEY: Final = 255
EVENT: Final = 512 * 1024
LABEL: Final = 255
"""Characters of source, component, group and class."""

_HEADERS: Final = {"Content-Type": "application/json"}
_SEVERITIES: Final[dict[tuple[Urgency, Severity], str]] = {
    ("low", "INFO"): "info",
    ("low", "WARNING"): "warning",
    ("low", "ERROR"): "warning",
    ("low", "CRITICAL"): "warning",
    ("high", "INFO"): "error",
    ("high", "WARNING"): "error",
    ("high", "ERROR"): "error",
    ("high", "CRITICAL"): "critical",
}
_WORDS: Final = {
    "routing_key": "the routing key is none of an Events API v2 integration; check routing_key "
    "(PHLO_ALERT_PAGERDUTY_KEY), 32 letters and digits",
}
_encode = msgspec.json.Encoder().encode


class PagerDutyConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Notifies by PagerDuty (Events API v2). Without `routing_key` it is off, and says so once.

    A problem is one incident, from its first failure to its end.
    """

    routing_key: Secret = Secret("")
    """The integration key of a service, a secret: `${env:PHLO_ALERT_PAGERDUTY_KEY:-}`. Empty: off."""
    service: str = ""
    """Shown as the event's `component`: `${env:PHLO_ALERT_PAGERDUTY_SERVICE:-}`. Whom it pages the key says."""
    endpoint: str = "https://events.pagerduty.com"
    """The API; `https://events.eu.pagerduty.com` in the EU region."""

    def problems(self) -> Iterator[tuple[str, str]]:
        """Path and message of each fault."""
        if not self.endpoint.startswith(("http://", "https://")):
            yield "endpoint", "begins with http:// or https://"


class PagerDuty:
    """The exporter. A payload is a list of events, without the key: that is added when they are sent."""

    def __init__(self, config: PagerDutyConfig, http: HttpClient, id: str = "pagerduty") -> None:
        self._config, self._http, self._id = config, http, id

    def build(self, batch: Batch[Alert], /) -> Sequence[Payload]:
        """The events of each alert; none while the notifier is off."""
        return payloads(batch.items, self._id, self._render) if self._config.routing_key else ()

    async def send(self, payload: Payload, /) -> Receipt | None:
        """Send its events, one after another. An event that comes twice is one to PagerDuty: its key is the same."""
        key = self._config.routing_key.reveal()
        if not key:
            raise PermanentError("PagerDuty is off: routing_key is empty")
        url = f"{self._config.endpoint}/v2/enqueue"
        for event in msgspec.json.decode(payload.body, type=list[dict[str, Json]]):
            body = _encode({"routing_key": key, **event})
            await post(self._http, "PagerDuty", "POST", url, body, _HEADERS, meanings=_WORDS)
        return None

    def _render(self, alert: Alert) -> bytes:
        return _encode(events(alert, self._config.service))


def events(alert: Alert, service: str = "") -> list[dict[str, Json]]:
    """What PagerDuty is told of an alert, in order.

    Of a digest of many problems those that are over are resolved by their own keys.
    """
    key = dedup_key(life(alert))
    over = [_ending(dedup_key(other)) for other in ended(alert)]
    if alert.state == "resolved":
        return [*over, _ending(key)]
    told = [*over, _trigger(alert, key, service)]
    if alert.acknowledged_by:
        told.append({"event_action": "acknowledge", "dedup_key": key})
    return told


def dedup_key(key: str) -> str:
    """The key within PagerDuty's 255 characters; one that is longer ends in its digest."""
    return key if len(key) <= DEDUP_KEY else f"{key[:180]}-{sha256(key.encode()).hexdigest()}"


def severity(alert: Alert) -> Literal["critical", "error", "warning", "info"]:
    """PagerDuty's severity, from which it makes the urgency."""
    return _SEVERITIES[urgency(alert), alert.severity]  # type: ignore[return-value]  # the table's values are these


def _ending(key: str) -> dict[str, Json]:
    return {"event_action": "resolve", "dedup_key": key}


def _trigger(alert: Alert, key: str, service: str) -> dict[str, Json]:
    said = message(alert)
    assert said is not None
    payload: dict[str, Json] = {
        "summary": cut(_summary(alert, said), SUMMARY),
        "source": cut(subject(alert), LABEL),
        "severity": severity(alert),
        "timestamp": iso_time(alert.last_ns),
        "class": one_line(alert.kind, LABEL),
    }
    labels = {"component": service, "group": alert.group or alert.code_location}
    payload.update((name, shown) for name, value in labels.items() if (shown := one_line(value, LABEL)))
    event: dict[str, Json] = {
        "event_action": "trigger",
        "dedup_key": key,
        "client": "dagtel",
        "payload": {**payload, "custom_details": _details(alert, said)},
    }
    if said.actions:
        looking = next((action.url for action in said.actions if action.looks), "")
        event.update({"client_url": looking} if looking else {})
        event["links"] = [{"href": action.url, "text": action.label} for action in said.actions]
    if len(_encode(event)) > EVENT - 1024:
        event["payload"] = payload
    return event


def _summary(alert: Alert, said: Message) -> str:
    """Title, place and error in a line: all that a phone shows."""
    place = subject(alert)
    title = said.title if place in said.title else f"{said.title}: {place}"
    error = said.error.text.partition("\n")[0] if said.error else ""
    return " · ".join(part for part in (title, error) if part)


def _details(alert: Alert, said: Message) -> dict[str, Json]:
    details: dict[str, Json] = dict(said.fields)
    if said.text:
        details["What"] = "\n".join(said.text)
    if said.error:
        details[said.error.label] = said.error.text
        details.update({"File": said.error.file} if said.error.file else {})
        details.update({"Line": said.error.line} if said.error.line else {})
        details.update({"The whole text": said.error.rest} if said.error.rest else {})
    if said.members:
        details["Problems"] = list(said.members)
    if said.impact:
        details["Downstream Impact"] = list(said.impact)
    if said.ending:
        details["Next"] = "\n".join(said.ending)
    details["Severity"] = alert.severity
    details["Fingerprint"] = one_line(alert.fingerprint)
    return details


@asynccontextmanager
async def build(config: PagerDutyConfig, context: Context) -> AsyncIterator[Exporter[Alert]]:
    if not config.routing_key:
        context.log.info("The PagerDuty notifier is off: routing_key is empty (PHLO_ALERT_PAGERDUTY_KEY is not set).")
    yield PagerDuty(config, context.http, context.id)


SPEC = ExporterSpec("pagerduty", PagerDutyConfig, build, takes=frozenset({Signal.ALERTS}), serial=True, urgent=True)
