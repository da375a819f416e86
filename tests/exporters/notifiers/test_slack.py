"""Slack's rules: what is sent by a webhook, and what each answer means."""

import json
import logging
import re

import msgspec
import pytest

from exporters.notifiers.slack import SPEC, Slack, SlackConfig
from exporters.notifiers.slack_words import WORDS
from pipeline.batch import WHOLE, Batch
from pipeline.components import Exporter, Payload
from pipeline.errors import PermanentError, RetryableError
from pipeline.http import Response
from pipeline.options import Secret
from pipeline.signals import Alert, AlertState, Edges
from pipeline.testing.context import FakeContext, FakeHttp

pytestmark = pytest.mark.anyio

URL = "https://hooks.slack.com/services/T0/B0/s3cr3t"


def alert(state: AlertState = "firing", problem: str = "p") -> Alert:
    return Alert("asset_failure", state, "ERROR", problem, 0, 0, 0, title="Asset Materialization Failed", asset="a")


def answering(status: int, body: bytes = b"ok", headers: dict[str, str] | None = None) -> FakeHttp:
    return FakeHttp(lambda *_: Response(status, headers or {}, body))


def slack(http: FakeHttp | None = None, url: str = URL) -> Exporter[Alert]:
    return Slack(SlackConfig(webhook_url=Secret(url), channel="#data-alerts"), http or answering(200))


async def test_each_alert_is_a_message_of_its_own_keyed_by_its_problem() -> None:
    http = answering(200)
    exporter = slack(http)
    payloads = exporter.build(Batch([alert(problem="a"), alert(problem="b")], WHOLE, 0))
    assert [(p.key, p.items) for p in payloads] == [("a", 1), ("b", 1)]
    assert await exporter.send(payloads[0]) is None
    ((method, url, body, headers),) = http.requests
    assert (method, url, headers["Content-Type"]) == ("POST", URL, "application/json; charset=utf-8")
    assert json.loads(body)["channel"] == "#data-alerts"


async def test_findings_without_dedup_are_sent_and_recoveries_and_edges_are_not() -> None:
    items = [alert("failing"), alert("recovered"), Edges("a", (), 0)]
    assert len(slack().build(Batch(items, WHOLE, 0))) == 1  # type: ignore[arg-type]  # whatever flows there


async def test_the_same_alert_gives_the_same_bytes() -> None:
    batch = Batch([alert()], WHOLE, 0)
    assert slack().build(batch) == slack().build(batch)


async def test_without_a_webhook_it_is_off_and_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        async with SPEC.build(SlackConfig(), FakeContext()) as exporter:
            assert exporter.build(Batch([alert()], WHOLE, 0)) == ()
            assert exporter.build(Batch([alert()], WHOLE, 0)) == ()
    assert [r.message for r in caplog.records] == [
        "The Slack notifier is off: webhook_url is empty (PHLO_ALERT_SLACK_WEBHOOK is not set)."
    ]
    with pytest.raises(PermanentError, match="off"):  # what was built before it was switched off
        await exporter.send(Payload(b"{}", 1))


async def test_a_rate_limit_is_waited_for_as_long_as_slack_says() -> None:
    with pytest.raises(RetryableError) as raised:
        await slack(answering(429, b"rate_limited", {"retry-after": "30"})).send(Payload(b"{}", 1))
    assert raised.value.retry_after == 30


@pytest.mark.parametrize("status", [500, 502, 503])
async def test_a_failure_of_slack_is_tried_again(status: int) -> None:
    with pytest.raises(RetryableError):
        await slack(answering(status)).send(Payload(b"{}", 1))


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, b"invalid_blocks"),
        (403, b"action_prohibited"),
        (404, b"no_service"),
        (410, b"channel_is_archived"),
        (403, b"invalid_token"),
    ],
)
async def test_a_refusal_is_final_and_says_why_and_what_it_means(status: int, body: bytes) -> None:
    word = body.decode()
    with pytest.raises(PermanentError, match=f"answered {status}: {word} .{WORDS[word][:20]}"):
        await slack(answering(status, body)).send(Payload(b"{}", 1))


async def test_a_refusal_that_looks_well_is_seen() -> None:
    with pytest.raises(PermanentError, match="invalid_auth"):
        await slack(answering(200, b'{"ok": false, "error": "invalid_auth"}')).send(Payload(b"{}", 1))


async def test_no_error_shows_the_webhook() -> None:
    with pytest.raises(RetryableError) as raised:
        await slack(FakeHttp()).send(Payload(b"{}", 1))
    assert "s3cr3t" not in str(raised.value)
    assert raised.value.__cause__ is None
    assert "s3cr3t" not in repr(SlackConfig(webhook_url=Secret(URL)))


def test_faults_of_the_configuration_are_named() -> None:
    config = SlackConfig(bot_token=Secret("xoxb"), mentions={"@a": "S0123ABCD", "@b": "<!channel>"}, api_url="slack")
    assert [path for path, _ in config.problems()] == ["channel", "api_url", "mentions.@b"]


async def test_only_names_of_an_escalation_that_the_configuration_maps_are_mentions() -> None:
    config = SlackConfig(webhook_url=Secret(URL), mentions={"@oncall": "S0123ABCD", "orders": "U0123ABCD"})
    escalated = msgspec.structs.replace(
        alert("escalated"), escalate_to=("@oncall", "<!here>"), asset="orders", owners=("@oncall", "<@U1>")
    )
    (payload,) = Slack(config, answering(200)).build(Batch([escalated], WHOLE, 0))
    text = payload.body.decode()
    assert text.count("<!subteam^S0123ABCD>") == 1
    assert not re.search(r"<@|<!here|<!channel", text)
