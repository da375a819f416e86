"""Levels counted by the twin are those that Python tells, one by one."""

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.events import CheckResult, Event, StepSucceeded
from pipeline.log_levels import BY_TYPE, count_levels, log_level
from pipeline.native import HAS_NATIVE, native
from receivers.dagster_wire import decode

pytestmark = pytest.mark.skipif(not HAS_NATIVE, reason="dagtel-native is not installed")

DATA = Path(__file__).parents[1] / "data"
VAIN = "Dependencies for step a were not met. Not executing."
SKIPPED = "Skipping step b due to skipped dependencies: a"
DETAILS = st.builds(
    CheckResult, st.just("a"), st.just("c"), st.booleans() | st.sampled_from([0, 1]),
    st.sampled_from(["WARN", "ERROR", "", "\ud800"]), st.just(False),
    st.none(), st.none(), st.just({}),
) | st.sampled_from([None, StepSucceeded(1.0)])  # fmt: skip
EVENTS = st.builds(
    Event,
    st.sampled_from([b"", b"{}"]),
    st.sampled_from(["LOG", "ASSET_CHECK_EVALUATION", "STEP_OUTPUT", "", "\ud800", *BY_TYPE]),
    st.just("r"),
    st.just(0),
    st.sampled_from([10, 40]) | st.integers(0, 100) | st.integers(),
    st.just("j"),
    st.just("s"),
    st.sampled_from(["", VAIN, SKIPPED, f"{VAIN} ", SKIPPED[1:], "\ud800"]) | st.text(max_size=3),
    st.just(""),
    DETAILS,
)


def counted(events: list[Event]) -> list[tuple[str, int]]:
    return list(Counter(log_level(event) for event in events if event.raw).items())


@pytest.mark.parametrize("name", ["dagster-1.13", "dagster-1.10", "dagster-1.7", "mill-1.13"])
def test_levels_of_recorded_events(name: str) -> None:
    lines = (DATA / f"{name}.jsonl").read_bytes().splitlines()
    events = [decode(line, "test", at) for at, line in enumerate(lines)]
    assert list(count_levels(events).items()) == counted(events)
    asked = list[Event]()
    native.LevelCounter(Event, CheckResult, BY_TYPE, lambda event: asked.append(event) or "").count(events)  # type: ignore[func-returns-value]
    assert not asked


@given(st.lists(EVENTS, max_size=20))
def test_levels_of_any_events(events: list[Event]) -> None:
    assert list(count_levels(events).items()) == counted(events)
