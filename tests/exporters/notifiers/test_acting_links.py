"""Each channel shows [Retry], [Acknowledge] and [Silence 1h], whole; none of them is where a click goes by default."""

import email
import email.policy

import msgspec
import pytest

from exporters.notifiers import console, slack_blocks
from exporters.notifiers.alertmanager import _alert
from exporters.notifiers.mail import Envelope, mail
from exporters.notifiers.message import message
from exporters.notifiers.pagerduty import events
from pipeline.action_links import Act, Signer
from pipeline.facts import ErrorInfo
from pipeline.signals import Alert, Links

NOW = 1_795_435_200
SIGNER = Signer(["k" * 32])
URLS = {
    label: "https://dagtel.example.com/act/" + SIGNER.token(Act(deed, NOW, "v1:ab#1", "raw/orders — ünïcode", "r" * 36))
    for label, deed in (("Retry", "retry"), ("Acknowledge", "acknowledge"), ("Silence 1h", "silence"))
}
ALERT = Alert(
    "asset_failure",
    "firing",
    "ERROR",
    "v1:ab",
    NOW * 10**9,
    NOW * 10**9,
    NOW * 10**9,
    title="Asset Materialization Failed",
    asset="raw/orders",
    run_id="r" * 36,
    error=ErrorInfo("ValueError", "no"),
    key="v1:ab#1",
    links=Links(retry=URLS["Retry"], acknowledge=URLS["Acknowledge"], silence=URLS["Silence 1h"]),
)


def said_by(channel: str) -> str:
    said = message(ALERT)
    assert said is not None
    match channel:
        case "slack links":
            return msgspec.json.encode(slack_blocks.body(said)).decode()
        case "slack buttons":
            return msgspec.json.encode(slack_blocks.body(said, "buttons")).decode()
        case "console":
            return console.render(said)
        case "pagerduty":
            return msgspec.json.encode(events(ALERT)).decode()
        case "alertmanager":
            return msgspec.json.encode(_alert(ALERT, {})).decode()
    raw = mail(ALERT, Envelope("dagtel <a@example.com>", ("b@example.com",), "same", "[dagtel]"))
    whole = email.message_from_bytes(raw, policy=email.policy.default)
    return "\n".join(part.get_content() for part in whole.walk() if not part.is_multipart())


@pytest.mark.parametrize("channel", ["slack links", "slack buttons", "console", "pagerduty", "alertmanager", "email"])
def test_every_channel_shows_whole_links_that_act(channel: str) -> None:
    shown = said_by(channel)
    for label, url in URLS.items():
        assert url in shown
        name = {"Silence 1h": "silence"}.get(label, label.lower())
        assert f"{name}_url" in shown if channel == "alertmanager" else label in shown


def test_the_incidents_own_link_never_acts() -> None:
    """PagerDuty shows it as "view in client"."""
    (event,) = events(ALERT)
    assert "client_url" not in event
    looked = msgspec.structs.replace(ALERT, links=msgspec.structs.replace(ALERT.links, run="https://dagster/runs/r"))
    assert events(looked)[0]["client_url"] == "https://dagster/runs/r"
