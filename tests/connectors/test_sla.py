"""Service levels as they are written, and how late is how bad."""

from typing import Any

import pytest

from connectors.freshness import FreshnessConfig
from connectors.sla import Level, SlaOption, Slas, Target, availability, percent, target_of
from pipeline.clock import HOUR, MINUTE, SECOND
from pipeline.config.decode import decode
from pipeline.errors import Problem
from pipeline.lineage import AssetFacts, Freshness
from pipeline.options import Duration
from pipeline.yaml_tree import compose

MIDNIGHT = 1_704_067_200 * SECOND  # 2024-01-01 00:00 UTC, a Monday


def decoded(text: str) -> tuple[FreshnessConfig | None, list[str]]:
    problems: list[Problem] = []
    tree, _ = compose(text, "x.yaml")
    config = decode(tree, FreshnessConfig, "connectors.freshness", problems)
    return config, [str(problem) for problem in problems]


def test_the_seeds_slas_are_read_as_they_are_written() -> None:
    config, problems = decoded(
        """
sla:
  dlt_glucose_entries: {freshness: "2 hours", availability: "99.9%"}
  fct_glucose_readings: {freshness: "1 hour", availability: "99.95%"}
"""
    )
    assert problems == []
    assert config is not None
    assert config.sla == {
        "dlt_glucose_entries": SlaOption(freshness=Duration("2h"), availability="99.9%"),
        "fct_glucose_readings": SlaOption(freshness=Duration("1h"), availability="99.95%"),
    }


@pytest.mark.parametrize(("written", "share"), [("99.9%", 0.999), ("99.9", 0.999), (99.95, 0.9995), (0.99, 0.99)])
def test_an_availability_is_a_share(written: str | float, share: float) -> None:
    assert availability(written) == share


@pytest.mark.parametrize("written", ["100%", "0%", "often", "nan", "-1", ""])
def test_what_is_no_availability_is_refused_with_an_example(written: str) -> None:
    with pytest.raises(ValueError, match=r"99\.9%"):
        availability(written)


def test_faults_name_their_place() -> None:
    _, slas = decoded("sla: {a: {freshness: 5s}, b: {availability: always}}")
    _, others = decoded("again: 1s\ncritical_after: 1")
    assert [problem.partition("connectors.")[2] for problem in (*slas, *others)] == [
        "freshness.sla.a.freshness: must be at least a minute, as in `2 hours`",
        "freshness.sla.b.availability: 'always' is no availability; write for example `99.9%` (below 100%: none has no "
        "errors)",
        "freshness.critical_after: must be more than 1 (times the target), or 0 for never",
        "freshness.again: must be at least a minute, or 0 for never",
    ]


def test_percentages_are_written_without_needless_zeros() -> None:
    assert [percent(share) for share in (0.999, 0.9995, 0.5, 0.98958)] == ["99.9%", "99.95%", "50%", "98.958%"]


def test_a_key_written_out_goes_before_patterns_of_which_the_first_holds() -> None:
    slas = Slas({"raw/*": SlaOption(availability="90%"), "*": SlaOption(availability="80%"), "raw/a": SlaOption()})
    assert slas.of("raw/a") == SlaOption()
    assert slas.of("raw/b") == SlaOption(availability="90%")
    assert slas.of("mart") == SlaOption(availability="80%")
    assert slas.named() == ["raw/a"]
    assert Slas({}).of("raw/a") is None


def facts(**policy: Any) -> AssetFacts:
    return AssetFacts("a", freshness=Freshness(**policy))


def test_at_the_target_is_a_warning_and_at_twice_critical() -> None:
    target = target_of(SlaOption(freshness=Duration("2h")), None, 2.0)
    assert target == Target((Level(2 * HOUR, "WARNING"), Level(4 * HOUR, "CRITICAL")), 2 * HOUR)


def test_dagsters_warning_comes_before_its_failure() -> None:
    target = target_of(None, facts(fail_s=7200, warn_s=3600), 2.0)
    assert target is not None
    assert target.levels == (Level(HOUR, "WARNING"), Level(2 * HOUR, "ERROR"), Level(4 * HOUR, "CRITICAL"))
    assert (target.promised_ns, target.source) == (2 * HOUR, "policy")


def test_what_is_written_takes_the_place_of_the_policy() -> None:
    target = target_of(SlaOption(freshness=Duration("1h")), facts(fail_s=7200), 0)
    assert target == Target((Level(HOUR, "WARNING"),), HOUR)
    assert target_of(SlaOption(availability="99%"), facts(fail_s=7200), 0) is not None
    assert target_of(SlaOption(availability="99%"), None, 0) is None


def test_a_deadline_wants_an_update_within_its_lower_bound() -> None:
    target = target_of(None, facts(deadline_cron="0 9 * * *", lower_bound_s=3600, timezone="UTC"), 2.0)
    assert target is not None
    nine = MIDNIGHT + 9 * HOUR
    assert target.reached(0, nine - 30 * MINUTE) == nine + 24 * HOUR, "it was in time for today's"
    assert target.reached(0, nine - 2 * HOUR) == nine, "it was too early to count for today's"
    assert target.reached(1, nine - 2 * HOUR) == nine + 24 * HOUR, "the second in a row"
    assert target.reached(2, nine) is None


def test_a_deadline_is_on_the_clocks_of_its_zone() -> None:
    target = target_of(None, facts(deadline_cron="0 9 * * *", timezone="Europe/Berlin"), 0)
    assert target is not None
    assert target.reached(0, MIDNIGHT) == MIDNIGHT + 8 * HOUR


def test_a_policy_that_cannot_be_read_is_an_error() -> None:
    with pytest.raises(ValueError, match="no cron expression"):
        target_of(None, facts(deadline_cron="at nine"), 0)
    with pytest.raises(ValueError, match="no time zone"):
        target_of(None, facts(deadline_cron="0 9 * * *", timezone="Moon/Crater"), 0)
