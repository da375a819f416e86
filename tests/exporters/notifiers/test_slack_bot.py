"""Slack with a bot's token: one message a problem and its thread, against a server that keeps the Web API's rules."""

from collections.abc import Iterator

import msgspec
import pytest

from exporters.notifiers.slack import SPEC, SlackBot, SlackConfig
from exporters.notifiers.slack_words import WORDS
from pipeline.batch import WHOLE, Batch
from pipeline.components import Exporter
from pipeline.errors import PermanentError, RetryableError
from pipeline.options import Secret
from pipeline.runtime.http import open_http
from pipeline.signals import Alert, AlertState, Member
from pipeline.testing.context import FakeContext
from tests.integration import services

pytestmark = pytest.mark.anyio


@pytest.fixture
def server() -> Iterator[services.Slack]:
    with (made := services.Slack()).running():
        yield made


def alert(state: AlertState = "firing", problem: str = "p", **more: object) -> Alert:
    made = Alert("asset_failure", state, "ERROR", problem, 0, 0, 0, title="Failed", asset=problem, key=f"{problem}#1")
    return msgspec.structs.replace(made, **more)


def config(server: services.Slack, **more: object) -> SlackConfig:
    made = SlackConfig(bot_token=Secret(services.TOKEN), channel="#data-alerts", api_url=f"{server.url}/api")
    return msgspec.structs.replace(made, **more)


class Life:
    """One life of the process: what it is given back, and what it leaves."""

    def __init__(self, server: services.Slack, receipt: bytes | None = None, **more: object) -> None:
        self.server, self.receipt, self.more = server, receipt, more

    async def tell(self, *alerts: Alert) -> None:
        async with open_http() as http:
            context = FakeContext("slack", http=http, receipt=self.receipt)
            async with SPEC.build(config(self.server, **self.more), context) as exporter:
                await send(exporter, *alerts)
                self.receipt = self.left

    @property
    def left(self) -> bytes | None:
        return _receipts[-1] if _receipts else None


_receipts: list[bytes | None] = []


async def send(exporter: Exporter[Alert], *alerts: Alert) -> None:
    for payload in exporter.build(Batch(alerts, WHOLE, 0)):
        _receipts.append(await exporter.send(payload))


@pytest.fixture(autouse=True)
def no_receipts() -> None:
    _receipts.clear()


def heading(message: services.Message) -> str:
    return str(message.body["blocks"][0]["text"]["text"])


async def test_a_problem_is_one_message_that_shows_how_it_stands_and_a_thread(server: services.Slack) -> None:
    await Life(server).tell(alert(), alert("digest", count=12), alert("escalated"), alert("resolved", count=72))
    (root,) = server.roots
    assert (heading(root), root.edits) == ("✅ Resolved: p", 3)
    assert [reply.thread for reply in server.replies] == [root.ts] * 3
    assert [heading(reply).splitlines()[0] for reply in server.replies] == [
        "*🔴 Still Failing: p*", "*🔴 Persistent Failure: p*", "*✅ Resolved: p*",
    ]  # fmt: skip
    assert [reply.body.get("reply_broadcast", False) for reply in server.replies] == [False, True, False]


async def test_the_thread_is_known_after_a_restart(server: services.Slack) -> None:
    life = Life(server)
    await life.tell(alert())
    await life.tell(alert("digest"))  # another process: all it has is the receipt
    assert len(server.roots) == len(server.replies) == 1


async def test_a_problem_that_comes_again_is_a_message_of_its_own(server: services.Slack) -> None:
    await Life(server).tell(alert(), alert("resolved"), alert(key="p#2"), alert("digest", "q"))
    assert [heading(root) for root in server.roots] == ["✅ Resolved: p", "🔴 Failed", "🔴 Still Failing: q"]


async def test_a_message_that_somebody_deleted_is_made_anew(server: services.Slack) -> None:
    life = Life(server)
    await life.tell(alert())
    server.messages.clear()
    await life.tell(alert("digest"), alert("resolved"))
    assert [heading(root) for root in server.roots] == ["✅ Resolved: p"]
    assert len(server.replies) == 1


async def test_a_reply_that_failed_is_not_repeated_by_what_came_before_it(server: services.Slack) -> None:
    async with open_http() as http:
        bot = SlackBot(config(server), FakeContext(), http)
        await send(bot, alert())
        server.faults += [services.Fault(200)._replace(status=500, done=True)]  # the update is made, its answer lost
        with pytest.raises(RetryableError):
            await send(bot, alert("digest"))
        server.faults += []
        await send(bot, alert("digest"))
    assert len(server.roots) == len(server.replies) == 1
    assert server.roots[0].edits == 2


async def test_only_so_many_messages_are_remembered_and_the_oldest_go_first(server: services.Slack) -> None:
    await Life(server, max_threads=2).tell(*(alert(problem=p) for p in "abc"), *(alert("digest", p) for p in "abc"))
    assert len(server.roots) == 3 + 3  # each digest that came anew pushed the next one out


async def test_a_digest_of_many_ends_the_messages_of_those_that_are_over(server: services.Slack) -> None:
    over = Member("a#1", "resolved", "asset_failure", "ERROR", asset="a")
    await Life(server).tell(alert(problem="a"), alert("digest", "many", reason="rate_limited", members=(over,)))
    assert [heading(root) for root in server.roots] == ["✅ Resolved: a", "🔴 Still Failing: many"]


async def test_a_rate_limit_is_waited_for(server: services.Slack) -> None:
    server.faults += [services.busy(23)]
    with pytest.raises(RetryableError) as raised:
        await Life(server).tell(alert())
    assert raised.value.retry_after == 23


@pytest.mark.parametrize(
    ("word", "more"), [("invalid_auth", {"bot_token": Secret("wrong")}), ("channel_not_found", {"channel": "#x"})]
)
async def test_a_refusal_says_what_to_do(server: services.Slack, word: str, more: dict[str, object]) -> None:
    with pytest.raises(PermanentError) as raised:
        await Life(server, **more).tell(alert())
    assert word in str(raised.value)
    assert WORDS[word] in str(raised.value)


async def test_what_a_webhook_left_unsent_goes_out_once_there_is_a_token_and_back(server: services.Slack) -> None:
    async with open_http() as http:
        hook_config = SlackConfig(webhook_url=Secret(f"{server.url}/hook"))
        async with (
            SPEC.build(hook_config, FakeContext(http=http, id="slack")) as hook,
            SPEC.build(config(server), FakeContext(http=http, id="slack")) as bot,
        ):
            (from_hook,) = hook.build(Batch([alert(problem="a")], WHOLE, 0))
            (from_bot,) = bot.build(Batch([alert(problem="b")], WHOLE, 0))
            await bot.send(from_hook)
            await hook.send(from_bot)
    assert [heading(root) for root in server.roots] == ["🔴 Failed", "🔴 Failed"]
