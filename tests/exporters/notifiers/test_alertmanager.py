"""Alertmanager: what it is told, and a real one (DAGTEL_TEST_ALERTMANAGER) that believes it."""

import json
import os
import time
from typing import Any

import msgspec
import pytest

from exporters.notifiers.alertmanager import SPEC, Alertmanager, AlertmanagerConfig
from pipeline.alert_json import iso_time
from pipeline.batch import WHOLE, Batch
from pipeline.clock import HOUR, SECOND
from pipeline.components import Payload
from pipeline.errors import PermanentError, RetryableError
from pipeline.http import Response
from pipeline.options import Duration
from pipeline.runtime.http import open_http
from pipeline.signals import Alert, AlertState, Member
from pipeline.testing.clock import VirtualClock
from pipeline.testing.context import FakeContext, FakeHttp
from tests.integration.conftest import get, until

pytestmark = pytest.mark.anyio
TWO = 1_705_284_000 * SECOND
CONFIG = AlertmanagerConfig(endpoints=("http://am.test/",), valid_for=Duration("6h"))


def alert(state: AlertState = "firing", **more: object) -> Alert:
    made = Alert("asset_failure", state, "ERROR", "v1:p", TWO, TWO, TWO, title="Failed", asset="orders", key="v1:p#1")
    return msgspec.structs.replace(made, **more)


class World:
    """An exporter on a clock, and what it posted."""

    def __init__(self, receipt: bytes | None = None, config: AlertmanagerConfig = CONFIG, status: int = 200) -> None:
        self.http = FakeHttp(lambda *_: Response(status, {}, b""))
        self.clock = VirtualClock(TWO)
        self.exporter = Alertmanager(config, FakeContext("alertmanager", http=self.http, receipt=receipt), self.clock)
        self.receipt = receipt

    async def tell(self, *alerts: Alert) -> list[dict[str, Any]]:
        """The alerts of the last call."""
        for payload in self.exporter.build(Batch(alerts, WHOLE, 0)):
            self.receipt = await self.exporter.send(payload)
        return self.posted[-1]

    @property
    def posted(self) -> list[list[dict[str, Any]]]:
        return [json.loads(body) for _, _, body, _ in self.http.requests]


def ends(posted: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(one["labels"]["severity"], one["endsAt"]) for one in posted]


async def test_what_fires_ends_by_itself_only_long_after_it_was_said_last() -> None:
    world = World()
    (posted,) = await world.tell(alert())
    assert world.http.requests[0][1] == "http://am.test/api/v2/alerts"
    assert posted["labels"] == {
        "alertname": "AssetFailure", "severity": "error", "asset": "orders", "fingerprint": "v1:p",
    }  # fmt: skip
    assert (posted["startsAt"], posted["endsAt"]) == ("2024-01-15T02:00:00Z", "2024-01-15T08:00:00Z")
    world.clock.advance(3600)
    await world.exporter.resend()
    assert ends(world.posted[-1]) == [("error", "2024-01-15T09:00:00Z")]


async def test_what_is_resolved_ends_now_and_is_not_said_again() -> None:
    world = World()
    await world.tell(alert())
    world.clock.advance(60)
    assert ends(await world.tell(alert("resolved"))) == [("error", "2024-01-15T02:01:00Z")]
    await world.exporter.resend()
    assert len(world.posted) == 2


async def test_a_severity_that_rises_ends_the_alert_that_it_was() -> None:
    world = World()
    await world.tell(alert())
    risen = await world.tell(alert("escalated", severity="CRITICAL"))
    assert ends(risen) == [("error", "2024-01-15T02:00:00Z"), ("critical", "2024-01-15T08:00:00Z")]


async def test_what_is_open_is_known_after_a_restart() -> None:
    first = World()
    await first.tell(alert())
    second = World(first.receipt)
    await second.exporter.resend()
    assert ends(second.posted[-1]) == [("error", "2024-01-15T08:00:00Z")]


async def test_members_of_a_digest_that_are_over_are_ended() -> None:
    world = World()
    await world.tell(alert())
    over = Member("v1:p#1", "resolved", "asset_failure", "ERROR")
    told = await world.tell(alert("digest", key="d#1", asset="", members=(over,)))
    assert [(one["labels"].get("asset"), one["endsAt"]) for one in told] == [
        ("orders", "2024-01-15T02:00:00Z"), (None, "2024-01-15T08:00:00Z"),
    ]  # fmt: skip


async def test_an_event_of_the_future_does_not_start_after_its_end() -> None:
    (posted,) = await World().tell(alert("resolved", first_ns=TWO + HOUR))
    assert posted["startsAt"] == posted["endsAt"]


async def test_only_so_many_are_said_again() -> None:
    world = World(config=msgspec.structs.replace(CONFIG, max_open=2))
    await world.tell(*(alert(key=f"v1:p#{n}") for n in range(4)))
    await world.exporter.resend()
    assert len(world.posted[-1]) == 2


async def test_one_of_a_cluster_is_enough() -> None:
    world = World(config=AlertmanagerConfig(endpoints=("http://a", "http://b")))
    world.http.answer = lambda method, url, body: Response(200 if url.startswith("http://b") else 503, {}, b"")
    await world.tell(alert())
    world.http.answer = lambda *_: Response(503, {}, b"")
    with pytest.raises(RetryableError):
        await world.tell(alert())


async def test_a_refusal_is_explained() -> None:
    with pytest.raises(PermanentError, match=r"Alertmanager answered 401 \(the credentials are missing or wrong\)"):
        await World(status=401).tell(alert())


async def test_it_is_off_without_an_endpoint_and_else_asks_to_be_called_again_and_again() -> None:
    context = FakeContext("alertmanager")
    async with SPEC.build(AlertmanagerConfig(), context) as exporter:
        assert exporter.build(Batch([alert()], WHOLE, 0)) == ()
        assert context.sides == {}
    with pytest.raises(PermanentError, match="off"):
        await exporter.send(Payload(b"{}", 1))
    async with SPEC.build(CONFIG, context):
        assert list(context.sides) == ["resend"]


def test_a_validity_that_one_lost_call_would_end_is_refused() -> None:
    config = AlertmanagerConfig(endpoints=("am",), valid_for=Duration("1m"))
    assert [path for path, _ in config.problems()] == ["endpoints[0]", "valid_for"]


# --- a real one ------------------------------------------------------------------------------------------------------


@pytest.fixture
def real() -> str:
    url = os.environ.get("DAGTEL_TEST_ALERTMANAGER")
    if not url:
        pytest.skip("DAGTEL_TEST_ALERTMANAGER not set: no real Alertmanager (tests/backends/all starts one)")
    return url


def known(url: str, fingerprint: str) -> list[dict[str, Any]]:
    """What is active there, of our problem."""
    found = get(f"{url}/api/v2/alerts", filter=f'fingerprint="{fingerprint}"')
    return [one for one in found if one["status"]["state"] == "active"]


@pytest.mark.integration
async def test_a_real_alertmanager_sees_it_begin_rise_and_end(real: str) -> None:
    fingerprint, now = f"v1:{time.time_ns()}", time.time_ns()
    base = alert(fingerprint=fingerprint, key=f"{fingerprint}#1", first_ns=now, last_ns=now, now_ns=now)
    config = AlertmanagerConfig(endpoints=(real,))

    async def tell(exporter: Alertmanager, **more: object) -> bytes | None:
        (payload,) = exporter.build(Batch([msgspec.structs.replace(base, **more)], WHOLE, 0))
        return await exporter.send(payload)

    async with open_http() as http:
        first = Alertmanager(config, FakeContext("alertmanager", http=http))
        await tell(first)
        (active,) = until("it is active", lambda: known(real, fingerprint))
        assert active["labels"]["severity"] == "error"
        assert active["startsAt"][:19] == iso_time(now)[:19]
        assert active["endsAt"] > iso_time(now + 20 * HOUR)
        receipt = await tell(first, state="escalated", severity="CRITICAL")
        until("the one before is over", lambda: len(known(real, fingerprint)) == 1)
        assert known(real, fingerprint)[0]["labels"]["severity"] == "critical"

        second = Alertmanager(config, FakeContext("alertmanager", http=http, receipt=receipt))
        await second.resend()
        assert len(known(real, fingerprint)) == 1
        await tell(second, state="resolved", severity="CRITICAL")
        until("it is over", lambda: not known(real, fingerprint))


@pytest.mark.integration
async def test_a_real_alertmanager_takes_hostile_text(real: str) -> None:
    fingerprint, now = f"v1:{time.time_ns()}", time.time_ns()
    hostile = alert(fingerprint=fingerprint, asset="<!channel>\x00\n{{ .Labels }} \ud800", group="\u202e", first_ns=now)
    async with open_http() as http:
        exporter = Alertmanager(AlertmanagerConfig(endpoints=(real,)), FakeContext("alertmanager", http=http))
        for state in ("firing", "resolved"):
            (payload,) = exporter.build(Batch([msgspec.structs.replace(hostile, state=state)], WHOLE, 0))
            await exporter.send(payload)
            if state == "firing":
                (found,) = until("it is active", lambda: known(real, fingerprint))
                assert found["labels"]["asset"] == "‹!channel› {{ .Labels }}"
