"""Conditions: what they may name, what is found before any data comes, and what an item's own faults become."""

from pathlib import Path

import pytest

from pipeline.events import Event
from pipeline.expression_names import ITEMS, VARIABLES
from pipeline.expressions import Condition, ExpressionError, signal_of
from pipeline.facts import ErrorInfo, RunFacts
from pipeline.lineage import Impact
from pipeline.outcomes import AssetGone
from pipeline.signals import Alert, HistogramValue, LogRecord, Sample, Signal, Span

EVENT = Event(
    b"", "STEP_FAILURE", "r1", 5, 40, "daily", "s", "it broke", assets=("raw/a",), outcomes=(AssetGone("a", (), 1),)
)
LOG = LogRecord(5, "ERROR", "STEP_FAILURE", "it broke", "e1", extra={"user": {"id": 7}})
SPAN = Span("t", "s", "", "RUN daily", 0, 2_500_000, {"http.status": 500}, (("service.name", "dagster"),), error="bad")
SAMPLE = Sample("took", "histogram", (("asset_name", "a"),), HistogramValue((1.0,), (1,), 3, 9.0))
ALERT = Alert(
    "asset_failure", "failing", "ERROR", "v1:x", 1, 1, 1, asset="raw/a", owners=("team:sales",),
    error=ErrorInfo("ValueError", "no"), impact=Impact({"core/b": 1}),
)  # fmt: skip


@pytest.mark.parametrize(
    ("source", "item"),
    [
        ('type == "STEP_FAILURE" && level >= 40 && "raw/a" in assets', EVENT),
        ('assets.exists(a, a.startsWith("raw/")) && outcomes.exists(o, o == "asset_gone")', EVENT),
        ('message.matches("^it .*") && size(tags) == 0 && partition == ""', EVENT),
        ('level == "ERROR" && extra.user.id == 7 && !derived', LOG),
        (
            'attributes["http.status"] == 500 && failed && duration_ms > 2.0 && resource["service.name"] == "dagster"',
            SPAN,
        ),
        ('name == "took" && labels.asset_name == "a" && value == 3.0', SAMPLE),
        ('owners.exists(o, o.startsWith("team:")) && error_type == "ValueError" && "core/b" in impact', ALERT),
    ],
)
def test_a_condition_speaks_of_the_items_own_fields(source: str, item: object) -> None:
    signal = signal_of(item)
    assert signal is not None
    assert Condition(source).holds(item, signal)
    assert not Condition(f"!({source})").holds(item, signal)


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("level ==", "`level ==` is no expression: mismatched input '<EOF>'"),
        ("", "is no expression"),
        ('levle == "DEBUG"', "there is no variable `levle`; did you mean `level`?"),
        ('job.startWith("a")', "there is no function `startWith`; did you mean `startsWith`?"),
        ("attempt + 1", "gives a int, not true or false"),
        ("job", "gives a str, not true or false"),
        ("type > 3", "No such overload"),
        ('type.matches("(")', "not a valid regex"),
        ('severity == "ERROR" && labels.a == "b"', "no signal has all of these variables: labels, severity"),
    ],
)
def test_what_can_be_seen_without_data_is_found_at_once(source: str, why: str) -> None:
    with pytest.raises(ExpressionError) as raised:
        Condition(source)
    assert why in str(raised.value)
    assert "\n" not in str(raised.value)


def test_names_are_checked_against_the_signals_that_are_meant() -> None:
    with pytest.raises(ExpressionError, match="there is no variable `outcomes`"):
        Condition('"asset_failed" in outcomes', Signal.ALERTS)


@pytest.mark.parametrize(
    ("source", "item"),
    [
        ('tags["team"] == "data"', EVENT),
        ("extra.missing == 1", LOG),
        ("extra.user.id.deeper == 1", LOG),
        ("extra.user", LOG),
        ("assets[3] == 'x'", EVENT),
        ('message == "x"', LogRecord(5, "INFO", "LOG", "\ud800", "e1")),
    ],
)
def test_what_only_an_item_can_show_is_an_error_of_that_item(source: str, item: object) -> None:
    condition, signal = Condition(source), signal_of(item)
    assert signal is not None
    with pytest.raises(ExpressionError):
        condition.holds(item, signal)


def test_a_condition_of_another_signal_is_an_error_too() -> None:
    with pytest.raises(ExpressionError, match="uses names that events do not have"):
        Condition('severity == "ERROR"').holds(EVENT, Signal.EVENTS)


def test_tags_come_from_the_enriched_run() -> None:
    event = Event(b"", "LOG", "r1", 5, 20, "daily", "", "", run=RunFacts({"team": "data"}, "shop", "2026-01-01"))
    assert Condition('tags.team == "data" && code_location == "shop" && partition == "2026-01-01"').holds(
        event, Signal.EVENTS
    )


def test_every_name_can_be_read_and_has_the_type_of_its_example() -> None:
    items: dict[Signal, object] = dict(zip(VARIABLES, (EVENT, LOG, SPAN, SAMPLE, ALERT), strict=True))
    for signal, variables in VARIABLES.items():
        for variable in variables.values():
            assert isinstance(variable.read(items[signal]), type(variable.example) if variable.example else object)
    assert set(ITEMS.values()) == set(VARIABLES) == set(Signal)


def test_the_page_lists_every_name_with_its_meaning() -> None:
    page = Path("docs/filter.md").read_text()
    for variables in VARIABLES.values():
        for name, variable in variables.items():
            assert f"| `{name}` |" in page
            assert variable.meaning in page
