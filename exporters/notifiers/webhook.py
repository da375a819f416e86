"""Alerts to any HTTP endpoint, as JSON (`pipeline.alert_json`), with a signature if a secret is given.

The receiver checks it as it would GitHub's: `X-Dagtel-Signature: sha256=` and the hexadecimal HMAC-SHA256 of the body
as it arrived. A message may come twice (a call whose answer was lost is made again): `key`, `state` and `at` together
say that it is the same, and so does the header `Idempotency-Key`.
"""

import hmac
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from hashlib import sha256
from typing import Final, Literal

import msgspec

from exporters.notifiers.payloads import payloads, post
from pipeline.alert_json import alert_json
from pipeline.batch import Batch
from pipeline.components import Context, Exporter, ExporterSpec, Payload, Receipt
from pipeline.errors import PermanentError
from pipeline.http import HttpClient, Tls
from pipeline.options import Secret
from pipeline.signals import Alert, Signal

SIGNATURE: Final = "X-Dagtel-Signature"


class WebhookConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Notifies by an HTTP call, the alert as JSON. Without `url` it is off, and says so once."""

    url: Secret = Secret("")
    """Where to; a secret, as such URLs often hold a token. Empty: off."""
    method: Literal["POST", "PUT"] = "POST"
    """How."""
    headers: dict[str, Secret] = {}
    """Further headers, such as `Authorization`."""
    signing_secret: Secret = Secret("")
    """If given, each call carries `X-Dagtel-Signature: sha256=<HMAC-SHA256 of the body>`."""
    tls: Tls = Tls()
    """TLS of the connection."""

    def problems(self) -> Iterator[tuple[str, str]]:
        """Path and message of each fault."""
        url = self.url.reveal()
        if url and not url.startswith(("http://", "https://")):
            yield "url", "begins with http:// or https://"


class Webhook:
    """The exporter. A payload is the JSON of one alert."""

    def __init__(self, config: WebhookConfig, http: HttpClient) -> None:
        self._config, self._http = config, http
        self._headers = {"Content-Type": "application/json"}
        self._headers.update((name, value.reveal()) for name, value in config.headers.items())

    def build(self, batch: Batch[Alert], /) -> Sequence[Payload]:
        """A call an alert; none while the notifier is off."""
        return payloads(batch.items, alert_json) if self._config.url else ()

    async def send(self, payload: Payload, /) -> Receipt | None:
        """Call it."""
        url, secret = self._config.url.reveal(), self._config.signing_secret.reveal()
        if not url:
            raise PermanentError("the webhook is off: url is empty")
        headers = {**self._headers, "Idempotency-Key": sha256(payload.body).hexdigest()}
        if secret:
            headers[SIGNATURE] = signature(secret, payload.body)
        await post(self._http, "the webhook", self._config.method, url, payload.body, headers, self._config.tls)
        return None


def signature(secret: str, body: bytes) -> str:
    """The value of the signature's header."""
    return "sha256=" + hmac.new(secret.encode(), body, sha256).hexdigest()


@asynccontextmanager
async def build(config: WebhookConfig, context: Context) -> AsyncIterator[Exporter[Alert]]:
    if not config.url:
        context.log.info("The webhook notifier is off: url is empty.")
    yield Webhook(config, context.http)


SPEC = ExporterSpec("webhook", WebhookConfig, build, takes=frozenset({Signal.ALERTS}), serial=True, urgent=True)
