"""Alerts to Prometheus Alertmanager (API v2), for those who route and silence there.

Alertmanager keeps alerts in memory and ends one whose `endsAt` has come, so it expects its clients to say again and
again what is still wrong. This one does: what is open is kept (and given back as the exporter's receipt after a
restart) and posted every `resend_every` with an `endsAt` that lies `valid_for` ahead. So an Alertmanager that is
started anew soon knows all of it, a pause of dagtel's ends nothing, and a dagtel that never comes back is forgotten.

An alert is its labels: where these change within a life (an escalation raises the severity), the old one is ended.
Source: https://github.com/prometheus/alertmanager/blob/main/api/v2/openapi.yaml, docs/clients of Alertmanager.
"""

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final

import anyio
import msgspec

from exporters.notifiers import console
from exporters.notifiers.message import cut, link, message, one_line, subject
from exporters.notifiers.payloads import ended, life, payloads, post
from pipeline.alert_json import iso_time
from pipeline.batch import Batch
from pipeline.clock import SECOND, Clock, SystemClock
from pipeline.components import Context, Exporter, ExporterSpec, Payload, Receipt
from pipeline.errors import PermanentError, RetryableError
from pipeline.http import Tls
from pipeline.options import Duration, Secret
from pipeline.signals import Alert, Signal

DESCRIPTION: Final = 2000
CHUNK: Final = 200
"""Alerts in one call."""

_encode = msgspec.json.Encoder().encode
# Alertmanager puts labels and annotations into Slack's and other markups as they are.
_INERT: Final = str.maketrans({"<": "‹", ">": "›"})


class AlertmanagerConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Notifies Prometheus Alertmanager. Without `endpoints` it is off, and says so once."""

    endpoints: tuple[str, ...] = ()
    """Its base URLs, such as `http://alertmanager:9093`; of a cluster all of them, each is told. Empty: off."""
    resend_every: Duration = Duration("1m")
    """How often what is open is posted again."""
    valid_for: Duration = Duration("24h")
    """How long after it was last posted an alert ends by itself."""
    labels: dict[str, str] = {}
    """Further labels of every alert, such as `environment: prod`."""
    headers: dict[str, Secret] = {}
    """Further headers of the calls, such as `Authorization`."""
    max_open: int = 1000
    """Open problems that are posted again. The oldest beyond end after `valid_for`."""
    tls: Tls = Tls()
    """TLS of the connection."""

    def problems(self) -> Iterator[tuple[str, str]]:
        """Path and message of each fault."""
        for number, endpoint in enumerate(self.endpoints):
            if not endpoint.startswith(("http://", "https://")):
                yield f"endpoints[{number}]", "begins with http:// or https://"
        if self.resend_every <= 0:
            yield "resend_every", "must be more than 0"
        if self.valid_for <= 2 * self.resend_every:
            yield "valid_for", "must be more than twice resend_every, or a call that fails ends alerts"
        if self.max_open < 1:
            yield "max_open", "must be at least 1"


class Open(msgspec.Struct, frozen=True, omit_defaults=True):
    """An alert as Alertmanager knows it, without its end."""

    labels: dict[str, str]
    annotations: dict[str, str]
    starts: str
    url: str = ""


class Change(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a notification changes: the alert of `key`, whether it is over, and other keys that are."""

    key: str
    alert: Open
    over: bool = False
    ended: tuple[str, ...] = ()


class Alertmanager:
    """The exporter. A payload is a `Change`; when an alert ends is said when it is sent."""

    def __init__(self, config: AlertmanagerConfig, context: Context, clock: Clock | None = None) -> None:
        self._config, self._http, self._id = config, context.http, context.id
        self._clock = clock or SystemClock()
        self._headers = {"Content-Type": "application/json"}
        self._headers.update((name, value.reveal()) for name, value in config.headers.items())
        receipt = context.receipt
        self._open: dict[str, Open] = msgspec.msgpack.decode(receipt, type=dict[str, Open]) if receipt else {}
        self._calling = anyio.Lock()  # else a resend that was under way could come after the end of an alert

    def build(self, batch: Batch[Alert], /) -> Sequence[Payload]:
        """A change an alert; none while the notifier is off."""
        return payloads(batch.items, self._id, self._render) if self._config.endpoints else ()

    async def send(self, payload: Payload, /) -> Receipt | None:
        """Tell each Alertmanager; one that takes it is enough, the others hear it with the next resend."""
        if not self._config.endpoints:
            raise PermanentError("Alertmanager is off: endpoints is empty")
        change = msgspec.json.decode(payload.body, type=Change)
        async with self._calling:
            await self._post(self._told(change))
            self._keep(change)
        return msgspec.msgpack.encode(self._open)

    async def resend(self) -> None:
        """Post again what is open."""
        async with self._calling:
            alerts = [_posted(alert, self._ends()) for alert in self._open.values()]
            for start in range(0, len(alerts), CHUNK):
                await self._post(alerts[start : start + CHUNK])

    def _told(self, change: Change) -> list[dict[str, object]]:
        now = iso_time(self._clock.wall_ns())
        before = [self._open[key] for key in (*change.ended, change.key) if key in self._open]
        told = [_posted(one, now) for one in before if one.labels != change.alert.labels]
        return [*told, _posted(change.alert, now if change.over else self._ends())]

    def _keep(self, change: Change) -> None:
        for key in (*change.ended, change.key):
            self._open.pop(key, None)
        if not change.over:
            self._open[change.key] = change.alert
        while len(self._open) > self._config.max_open:
            del self._open[next(iter(self._open))]

    def _ends(self) -> str:
        return iso_time(self._clock.wall_ns() + self._config.valid_for.ns)

    async def _post(self, alerts: Sequence[Mapping[str, object]]) -> None:
        body, problems = _encode(alerts), []
        for endpoint in self._config.endpoints:
            url = f"{endpoint.rstrip('/')}/api/v2/alerts"
            try:
                await post(self._http, "Alertmanager", "POST", url, body, self._headers, self._config.tls)
            except (RetryableError, PermanentError) as error:
                problems.append(error)
        if len(problems) == len(self._config.endpoints):
            retried = [error for error in problems if isinstance(error, RetryableError)]
            raise (retried or problems)[0]

    def _render(self, alert: Alert) -> bytes:
        return _encode(change(alert, self._config.labels))


def change(alert: Alert, more: Mapping[str, str] | None = None) -> Change:
    """What a notification changes. `more` are labels of every alert."""
    return Change(life(alert), _alert(alert, more or {}), alert.state == "resolved", tuple(ended(alert)))


def _alert(alert: Alert, more: Mapping[str, str]) -> Open:
    said = message(alert)
    assert said is not None
    labels = {
        "alertname": "".join(word.capitalize() for word in alert.kind.split("_")) or "Unknown",
        "severity": alert.severity.lower(),
        "asset": alert.asset,
        "check": alert.check,
        "dagster_job": alert.job if not alert.asset else "",
        "step": alert.step_key if not alert.asset else "",
        "group": alert.group,
        "code_location": alert.code_location,
        "fingerprint": alert.fingerprint,
        **more,
    }
    words = console.render(msgspec.structs.replace(said, actions=())).strip().partition("\n")[2].strip()
    annotations = {
        "summary": one_line(f"{said.title}: {subject(alert)}" if subject(alert) not in said.title else said.title),
        "description": cut(words, DESCRIPTION),
        **{f"{action.name}_url": action.url for action in said.actions},
    }
    return Open(
        {name: inert for name, value in labels.items() if (inert := one_line(value).translate(_INERT))},
        {name: value.translate(_INERT) for name, value in annotations.items() if value},
        iso_time(alert.first_ns // SECOND * SECOND),
        link(alert.links.run),
    )


def _posted(alert: Open, ends: str) -> dict[str, object]:
    """As the API takes it. Nothing starts after its end, whatever an event's clock said."""
    posted: dict[str, object] = {
        "labels": alert.labels,
        "annotations": alert.annotations,
        "startsAt": min(alert.starts, ends),
        "endsAt": ends,
    }
    return {**posted, "generatorURL": alert.url} if alert.url else posted


@asynccontextmanager
async def build(config: AlertmanagerConfig, context: Context) -> AsyncIterator[Exporter[Alert]]:
    exporter = Alertmanager(config, context)
    if config.endpoints:
        context.side_input("resend", config.resend_every, exporter.resend, lambda nothing: None, wait_s=0)
    else:
        context.log.info("The Alertmanager notifier is off: endpoints is empty.")
    yield exporter


SPEC = ExporterSpec(
    "alertmanager", AlertmanagerConfig, build, takes=frozenset({Signal.ALERTS}), serial=True, urgent=True
)
