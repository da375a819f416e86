"""A heartbeat as a plain call."""

from typing import Any

import pytest

from exporters.notifiers.ping import SPEC, Ping, PingConfig
from pipeline.batch import WHOLE, Batch
from pipeline.errors import PermanentError, RetryableError
from pipeline.http import Response
from pipeline.options import Secret
from pipeline.signals import Alert, Edges
from pipeline.testing.context import FakeContext, FakeHttp

pytestmark = pytest.mark.anyio

BEAT = Alert("heartbeat", "firing", "INFO", "v1:b", 0, 0, 0, summary="dagtel is here.", channels=("ping",))
URL = Secret("https://watch.example/secret-id")


def ping(config: PingConfig, status: int = 200) -> tuple[Ping, FakeHttp]:
    http = FakeHttp(lambda *_: Response(status, {}, b"what?"))
    return Ping(config, http, "ping/outside"), http


async def test_a_heartbeat_is_a_call_and_nothing_else_is() -> None:
    exporter, http = ping(PingConfig(url=URL, headers={"X-Key": Secret("k")}))
    others: list[Any] = [
        Alert("asset_failure", "firing", "ERROR", "v1:x", 0, 0, 0),
        Alert("heartbeat", "firing", "INFO", "v1:b", 0, 0, 0, channels=("slack",)),
        Edges("a", (), 0),
    ]
    (payload,) = exporter.build(Batch([*others, BEAT], WHOLE, 0))
    await exporter.send(payload)
    ((method, url, body, headers),) = http.requests
    assert (method, url, body) == ("POST", URL.reveal(), b"dagtel is here.")
    assert headers == {"Content-Type": "text/plain; charset=utf-8", "X-Key": "k"}


async def test_a_get_has_no_body() -> None:
    exporter, http = ping(PingConfig(url=URL, method="GET"))
    (payload,) = exporter.build(Batch([BEAT], WHOLE, 0))
    await exporter.send(payload)
    assert http.requests == [("GET", URL.reveal(), b"", {})]


def test_heartbeats_that_wait_are_overtaken_by_newer_ones() -> None:
    exporter, _ = ping(PingConfig(url=URL))
    (payload,) = exporter.build(Batch([BEAT], WHOLE, 0))
    assert (payload.life, payload.rank) == ("heartbeat", 1)


@pytest.mark.parametrize(("status", "error"), [(404, PermanentError), (503, RetryableError)])
async def test_an_error_names_the_answer_and_never_the_url(status: int, error: type[Exception]) -> None:
    exporter, _ = ping(PingConfig(url=URL), status)
    (payload,) = exporter.build(Batch([BEAT], WHOLE, 0))
    with pytest.raises(error, match=f"the watcher answered {status}") as caught:
        await exporter.send(payload)
    assert "secret-id" not in str(caught.value)


async def test_without_a_url_it_is_off() -> None:
    async with SPEC.build(PingConfig(), FakeContext("ping")) as exporter:
        assert list(exporter.build(Batch([BEAT], WHOLE, 0))) == []


def test_what_is_no_url_is_named() -> None:
    assert [path for path, _ in PingConfig(url=Secret("hc-ping.com/x")).problems()] == ["url"]
