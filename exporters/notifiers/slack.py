"""Alerts to Slack: by an incoming webhook, or with a bot's token by the Web API.

A webhook only adds messages. A bot makes one message a problem, which always shows how it stands, and tells what
happened in its thread: the first notification is posted, each later one replaces it (`chat.update`) and is added as a
reply; an escalation's reply is shown in the channel too. Which message is whose is given back by the runtime as the
exporter's receipt, so it is known after a restart.

Source: https://api.slack.com/messaging/webhooks and https://api.slack.com/web. A webhook answers 200 with "ok", 429
with Retry-After (a message a second and channel), 4xx with a word that says why; the Web API says so in the body.
"""

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final, Protocol

import msgspec

from exporters.notifiers.message import message
from exporters.notifiers.payloads import payloads, post
from exporters.notifiers.slack_blocks import Style, body, mention
from exporters.notifiers.slack_threads import Job, Threads, job
from exporters.notifiers.slack_words import RETRIED, WORDS
from pipeline.batch import Batch
from pipeline.components import Context, Exporter, ExporterSpec, Payload, Receipt
from pipeline.errors import PermanentError, RetryableError
from pipeline.facts import Json
from pipeline.http import HttpClient, retry_after
from pipeline.options import Secret
from pipeline.signals import Alert, Signal

_HEADERS: Final = {"Content-Type": "application/json; charset=utf-8"}
_encode = msgspec.json.Encoder().encode


class SlackConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Notifies by Slack. Without `webhook_url` and `bot_token` it is off, and says so once.

    With a bot token a problem is one message that shows how it stands, and a thread; with a webhook each notification
    is a message. Texts from events are escaped: they can neither mention anybody nor link anywhere.
    """

    webhook_url: Secret = Secret("")
    """An incoming webhook, a secret: `${env:PHLO_ALERT_SLACK_WEBHOOK:-}`."""
    bot_token: Secret = Secret("")
    """A bot's token (`xoxb-…`, scope `chat:write`), a secret: `${env:SLACK_BOT_TOKEN:-}`. It is used rather than
    the webhook, and needs `channel`."""
    channel: str = ""
    """Where to: `${env:PHLO_ALERT_SLACK_CHANNEL:-}`. Webhooks of an app post to their own channel whatever it says; a
    bot must be a member."""
    actions: Style = "links"
    """How [View Run] and the others look. An app that does not answer Slack's interactions shows a warning when a
    button is pressed, so links are the default."""
    mentions: dict[str, str] = {}
    """Who is mentioned in an escalation: names of `dedup.escalate_to` and Slack's ids of users (`U…`) or groups
    (`S…`), as in `"@oncall-data": S0123ABCD`. Nothing else in a message mentions anybody."""
    max_threads: int = 1000
    """With a bot: open problems whose message is remembered. Of the oldest ones beyond, later notifications are
    messages of their own."""
    api_url: str = "https://slack.com/api"
    """The Web API; `https://slack-gov.com/api` for GovSlack."""

    def problems(self) -> Iterator[tuple[str, str]]:
        """Path and message of each fault."""
        if self.bot_token and not self.channel:
            yield "channel", "is required with bot_token: a channel's name or id"
        if self.max_threads < 1:
            yield "max_threads", "must be at least 1"
        if not self.api_url.startswith(("http://", "https://")):
            yield "api_url", "begins with http:// or https://"
        for name, id in self.mentions.items():
            if not mention(id):
                yield f"mentions.{name}", "is no id of Slack; write one like `S0123ABCD` (a group) or `U0123ABCD`"


class Slack:
    """The exporter for a webhook. A payload is the JSON of one message."""

    def __init__(self, config: SlackConfig, http: HttpClient, id: str = "slack") -> None:
        self._config, self._http, self._id = config, http, id

    def build(self, batch: Batch[Alert], /) -> Sequence[Payload]:
        """A message an alert; none while the notifier is off."""
        return payloads(batch.items, self._id, self._render) if self._config.webhook_url else ()

    async def send(self, payload: Payload, /) -> Receipt | None:
        """Post it. Slack's word for a refusal (`no_service`, `invalid_blocks`) is in the error, and what it means."""
        url = self._config.webhook_url.reveal()
        if not url:
            raise PermanentError("Slack is off: webhook_url is empty")
        answer = await post(self._http, "Slack", "POST", url, _plain(payload.body), _HEADERS, meanings=WORDS)
        if b'"ok":false' in answer.body.replace(b" ", b""):
            raise PermanentError(f"Slack refused the message: {answer.body[:300].decode('utf-8', 'replace')}")
        return None

    def _render(self, alert: Alert) -> bytes:
        return rendered(alert, self._config)


class SlackBot:
    """The exporter for a bot. A payload is a `Job`: the message as it is to be shown now, and the reply."""

    def __init__(self, config: SlackConfig, context: "HasReceipt", http: HttpClient, id: str = "slack") -> None:
        self._config, self._http, self._id = config, http, id
        self._threads = Threads(context.receipt, config.max_threads)
        self._headers = {**_HEADERS, "Authorization": f"Bearer {config.bot_token.reveal()}"}

    def build(self, batch: Batch[Alert], /) -> Sequence[Payload]:
        """A job an alert."""
        return payloads(batch.items, self._id, self._render)

    async def send(self, payload: Payload, /) -> Receipt | None:
        """Post the first message of a problem; of a known one replace it, then reply in its thread.

        What can be made twice without a trace comes first, so a call that is tried again repeats no reply.
        """
        task = _job(payload.body, self._config)
        for key, shown in task.ended.items():
            if thread := self._threads.get(key):
                await self._replaced(thread, shown)
                self._threads.forget(key)
        thread = self._threads.get(task.key)
        if thread and await self._replaced(thread, task.message):
            channel, ts = thread
            broadcast: dict[str, Json] = {"reply_broadcast": True} if task.loud else {}
            await self._call("chat.postMessage", {"channel": channel, "thread_ts": ts, **task.reply, **broadcast})
        else:
            answer = await self._call("chat.postMessage", {"channel": self._config.channel, **task.message})
            if answer.ts and answer.channel:
                self._threads.remember(task.key, (answer.channel, answer.ts))
        if task.last:
            self._threads.forget(task.key)
        return self._threads.receipt()

    async def _replaced(self, thread: tuple[str, str], shown: Mapping[str, Json]) -> bool:
        """Replace a message. False: it is no longer there, or can no longer be changed."""
        channel, ts = thread
        try:
            await self._call("chat.update", {"channel": channel, "ts": ts, "attachments": [], **shown})
        except _GoneError:
            return False
        return True

    async def _call(self, method: str, body: Mapping[str, Json]) -> "_Answer":
        """One call of the Web API. Raises RetryableError, PermanentError, or _GoneError: the message is not there."""
        url = f"{self._config.api_url}/{method}"
        response = await post(self._http, "Slack", "POST", url, _encode(body), self._headers, meanings=WORDS)
        try:
            answer = msgspec.json.decode(response.body, type=_Answer)
        except msgspec.MsgspecError as error:
            raise RetryableError("Slack answered 200, but not as its Web API does") from error
        if answer.ok:
            return answer
        if answer.error in _GONE and method == "chat.update":
            raise _GoneError
        meaning = WORDS.get(answer.error, "")
        said = f"Slack refused {method}: {answer.error or 'no reason given'}" + (f" ({meaning})" if meaning else "")
        if answer.error in RETRIED:
            raise RetryableError(said, retry_after(response.headers))
        raise PermanentError(said)

    def _render(self, alert: Alert) -> bytes:
        return _encode(job(alert, self._config.actions, self._config.mentions))


_GONE: Final = frozenset({"message_not_found", "cant_update_message", "edit_window_closed", "channel_not_found"})


class _GoneError(Exception):
    """The message to be changed cannot be."""


class _Answer(msgspec.Struct, frozen=True):
    ok: bool = False
    error: str = ""
    ts: str = ""
    channel: str = ""


class HasReceipt(Protocol):
    """What the bot needs of its context."""

    @property
    def receipt(self) -> Receipt | None: ...


def rendered(alert: Alert, config: SlackConfig) -> bytes:
    """The body of a webhook call."""
    said = message(alert)
    assert said is not None
    made = body(said, config.actions, config.mentions)
    return _encode({"channel": config.channel, **made} if config.channel else made)


def _job(stored: bytes, config: SlackConfig) -> Job:
    """The job as it was stored. What a webhook left unsent before the token came is a message without a thread."""
    task = msgspec.json.decode(stored, type=Job)
    return task if task.message else Job("", msgspec.json.decode(stored, type=dict[str, Json]), {}, last=True)


def _plain(stored: bytes) -> bytes:
    """A webhook's body. What a bot left unsent before it became a webhook is its message."""
    task = msgspec.json.decode(stored, type=Job)
    return _encode(task.message) if task.message else stored


@asynccontextmanager
async def build(config: SlackConfig, context: Context) -> AsyncIterator[Exporter[Alert]]:
    if config.bot_token:
        yield SlackBot(config, context, context.http, context.id)
        return
    if not config.webhook_url:
        context.log.info("The Slack notifier is off: webhook_url is empty (PHLO_ALERT_SLACK_WEBHOOK is not set).")
    yield Slack(config, context.http, context.id)


SPEC = ExporterSpec("slack", SlackConfig, build, takes=frozenset({Signal.ALERTS}), serial=True, urgent=True)
