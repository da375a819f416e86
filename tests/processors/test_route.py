"""Where alerts go, and which runs pass."""

import msgspec
import pytest

from pipeline.batch import Batch
from pipeline.events import Event
from pipeline.signals import Alert, Edges
from pipeline.testing.context import FakeContext
from processors.route import SPEC, AlertRule, EventRule, RouteConfig

pytestmark = pytest.mark.anyio


def alert(asset: str = "raw/a", group: str = "", **fields: object) -> Alert:
    found = Alert(
        "asset_failure", "failing", "ERROR", "v1:x", 1, 1, 1, asset=asset, group=group, owners=("team:sales",)
    )
    return msgspec.structs.replace(found, **fields)


def event(run_id: str, job: str = "beat") -> Event:
    return Event(b"", "LOG", run_id, 1, 20, job, "", "")


async def routed(config: RouteConfig, *items: object) -> list[object]:
    assert list(config.problems()) == []
    async with SPEC.build(config, FakeContext("route")) as processor:
        return list((await processor.process(Batch(items, "s", 1))).items)


async def test_later_rules_go_over_earlier_ones_up_to_the_first_that_stops() -> None:
    config = RouteConfig(
        alerts=(
            AlertRule(when='asset.startsWith("raw/")', channels=("slack",), severity="WARNING"),
            AlertRule(when='group == "finance"', severity="CRITICAL", stop=True),
            AlertRule(when='kind == "asset_failure"', owners=("data",), channels=("email",)),
        )
    )
    assert await routed(config, alert(), alert("core/b", "finance"), alert(group="finance")) == [
        alert(
            severity="WARNING",
            channels=("email",),
            owners=("data",),
            said_by={"channels": "rule 3 of route", "severity": "rule 1 of route", "owners": "rule 3 of route"},
        ),
        alert("core/b", "finance", severity="CRITICAL", said_by={"severity": "rule 2 of route"}),
        alert(
            group="finance",
            severity="CRITICAL",
            channels=("slack",),
            said_by={"channels": "rule 1 of route", "severity": "rule 2 of route"},
        ),
    ]


async def test_owners_are_named_as_the_table_says_each_once() -> None:
    config = RouteConfig(owners={"team:sales": ("@oncall", "@lead"), "x": ("@lead",)})
    (found,) = await routed(config, alert(owners=("team:sales", "x", "me@example.com")))
    assert found == alert(owners=("@oncall", "@lead", "me@example.com"), said_by={"owners": "owners of route"})


async def test_a_rule_that_cannot_be_judged_does_not_hold(caplog: pytest.LogCaptureFixture) -> None:
    config = RouteConfig(alerts=(AlertRule(when='tags.team == "data"', channels=("slack",)),))
    assert await routed(config, alert(), alert(tags={"team": "data"})) == [
        alert(),
        alert(tags={"team": "data"}, channels=("slack",), said_by={"channels": "rule 1 of route"}),
    ]
    assert len(caplog.records) == 1


async def test_runs_pass_as_a_whole_and_about_as_many_as_asked_for() -> None:
    config = RouteConfig(events=(EventRule(when='job == "beat"', keep_ratio=0.25),))
    runs = [f"run-{n}" for n in range(2000)]
    events = [event(run) for run in runs for _ in range(2)] + [event("other", "daily"), event("")]
    passed = [e.run_id for e in await routed(config, *events) if isinstance(e, Event)]
    assert passed[-2:] == ["other", ""]
    assert passed.count(passed[0]) == 2
    assert 900 < len(passed) < 1100
    assert passed == [e.run_id for e in await routed(config, *events) if isinstance(e, Event)]


async def test_a_ratio_of_zero_leaves_out_all_and_one_nothing() -> None:
    assert (
        await routed(RouteConfig(events=(EventRule(when='job == "beat"', keep_ratio=0),)), event("r"), event("")) == []
    )
    assert len(await routed(RouteConfig(events=(EventRule(when="true", keep_ratio=1),)), event("r"))) == 1


async def test_what_is_neither_alert_nor_event_passes() -> None:
    edges = Edges("a", ("b",), 1)
    assert await routed(RouteConfig(alerts=(AlertRule(when="true", channels=("x",)),)), edges) == [edges]


def test_rules_that_cannot_be_used_are_problems() -> None:
    bad = RouteConfig(
        alerts=(AlertRule(when="outcomes"),),
        events=(EventRule(when='severity == "X"'), EventRule(when="true", keep_ratio=2)),
    )
    assert [option for option, _ in bad.problems()] == ["alerts", "events", "events"]
    assert [option for option, _ in RouteConfig().problems()] == [""]
