"""Alertmanager's webhook: what its payloads become, who may call, and when a call counts as delivered."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from pipeline.addresses import is_loopback
from pipeline.clock import SECOND
from pipeline.components import Position
from pipeline.http import Asgi
from pipeline.options import Duration, Secret, Size
from pipeline.signals import Alert
from pipeline.testing.context import FakeContext
from pipeline.testing.intake import FakeIntake
from receivers.alertmanager import SPEC, AlertmanagerReceiverConfig

pytestmark = pytest.mark.anyio

STARTS = "2024-01-15T02:00:00.5Z"
STARTS_NS = 1_705_284_000 * SECOND + SECOND // 2
SOURCE = "webhook:alertmanager"


def one(
    status: str = "firing",
    name: str = "DatasetFreshness",
    asset: str = "orders",
    starts: str = STARTS,
    labels: Mapping[str, str] = {},
    **annotations: str,
) -> dict[str, Any]:
    said = {"summary": f"Dataset {asset} is stale", "description": f"{asset} not updated for 2.5h", **annotations}
    return {
        "status": status,
        "labels": {"alertname": name, "asset_name": asset, "severity": "warning", **labels},
        "annotations": said,
        "startsAt": starts,
        "endsAt": "2024-01-15T05:00:00Z" if status == "resolved" else "0001-01-01T00:00:00Z",
        "generatorURL": "http://prometheus.test/graph?g0.expr=x",
        "fingerprint": "c0ffee",
    }


def payload(*alerts: dict[str, Any], **more: Any) -> bytes:
    """As Alertmanager 0.34 sends it."""
    group = {
        "version": "4", "groupKey": '{}:{alertname="DatasetFreshness"}', "truncatedAlerts": 0, "status": "firing",
        "receiver": "dagtel", "groupLabels": {}, "commonLabels": {}, "commonAnnotations": {},
        "externalURL": "http://alertmanager.test", "alerts": list(alerts), **more,
    }  # fmt: skip
    return json.dumps(group).encode()


class Hook:
    """The webhook, and the intake behind it."""

    def __init__(self, app: Asgi, intake: FakeIntake) -> None:
        self.app, self.intake = app, intake

    async def call(self, body: bytes = b"", method: str = "POST", token: str = "", parts: int = 1) -> tuple[int, str]:
        size = max(1, -(-len(body) // parts))
        chunks = [body[at : at + size] for at in range(0, len(body), size)] or [b""]
        messages = [
            {"type": "http.request", "body": chunk, "more_body": at < len(chunks) - 1}
            for at, chunk in enumerate(chunks)
        ]
        sent: list[Any] = []
        headers = [(b"authorization", f"Bearer {token}".encode())] if token else []

        async def receive() -> Any:
            return messages.pop(0)

        async def send(message: Any) -> None:
            sent.append(message)

        await self.app({"type": "http", "method": method, "path": "/", "headers": headers}, receive, send)
        return sent[0]["status"], sent[1]["body"].decode().strip()

    async def taken(self, *alerts: dict[str, Any]) -> list[Alert]:
        """The findings of one call."""
        before = len(self.intake.items)
        assert await self.call(payload(*alerts)) == (200, "")
        return [item for item in self.intake.items[before:] if isinstance(item, Alert)]


@asynccontextmanager
async def hook(stored: Mapping[str, Position] | None = None, **options: Any) -> AsyncIterator[Hook]:
    config = AlertmanagerReceiverConfig(**options)
    context, intake = FakeContext("alertmanager"), FakeIntake(stored)
    async with SPEC.build(config, context) as receiver, anyio.create_task_group() as tasks:
        tasks.start_soon(receiver.run, intake)
        await intake.until(lambda: bool(intake.reads))
        await anyio.lowlevel.checkpoint()
        yield Hook(context.mounted[config.address, config.path], intake)
        tasks.cancel_scope.cancel()


async def test_an_alert_becomes_a_finding_with_its_words_and_its_place() -> None:
    async with hook() as it:
        (alert,) = await it.taken(one(labels={"check_name": "rows", "team": "data", "severity": "critical"}))
    assert (alert.kind, alert.state, alert.severity) == ("external", "failing", "CRITICAL")
    assert (alert.title, alert.summary) == ("Dataset orders is stale", "orders not updated for 2.5h")
    assert (alert.asset, alert.check, alert.owners) == ("orders", "rows", ("data",))
    assert (alert.first_ns, alert.last_ns, alert.now_ns) == (STARTS_NS, STARTS_NS, 0)
    assert alert.links.dashboard == "http://prometheus.test/graph?g0.expr=x"
    assert alert.tags["alertname"] == "DatasetFreshness"
    assert alert.tags["alertmanager/group"] == '{}:{alertname="DatasetFreshness"}'


async def test_its_end_is_a_recovery_of_the_same() -> None:
    async with hook() as it:
        (firing,) = await it.taken(one())
        (over,) = await it.taken(one("resolved"))
    assert (over.state, over.fingerprint, over.asset) == ("recovered", firing.fingerprint, "orders")
    assert over.last_ns == 1_705_294_800 * SECOND


async def test_what_is_the_same_is_the_labels_without_severity_and_replica() -> None:
    async with hook() as it:
        first, second, other = await it.taken(
            one(labels={"severity": "critical", "replica": "a"}),
            one(starts="2024-01-15T03:00:00Z", labels={"replica": "b"}),
            one(labels={"layer": "gold"}),
        )
    assert first.fingerprint == second.fingerprint != other.fingerprint


async def test_of_a_payload_with_news_only_the_news_are_told_and_one_without_is_a_repeat() -> None:
    async with hook() as it:
        assert len(await it.taken(one(asset="a"))) == 1
        assert [alert.asset for alert in await it.taken(one(asset="a"), one(asset="b"))] == ["b"]
        assert [alert.asset for alert in await it.taken(one(asset="a"), one(asset="b"))] == ["a", "b"]
        assert [alert.asset for alert in await it.taken(one("resolved", asset="a"), one(asset="b"))] == ["a"]


async def test_after_a_restart_it_knows_what_fires() -> None:
    async with hook() as it:
        await it.taken(one(asset="a"), one(asset="b"))
        stored = it.intake.stored
    async with hook(stored) as again:
        assert [(a.asset, a.state) for a in await again.taken(one(asset="a"), one("resolved", asset="b"))] == [
            ("b", "recovered")
        ]
        assert again.intake.stored[SOURCE].next == 2


async def test_the_end_of_what_never_fired_here_says_nothing() -> None:
    async with hook() as it:
        assert await it.taken(one("resolved")) == []


async def test_our_own_alerts_do_not_come_back_in() -> None:
    async with hook() as it:
        assert await it.taken(one(labels={"fingerprint": "v1:0123456789abcdef"}), one(name="Watchdog")) == []


async def test_without_annotations_the_name_is_the_title() -> None:
    bare = {"labels": {"alertname": "TargetDown"}, "startsAt": STARTS, "status": "firing"}
    async with hook() as it:
        (alert,) = await it.taken(bare)
    assert (alert.title, alert.severity, alert.asset) == ("TargetDown", "WARNING", "")


async def test_the_rules_dashboard_goes_before_ours_and_the_expression() -> None:
    async with hook(dashboard_url="https://d.example/assets/{asset}") as it:
        (ours,) = await it.taken(one())
        (theirs,) = await it.taken(one(asset="b", dashboard_url="https://grafana.example/d/1"))
        (odd,) = await it.taken(one(asset="c", dashboard_url="javascript:alert(1)"))
    assert ours.links.dashboard == "https://d.example/assets/orders"
    assert theirs.links.dashboard == "https://grafana.example/d/1"
    assert odd.links.dashboard == "https://d.example/assets/c"


async def test_a_token_that_is_missing_or_wrong_lets_nothing_in() -> None:
    async with hook(token=Secret("right")) as it:
        assert await it.call(payload(one())) == (401, "the token is missing or wrong")
        assert (await it.call(payload(one()), token="wrong"))[0] == 401
        assert it.intake.items == []
        assert (await it.call(payload(one()), token="right"))[0] == 200


async def test_what_is_no_payload_is_refused_and_kept_as_a_dead_letter() -> None:
    async with hook() as it:
        status, text = await it.call(b'{"alerts": [1]}')
        assert (status, text.startswith("no payload of Alertmanager's webhook")) == (400, True)
        (rejected,) = it.intake.reads[-1].rejected
        assert (rejected.body, rejected.origin) == (b'{"alerts": [1]}', SOURCE)
        assert (await it.call(payload(one())))[0] == 200, "and stops nothing"


async def test_other_calls_and_large_bodies_are_refused() -> None:
    async with hook(max_body=Size(500)) as it:
        assert (await it.call(method="GET"))[0] == 405
        assert (await it.call(b" " * 501, parts=4))[0] == 413
        assert it.intake.items == []


async def test_a_body_in_parts_is_one() -> None:
    async with hook() as it:
        assert (await it.call(payload(one()), parts=7))[0] == 200
        assert len(it.intake.items) == 1


async def test_a_call_counts_once_it_is_committed_and_not_before() -> None:
    class Uncommitted(FakeIntake):
        def committed(self) -> Mapping[str, Position]:
            return {}

    config = AlertmanagerReceiverConfig(commit_timeout=Duration("50ms"))
    context, intake = FakeContext("alertmanager"), Uncommitted()
    async with SPEC.build(config, context) as receiver, anyio.create_task_group() as tasks:
        tasks.start_soon(receiver.run, intake)
        await intake.until(lambda: bool(intake.reads))
        await anyio.lowlevel.checkpoint()
        it = Hook(context.mounted[config.address, config.path], intake)
        assert await it.call(payload(one())) == (503, "not committed in time; try again")
        tasks.cancel_scope.cancel()


async def test_before_it_runs_it_asks_to_try_again() -> None:
    context = FakeContext("alertmanager")
    async with SPEC.build(AlertmanagerReceiverConfig(), context):
        it = Hook(context.mounted["127.0.0.1:9095", "/alertmanager"], FakeIntake())
        assert (await it.call(payload(one())))[0] == 503


async def test_with_once_there_is_nothing_to_read() -> None:
    intake = FakeIntake(once=True)
    async with SPEC.build(AlertmanagerReceiverConfig(), FakeContext("alertmanager")) as receiver:
        with anyio.fail_after(5):
            await receiver.run(intake)
    assert [(read.items, read.behind) for read in intake.reads] == [((), False)]


async def test_what_fires_is_bounded() -> None:
    async with hook(max_open=2) as it:
        await it.taken(one(asset="a"), one(asset="b"), one(asset="c"))
        assert [alert.asset for alert in await it.taken(one(asset="c"), one(asset="a"))] == ["a"]


def test_beyond_this_machine_a_token_is_needed() -> None:
    open_to_all = AlertmanagerReceiverConfig(address="0.0.0.0:9095")
    assert [path for path, _ in open_to_all.problems()] == ["token"]
    assert not list(AlertmanagerReceiverConfig(address=":9095", token=Secret("t")).problems())
    assert [is_loopback(a) for a in ("127.0.0.1:1", "[::1]:1", "localhost:1", ":1", "[::]:1", "db.example:1")] == [
        True,
        True,
        True,
        False,
        False,
        False,
    ]


def test_its_address_is_known_before_it_is_built() -> None:
    assert SPEC.listens(AlertmanagerReceiverConfig(address=":9")) == (":9",)
