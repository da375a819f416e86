"""The generic webhook: JSON out, signed, and its answers."""

import hmac
import json
from hashlib import sha256

import pytest

from exporters.notifiers.webhook import SPEC, Webhook, WebhookConfig
from pipeline.batch import WHOLE, Batch
from pipeline.errors import PermanentError, RetryableError
from pipeline.http import Response
from pipeline.options import Secret
from pipeline.signals import Alert
from pipeline.testing.context import FakeContext, FakeHttp

pytestmark = pytest.mark.anyio

ALERT = Alert("asset_failure", "firing", "ERROR", "v1:p", 0, 0, 0, asset="raw/orders", key="v1:p#1")
BATCH = Batch([ALERT], WHOLE, 0)


async def sent(config: WebhookConfig, status: int = 204) -> tuple[str, str, bytes, dict[str, str]]:
    http = FakeHttp(lambda *_: Response(status, {}, b"why"))
    exporter = Webhook(config, http)
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
    assert headers["X-Dagtel-Signature"] == "sha256=" + hmac.new(b"k", body, sha256).hexdigest()
    assert headers["Idempotency-Key"] == sha256(body).hexdigest()


async def test_without_a_secret_nothing_is_signed() -> None:
    *_, headers = await sent(WebhookConfig(url=Secret("https://x.example")))
    assert "X-Dagtel-Signature" not in headers


async def test_without_a_url_it_is_off() -> None:
    async with SPEC.build(WebhookConfig(), FakeContext()) as exporter:
        assert exporter.build(BATCH) == ()


@pytest.mark.parametrize(("status", "kind"), [(503, RetryableError), (400, PermanentError)])
async def test_answers_say_whether_to_try_again(status: int, kind: type[Exception]) -> None:
    with pytest.raises(kind, match=f"the webhook answered {status}: why"):
        await sent(WebhookConfig(url=Secret("https://x.example")), status)


async def test_a_url_that_is_none_is_named() -> None:
    assert list(WebhookConfig(url=Secret("ftp://x")).problems()) == [("url", "begins with http:// or https://")]
