"""Alerts to any HTTP endpoint, as JSON (`pipeline.alert_json`), signed if a secret is given.

The signature is that of Standard Webhooks: `webhook-id`, `webhook-timestamp` and `webhook-signature: v1,` with the
base64 of the HMAC-SHA256 of `id.timestamp.body`; libraries in many languages check it. The timestamp is that of the
call, so an old call that somebody recorded is found out. A message may come twice (a call whose answer was lost is
made again), then with the same `webhook-id`. Source: https://www.standardwebhooks.com
"""

import hmac
from base64 import b64decode, b64encode
from binascii import Error as BadBase64
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from hashlib import sha256
from typing import Final, Literal

import msgspec

from exporters.notifiers.payloads import payloads, post
from pipeline.alert_json import alert_json
from pipeline.batch import Batch
from pipeline.clock import SECOND, Clock, SystemClock
from pipeline.components import Context, Exporter, ExporterSpec, Payload, Receipt
from pipeline.errors import PermanentError
from pipeline.http import HttpClient, Tls
from pipeline.options import Secret
from pipeline.signals import Alert, Signal

PREFIX: Final = "whsec_"


class WebhookConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Notifies by an HTTP call, the alert as JSON. Without `url` it is off, and says so once."""

    url: Secret = Secret("")
    """Where to; a secret, as such URLs often hold a token. Empty: off."""
    method: Literal["POST", "PUT"] = "POST"
    """How."""
    headers: dict[str, Secret] = {}
    """Further headers, such as `Authorization`."""
    signing_secret: Secret = Secret("")
    """If given, each call is signed as Standard Webhooks says. `whsec_` and base64, or any text."""
    tls: Tls = Tls()
    """TLS of the connection."""

    def problems(self) -> Iterator[tuple[str, str]]:
        """Path and message of each fault."""
        url = self.url.reveal()
        if url and not url.startswith(("http://", "https://")):
            yield "url", "begins with http:// or https://"
        try:
            signing_key(self.signing_secret.reveal())
        except ValueError as error:
            yield "signing_secret", str(error)


class Webhook:
    """The exporter. A payload is the JSON of one alert."""

    def __init__(
        self, config: WebhookConfig, http: HttpClient, id: str = "webhook", clock: Clock | None = None
    ) -> None:
        self._config, self._http, self._id = config, http, id
        self._clock = clock or SystemClock()
        self._key = signing_key(config.signing_secret.reveal())
        self._headers = {"Content-Type": "application/json"}
        self._headers.update((name, value.reveal()) for name, value in config.headers.items())

    def build(self, batch: Batch[Alert], /) -> Sequence[Payload]:
        """A call an alert; none while the notifier is off."""
        return payloads(batch.items, self._id, alert_json) if self._config.url else ()

    async def send(self, payload: Payload, /) -> Receipt | None:
        """Call it."""
        url, body = self._config.url.reveal(), payload.body
        if not url:
            raise PermanentError("the webhook is off: url is empty")
        id = sha256(body).hexdigest()
        headers = {**self._headers, "Idempotency-Key": id, "webhook-id": id}
        if self._key:
            at_s = self._clock.wall_ns() // SECOND  # the call's own time: it tells that the call is no old one
            headers |= {"webhook-timestamp": str(at_s), "webhook-signature": signature(self._key, id, at_s, body)}
        await post(self._http, "the webhook", self._config.method, url, body, headers, self._config.tls)
        return None


def signature(key: bytes, id: str, at_s: int, body: bytes) -> str:
    """The value of `webhook-signature`."""
    signed = f"{id}.{at_s}.".encode() + body
    return "v1," + b64encode(hmac.new(key, signed, sha256).digest()).decode()


def signing_key(secret: str) -> bytes:
    """The key of a secret: what `whsec_…` encodes, else the text itself. Raises ValueError."""
    if not secret.startswith(PREFIX):
        return secret.encode()
    try:
        return b64decode(secret.removeprefix(PREFIX), validate=True)
    except BadBase64:
        raise ValueError("after `whsec_` comes base64") from None


@asynccontextmanager
async def build(config: WebhookConfig, context: Context) -> AsyncIterator[Exporter[Alert]]:
    if not config.url:
        context.log.info("The webhook notifier is off: url is empty.")
    yield Webhook(config, context.http, context.id)


SPEC = ExporterSpec("webhook", WebhookConfig, build, takes=frozenset({Signal.ALERTS}), serial=True, urgent=True)
