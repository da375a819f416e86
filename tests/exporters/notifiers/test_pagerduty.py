"""PagerDuty: one incident a problem, against a server that keeps the Events API's rules."""

import logging
from collections.abc import Iterator

import msgspec
import pytest

from exporters.notifiers.pagerduty import SPEC, PagerDuty, PagerDutyConfig, dedup_key, events, severity
from pipeline.batch import WHOLE, Batch
from pipeline.components import Payload
from pipeline.errors import PermanentError, RetryableError
from pipeline.options import Secret
from pipeline.runtime.http import open_http
from pipeline.signals import Alert, AlertState, Member, Severity, Urgency
from pipeline.testing.context import FakeContext
from tests.integration import services

pytestmark = pytest.mark.anyio


@pytest.fixture
def server() -> Iterator[services.PagerDuty]:
    with (made := services.PagerDuty()).running():
        yield made


def alert(state: AlertState = "firing", **more: object) -> Alert:
    return msgspec.structs.replace(
        Alert("asset_failure", state, "ERROR", "v1:p", 0, 0, 0, title="Failed", asset="orders", key="v1:p#1"), **more
    )


async def told(server: services.PagerDuty, *alerts: Alert, key: str = services.ROUTING_KEY) -> None:
    async with open_http() as http:
        exporter = PagerDuty(PagerDutyConfig(routing_key=Secret(key), endpoint=server.url), http)
        for payload in exporter.build(Batch(alerts, WHOLE, 0)):
            assert key.encode() not in payload.body, "the key would lie in the state store"
            await exporter.send(payload)


async def test_a_problem_is_one_incident_from_its_first_failure_to_its_end(server: services.PagerDuty) -> None:
    states: list[AlertState] = ["firing", "digest", "escalated", "repeated", "resolved"]
    await told(server, *(alert(state) for state in states))
    assert server.log == [("v1:p#1", "trigger")] * 4 + [("v1:p#1", "resolve")]
    assert server.incidents == {"v1:p#1": "resolved"}


async def test_what_is_acknowledged_with_us_is_acknowledged_there(server: services.PagerDuty) -> None:
    await told(server, alert(), alert("repeated", acknowledged_by="ana"))
    assert server.incidents == {"v1:p#1": "acknowledged"}


async def test_a_digest_of_many_closes_those_of_its_problems_that_are_over(server: services.PagerDuty) -> None:
    over = Member("v1:p#1", "resolved", "asset_failure", "ERROR")
    await told(server, alert(), alert("digest", key="digest#1", reason="rate_limited", members=(over,)))
    assert server.incidents == {"v1:p#1": "resolved", "digest#1": "triggered"}


@pytest.mark.parametrize(
    ("of", "asked", "shown"),
    [
        ("INFO", "", "info"),
        ("WARNING", "", "warning"),
        ("ERROR", "", "warning"),  # the seed: low urgency
        ("CRITICAL", "", "critical"),
        ("ERROR", "high", "error"),
        ("CRITICAL", "low", "warning"),
        ("INFO", "high", "error"),
    ],
)
def test_the_severity_says_the_urgency(of: Severity, asked: Urgency, shown: str) -> None:
    assert severity(alert(severity=of, urgency=asked)) == shown


async def test_a_wrong_key_is_explained(server: services.PagerDuty) -> None:
    with pytest.raises(PermanentError, match=r"answered 400.*PHLO_ALERT_PAGERDUTY_KEY"):
        await told(server, alert(), key="wrong")


@pytest.mark.parametrize("fault", [services.Fault(500), services.Fault(503), services.CUT])
async def test_what_may_pass_is_tried_again(server: services.PagerDuty, fault: services.Fault) -> None:
    server.faults.append(fault)
    with pytest.raises(RetryableError):
        await told(server, alert())


async def test_it_waits_as_long_as_pagerduty_asks(server: services.PagerDuty) -> None:
    server.faults.append(services.busy(17))
    with pytest.raises(RetryableError) as raised:
        await told(server, alert())
    assert raised.value.retry_after == 17


async def test_an_event_that_came_twice_is_one_incident(server: services.PagerDuty) -> None:
    server.faults.append(services.LOST_ANSWER)
    with pytest.raises(RetryableError):
        await told(server, alert())
    await told(server, alert())
    assert server.incidents == {"v1:p#1": "triggered"}


async def test_without_a_key_it_is_off_and_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        async with SPEC.build(PagerDutyConfig(), FakeContext("pagerduty")) as exporter:
            assert exporter.build(Batch([alert()], WHOLE, 0)) == ()
    assert [r.message for r in caplog.records] == [
        "The PagerDuty notifier is off: routing_key is empty (PHLO_ALERT_PAGERDUTY_KEY is not set)."
    ]
    with pytest.raises(PermanentError, match="off"):
        await exporter.send(Payload(b"[]", 1))


def test_it_takes_only_what_is_meant_for_it() -> None:
    exporter = PagerDuty(PagerDutyConfig(routing_key=Secret("k")), FakeContext().http, "pagerduty/ops")
    meant = [(), ("pagerduty",), ("pagerduty/ops",), ("*",)]
    others = [("slack",), ("pagerduty/data",)]
    taken = exporter.build(Batch([alert(channels=c, key=str(c)) for c in (*meant, *others)], WHOLE, 0))
    assert len(taken) == len(meant)


def test_a_key_that_is_too_long_stays_one_of_its_own() -> None:
    one, two = dedup_key("k" * 300 + "1"), dedup_key("k" * 300 + "2")
    assert one != two
    assert len(one) <= 255
    assert events(alert(key=""))[0]["dedup_key"] == "v1:p"
