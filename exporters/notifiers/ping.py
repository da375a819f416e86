"""A heartbeat as a plain call: a watcher outside (healthchecks.io, Uptime Kuma, Dead Man's Snitch, a cron monitor)
expects it and tells somebody when it stays away. The call is all that it says.
"""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Literal

import msgspec

from exporters.notifiers.message import one_line
from exporters.notifiers.payloads import post
from pipeline.batch import Batch
from pipeline.channels import meant_for
from pipeline.components import Context, Exporter, ExporterSpec, Payload, Receipt
from pipeline.errors import PermanentError
from pipeline.http import HttpClient, Tls
from pipeline.options import Secret
from pipeline.signals import Alert, Signal


class PingConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Calls a URL for each heartbeat of the `silence` connector. Without `url` it is off, and says so once.

    Other alerts are none of its business. Of heartbeats that could not be sent only the last is sent later.
    """

    url: Secret = Secret("")
    """Where a watcher expects the call: `https://hc-ping.com/<id>`. Empty: off."""
    method: Literal["GET", "POST", "HEAD"] = "POST"
    """How to call it; the body of a POST is one line of text about the last event."""
    headers: dict[str, Secret] = {}
    """Further headers."""
    tls: Tls = Tls()
    """TLS of the connection."""

    def problems(self) -> Iterator[tuple[str, str]]:
        """Path and message of each fault."""
        if self.url.reveal() and not self.url.reveal().startswith(("http://", "https://")):
            yield "url", "begins with http:// or https://"


class Ping:
    """The exporter. Whatever else stands in its pipeline is left out."""

    def __init__(self, config: PingConfig, http: HttpClient, id: str = "ping") -> None:
        self._config, self._http, self._id = config, http, id
        self._headers = {name: value.reveal() for name, value in config.headers.items()}

    def build(self, batch: Batch[Alert], /) -> Sequence[Payload]:
        """A payload a heartbeat; a newer one says all that an older one does."""
        if not self._config.url.reveal():
            return ()
        return [
            Payload(one_line(item.summary).encode(), 1, key="heartbeat", life="heartbeat", rank=1)
            for item in batch.items
            if isinstance(item, Alert) and item.kind == "heartbeat" and meant_for(item, self._id)
        ]

    async def send(self, payload: Payload, /) -> Receipt | None:
        """Call it. Raises RetryableError or PermanentError, which never name the URL: it is a password."""
        url = self._config.url.reveal()
        if not url:
            raise PermanentError("ping is off: url is empty")
        body = payload.body if self._config.method == "POST" else b""
        headers = {"Content-Type": "text/plain; charset=utf-8", **self._headers} if body else self._headers
        await post(self._http, "the watcher", self._config.method, url, body, headers, self._config.tls)
        return None


@asynccontextmanager
async def build(config: PingConfig, context: Context) -> AsyncIterator[Exporter[Alert]]:
    if not config.url.reveal():
        context.log.info("Heartbeats are not sent: ping has no url.")
    yield Ping(config, context.http, context.id)


SPEC = ExporterSpec("ping", PingConfig, build, takes=frozenset({Signal.ALERTS}), serial=True, urgent=True)
