"""Alerts to Slack by an incoming webhook, as Block Kit.

Source: https://api.slack.com/reference/block-kit/blocks and https://api.slack.com/messaging/webhooks. Limits: header
150 characters, section text 3,000, button text 75, URL 3,000, 50 blocks. In mrkdwn only `&`, `<` and `>` need escaping:
without `<` there are no links, mentions or `<!channel>`; `verbatim` keeps Slack from making them out of plain text.
A webhook answers 200 with "ok", 429 with Retry-After (a message a second and channel), 4xx with a word that says why.
"""

import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final, Literal

import msgspec

from exporters.notifiers.message import Action, Message, cut, message
from exporters.notifiers.payloads import payloads, post
from pipeline.batch import Batch
from pipeline.components import Context, Exporter, ExporterSpec, Payload, Receipt
from pipeline.errors import PermanentError
from pipeline.facts import Json
from pipeline.http import HttpClient
from pipeline.options import Secret
from pipeline.signals import Alert, Signal

Style = Literal["links", "buttons"]

HEADER: Final = 150
SECTION: Final = 3000
BUTTON: Final = 75
URL: Final = 3000
FALLBACK: Final = 300

_HEADERS: Final = {"Content-Type": "application/json; charset=utf-8"}
_ESCAPES: Final = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})
_HALF_ENTITY: Final = re.compile(r"&[a-z]{0,3}$")
_encode = msgspec.json.Encoder().encode


class SlackConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Notifies by a Slack incoming webhook. Without `webhook_url` it is off, and says so once.

    Texts from events are escaped: they can neither mention anybody nor link anywhere.
    """

    webhook_url: Secret = Secret("")
    """The webhook, a secret: `${env:PHLO_ALERT_SLACK_WEBHOOK:-}`. Empty: off."""
    channel: str = ""
    """Sent as `channel`: `${env:PHLO_ALERT_SLACK_CHANNEL:-}`. Webhooks of an app post to their own channel whatever
    it says."""
    actions: Style = "links"
    """How [View Run] and the others look. An app that does not answer Slack's interactions shows a warning when a
    button is pressed, so links are the default."""


class Slack:
    """The exporter. A payload is the JSON of one message."""

    def __init__(self, config: SlackConfig, http: HttpClient) -> None:
        self._config, self._http = config, http

    def build(self, batch: Batch[Alert], /) -> Sequence[Payload]:
        """A message an alert; none while the notifier is off."""
        return payloads(batch.items, self._render) if self._config.webhook_url else ()

    async def send(self, payload: Payload, /) -> Receipt | None:
        """Post it. Slack's word for a refusal (`no_service`, `invalid_blocks`) is in the error."""
        url = self._config.webhook_url.reveal()
        if not url:
            raise PermanentError("Slack is off: webhook_url is empty")
        answer = await post(self._http, "Slack", "POST", url, payload.body, _HEADERS)
        if b'"ok":false' in answer.body.replace(b" ", b""):
            raise PermanentError(f"Slack refused the message: {answer.body[:300].decode('utf-8', 'replace')}")
        return None

    def _render(self, alert: Alert) -> bytes:
        said = message(alert)
        assert said is not None
        return render(said, self._config.channel, self._config.actions)


def render(said: Message, channel: str = "", actions: Style = "links") -> bytes:
    """The message as the body of a webhook call.

    The colour is an attachment's, so all but the header stands in one; `text` is what a phone's notification shows.
    """
    header: Json = {"type": "header", "text": {"type": "plain_text", "text": cut(said.heading, HEADER), "emoji": True}}
    body: dict[str, Json] = {
        "text": escaped(cut(f"{said.heading} · {_gist(said)}".rstrip(" ·"), FALLBACK), SECTION),
        "blocks": [header],
    }
    blocks = [*_sections(said), *_actions(said.actions, actions)]
    if blocks:
        body["attachments"] = [{"color": said.colour, "blocks": blocks}]
    return _encode({"channel": channel, **body} if channel else body)


def escaped(text: str, limit: int = SECTION) -> str:
    """Text from outside for mrkdwn: inert, and at most `limit` characters once escaped."""
    return _fitting(text.translate(_ESCAPES), limit)


def _fitting(marked: str, limit: int) -> str:
    if len(marked) <= limit:
        return marked
    return _HALF_ENTITY.sub("", marked[: limit - 1]).rstrip() + "…"


def _gist(said: Message) -> str:
    if said.fields:
        return said.fields[0][1]
    return said.text[0] if said.text else ""


def _sections(said: Message) -> list[Json]:
    error = said.error
    parts = [
        [f"*{name}:* {escaped(value)}" for name, value in said.fields],
        [escaped(line) for line in said.text],
        _error_lines(said) if error else [],
        ["*Downstream Impact:*", *(f"• {escaped(line)}" for line in said.impact)] if said.impact else [],
        [escaped(line) for line in said.closing],
    ]
    return [_section("\n".join(lines)) for lines in parts if lines]


def _error_lines(said: Message) -> list[str]:
    error = said.error
    assert error is not None
    lines = [f"*{escaped(error.label)}:* {escaped(error.text)}"]
    if error.file:
        lines.append(f"    File: {escaped(error.file)}")
    if error.line:
        lines.append(f"    Line: {error.line}")
    return lines


def _section(text: str) -> Json:
    return {"type": "section", "text": {"type": "mrkdwn", "text": _fitting(text, SECTION), "verbatim": True}}


def _actions(actions: tuple[Action, ...], style: Style) -> list[Json]:
    known = [action for action in actions if len(action.url) <= URL]
    if not known:
        return []
    return [_buttons(known)] if style == "buttons" else [_links(known)]


def _buttons(actions: Sequence[Action]) -> Json:
    buttons: list[Json] = [
        {"type": "button", "text": {"type": "plain_text", "text": cut(a.label, BUTTON)}, "url": a.url} for a in actions
    ]
    return {"type": "actions", "elements": buttons}


def _links(actions: Sequence[Action]) -> Json:
    text = ""
    for action in actions:  # whole links only: a cut one would show its markup
        link = f"<{action.url.translate(_ESCAPES).replace('|', '%7C')}|{escaped(action.label)}>"
        joined = f"{text}  ·  {link}" if text else link
        if len(joined) <= SECTION:
            text = joined
    return _section(text)


@asynccontextmanager
async def build(config: SlackConfig, context: Context) -> AsyncIterator[Exporter[Alert]]:
    if not config.webhook_url:
        context.log.info("The Slack notifier is off: webhook_url is empty (PHLO_ALERT_SLACK_WEBHOOK is not set).")
    yield Slack(config, context.http)


SPEC = ExporterSpec("slack", SlackConfig, build, takes=frozenset({Signal.ALERTS}), serial=True, urgent=True)
