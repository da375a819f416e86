"""The generic webhook: JSON out, signed, and its answers."""

import hmac
import json
from base64 import b64encode
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from exporters.notifiers.webhook import SPEC, Webhook, WebhookConfig, signature, signing_key
from pipeline.batch import WHOLE, Batch
from pipeline.errors import PermanentError, RetryableError
from pipeline.http import Response
from pipeline.options import Secret
from pipeline.signals import Alert
from pipeline.testing.clock import VirtualClock
from pipeline.testing.context import FakeContext, FakeHttp

pytestmark = pytest.mark.anyio

ALERT = Alert("asset_failure", "firing", "ERROR", "v1:p", 0, 0, 0, asset="raw/orders", key="v1:p#1")
BATCH = Batch([ALERT], WHOLE, 0)


async def sent(config: WebhookConfig, status: int = 204) -> tuple[str, str, bytes, dict[str, str]]:
    http = FakeHttp(lambda *_: Response(status, {}, b"why"))
    exporter = Webhook(config, http, clock=VirtualClock())
    (payload,) = exporter.build(BATCH)
    assert payload.key == "v1:p"
    await exporter.send(payload)
    (request,) = http.requests
    return request


async def test_an_alert_is_a_call_with_its_json_and_a_signature() -> None:
    config = WebhookConfig(
        url=Secret("https://x.example/hook"),
        method="PUT",
        headers={"Authorization": Secret("Bearer t")},
        signing_secret=Secret("k"),
    )
    method, url, body, headers = await sent(config)
    assert (method, url, headers["Authorization"]) == ("PUT", "https://x.example/hook", "Bearer t")
    assert json.loads(body)["asset"] == "raw/orders"
    assert headers["Idempotency-Key"] == headers["webhook-id"] == sha256(body).hexdigest()
    signed = f"{headers['webhook-id']}.1700000000.".encode() + body
    assert headers["webhook-timestamp"] == "1700000000"
    assert headers["webhook-signature"] == "v1," + b64encode(hmac.new(b"k", signed, sha256).digest()).decode()


def test_the_signature_is_that_of_standard_webhooks() -> None:
    """The example of the specification's own libraries."""
    key = signing_key("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    signed = signature(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert signed == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_a_secret_that_is_none_is_named() -> None:
    config = WebhookConfig(url=Secret("https://x"), signing_secret=Secret("whsec_???"))
    assert list(config.problems()) == [("signing_secret", "after `whsec_` comes base64")]


async def test_what_the_docs_say_a_receiver_does_finds_a_good_call_good_and_others_not() -> None:
    docs = (Path(__file__).parents[3] / "docs" / "notifiers.md").read_text()
    code = docs[docs.index("def verify(") :].partition("```")[0]
    space: dict[str, Any] = {}
    exec("import base64, hashlib, hmac, time\n" + code, space)
    _, _, body, headers = await sent(WebhookConfig(url=Secret("https://x.example"), signing_secret=Secret("k")))
    assert space["verify"]("k", headers, body, now=1_700_000_100)
    assert not space["verify"]("k", headers, body + b" ", now=1_700_000_100), "changed"
    assert not space["verify"]("k", headers, body, now=1_700_000_400), "recorded and played again"
    assert not space["verify"]("another", headers, body, now=1_700_000_100)


async def test_without_a_secret_nothing_is_signed() -> None:
    *_, headers = await sent(WebhookConfig(url=Secret("https://x.example")))
    assert "webhook-signature" not in headers


async def test_without_a_url_it_is_off() -> None:
    async with SPEC.build(WebhookConfig(), FakeContext()) as exporter:
        assert exporter.build(BATCH) == ()


@pytest.mark.parametrize(("status", "kind"), [(503, RetryableError), (400, PermanentError)])
async def test_answers_say_whether_to_try_again(status: int, kind: type[Exception]) -> None:
    with pytest.raises(kind, match=f"the webhook answered {status}: why"):
        await sent(WebhookConfig(url=Secret("https://x.example")), status)


async def test_a_url_that_is_none_is_named() -> None:
    assert list(WebhookConfig(url=Secret("ftp://x")).problems()) == [("url", "begins with http:// or https://")]
