"""Findings about what lasts: what is the same, and how spans are said."""

import pytest

from pipeline.clock import DAY, HOUR, MINUTE, SECOND
from pipeline.conditions import Conditions, Of, moment, span, url_problems
from pipeline.lineage import AssetFacts
from pipeline.signals import Links

CONDITIONS = Conditions()
NOW = 1_705_284_000 * SECOND


@pytest.mark.parametrize(
    ("ns", "said"),
    [
        (152_000_000, "152 ms"),
        (1_240_000_000, "1.24 s"),
        (59 * SECOND, "59 s"),
        (90 * SECOND, "1 min 30 s"),
        (2 * HOUR, "2 h"),
        (2 * HOUR + 15 * MINUTE + 9 * SECOND, "2 h 15 min"),
        (3 * DAY + HOUR, "3 d 1 h"),
        (0, "0 ms"),
    ],
)
def test_spans_are_said_as_people_do(ns: int, said: str) -> None:
    assert span(ns) == said


def test_figures_are_no_part_of_what_is_the_same_and_places_are() -> None:
    def printed(kind: str, of: Of) -> str:
        return CONDITIONS.failing(kind, "WARNING", "t", f"{kind} 17", of, NOW).fingerprint

    same = {printed("resource", Of(thing="disk /var/lib/a")) for _ in range(2)}
    others = {
        printed("resource", Of(thing="disk /var/lib/b")),
        printed("daemon", Of(thing="disk /var/lib/a")),
        printed("metric_anomaly", Of(asset="a", thing="latency")),
        printed("metric_anomaly", Of(asset="a", thing="size")),
        printed("metric_anomaly", Of(asset="a")),
        Conditions("prod").fingerprint("resource", Of(thing="disk /var/lib/a")),
    }
    assert len(same) == 1
    assert len(others) == 6
    assert not same & others


def test_partition_and_run_are_no_part_of_it() -> None:
    prints = {CONDITIONS.fingerprint("sla_breach", Of("a", partition=p, run=r)) for p, r in ((None, ""), ("x", "r1"))}
    assert len(prints) == 1


def test_a_recovery_has_the_fingerprint_of_what_it_ends() -> None:
    of = Of(job="nightly", run="r1")
    failing = CONDITIONS.failing("run_stuck", "ERROR", "Stuck", "long", of, NOW)
    over = CONDITIONS.recovered("run_stuck", of, NOW + HOUR)
    assert failing.fingerprint == over.fingerprint
    assert (over.state, over.job, over.run_id, over.now_ns) == ("recovered", "nightly", "r1", NOW + HOUR)


def test_the_facts_of_an_asset_travel_along_and_raise_no_warning() -> None:
    facts = AssetFacts(
        "a", owners=("team:x",), metadata={"alert_severity_override": "CRITICAL", "alert_channels": "slack"}
    )
    warning = CONDITIONS.failing("sla_breach", "WARNING", "t", "s", Of("a"), NOW, facts=facts)
    error = CONDITIONS.failing("sla_breach", "ERROR", "t", "s", Of("a"), NOW, facts=facts)
    assert (warning.severity, error.severity) == ("WARNING", "CRITICAL")
    assert (warning.owners, warning.channels) == (("team:x",), ("slack",))


def test_a_link_stands_where_there_is_something_to_put_into_it() -> None:
    linked = Conditions(dashboard_url="https://d/assets/{asset}?run={run_id}")
    full = linked.failing("slow_run", "WARNING", "t", "s", Of("raw/a b", run="r&1"), NOW)
    assert full.links == Links(dashboard="https://d/assets/raw/a%20b?run=r%261")
    assert linked.failing("slow_run", "WARNING", "t", "s", Of("raw/a"), NOW).links == Links()
    assert list(url_problems("url", "ftp://x"))
    assert not list(url_problems("url", ""))


def test_a_moment_beyond_the_calendar_stands_at_its_end() -> None:
    assert moment(NOW) == "2024-01-15 02:00 UTC"
    assert moment(2**62) == "2116-02-20 23:53 UTC"
    assert moment(-1) == "1970-01-01 00:00 UTC"
