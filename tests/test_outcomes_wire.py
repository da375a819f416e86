"""Events with outcomes as bytes: what comes back is what metrics and alerts would have read."""

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import DecodeError
from pipeline.events import CheckResult, Event, LogFields
from pipeline.facts import ErrorInfo, RunFacts
from pipeline.log_levels import log_level
from pipeline.outcomes import AssetMaterialized, InnerEnded, RunEnded, StepEnded
from pipeline.outcomes_wire import CUT, LARGE_EVENT, MOST_BYTES, MOST_EVENTS, decode_events, encode_events

ENDED = RunEnded("r", "j", "failure", 5, 1, error=ErrorInfo("E", "broke", frames=("a.py:f",), stack="…"))
STEP = StepEnded("r", "j", "s", 2, "retry", 5, 1, assets=("a/b",))
RUN = RunFacts(tags={"team": "x"}, code_location="prod", partition="2026-01-01", backfill="b")


def event(**more: Any) -> Event:
    given: dict[str, Any] = {
        "raw": b"{}",
        "type": "PIPELINE_FAILURE",
        "run_id": "r",
        "at_ns": 5,
        "level": 40,
        "job": "j",
        "step_key": "s",
        "message": "told",
        "source": "dagster.events/3",
        "offset": 42,
        "now_ns": 7,
        "attempt": 2,
        "assets": ("a/b",),
        "outcomes": (ENDED, STEP),
        "run": RUN,
    }
    return Event(**{**given, **more})


def back(*events: Event) -> list[Event]:
    return [found for record, _ in encode_events(events) for found in decode_events(record)]


def test_outcomes_run_facts_place_and_time_come_back() -> None:
    [came] = back(event())
    assert (came.outcomes, came.run, came.source, came.offset) == ((ENDED, STEP), RUN, "dagster.events/3", 42)
    assert (came.type, came.run_id, came.at_ns, came.job, came.step_key) == ("PIPELINE_FAILURE", "r", 5, "j", "s")
    assert (came.attempt, came.assets, came.level) == (2, ("a/b",), 40)
    assert came.record_ns == 7  # domain time goes on in the time of the first topic
    assert came.raw and came.now_ns == 0


def test_the_ledgers_own_carrier_stays_one_and_is_counted_as_no_record() -> None:
    [came] = back(event(raw=b"", type="RUN_UNFINISHED", offset=-1, source=""))
    assert came.raw == b"" and came.outcomes == (ENDED, STEP)


def test_what_only_traces_show_stays_behind() -> None:
    inner = InnerEnded("r", "j", "s", 1, "io", "io", 5, 1)
    assert [came.outcomes for came in back(event(outcomes=(inner, STEP)), event(outcomes=(inner,)))] == [(STEP,), ()]


def test_run_facts_travel_once_a_run_and_are_one_object_again() -> None:
    other = RunFacts(tags={"team": "y"})
    first, second, third = back(event(), event(run=other), event())
    assert first.run is third.run and first.run == RUN and second.run == other
    big = RunFacts(tags={"k": "v" * 1000})
    [(record, _)] = encode_events([event(run=big) for _ in range(50)])
    assert record.count(b"v" * 1000) == 1


CHECK = CheckResult("a", "c", False, "WARN", False, None, "long", {"n": 1})
LEVELS = st.sampled_from(
    [
        event(outcomes=(), type="LOG", level=level, message=message, run=None)
        for level in (10, 20, 25, 30, 40, 50, 7)
        for message in ("x", "Dependencies for step b failed: ['a']. Not executing.")
    ]
    + [event(outcomes=(), type=kind) for kind in ("STEP_START", "STEP_UP_FOR_RETRY", "UNKNOWN")]
    + [event(outcomes=outcomes, type="ASSET_CHECK_EVALUATION", detail=CHECK) for outcomes in ((), (STEP,))]
    + [event(outcomes=(), type="ASSET_CHECK_EVALUATION", detail=LogFields({}))]
)


@given(st.lists(LEVELS, max_size=30))
@settings(deadline=None)
def test_every_event_is_counted_with_the_level_that_it_had(events: list[Event]) -> None:
    assert sorted(log_level(came) for came in back(*events)) == sorted(map(log_level, events))


def test_log_records_come_behind_outcomes_so_that_they_push_no_time_ahead() -> None:
    logs = event(outcomes=(), type="LOG", now_ns=9)
    assert [came.record_ns for came in back(logs, event(now_ns=8))] == [8, 9]


def test_a_record_that_is_sent_again_has_the_ids_that_it_had_and_another_has_others() -> None:
    [(record, _)] = encode_events([event(), event(offset=43), event(outcomes=())])
    ids = [came.headers for came in decode_events(record)]
    assert [came.headers for came in decode_events(record)] == ids
    [(other, _)] = encode_events([event(), event(offset=44), event(outcomes=())])
    assert len({headers[0] for headers in ids + [came.headers for came in decode_events(other)]}) == 6
    assert all(0 <= int(headers[0][1]) < 2**62 for headers in ids)


def test_records_are_bounded_and_say_the_time_of_their_last_event() -> None:
    records = list(encode_events([event(now_ns=n) for n in range(1, 2 * MOST_EVENTS + 2)]))
    assert [at for _, at in records] == [MOST_EVENTS, 2 * MOST_EVENTS, 2 * MOST_EVENTS + 1]
    error = ErrorInfo("E", "broke", stack="x" * 100_000)
    large = msgspec.structs.replace(ENDED, error=error)
    sizes = [len(record) for record, _ in encode_events([event(outcomes=(large,)) for _ in range(20)])]
    assert len(sizes) > 5 and max(sizes) < MOST_BYTES + 110_000


def test_one_huge_event_has_its_texts_cut_and_keeps_its_figures() -> None:
    made = AssetMaterialized("r", "j", "s", 1, "a", None, 5, 4, True, {"n": 3, "text": "x" * 2 * LARGE_EVENT}, {})
    [came] = back(event(outcomes=(made,)))
    [outcome] = came.outcomes
    assert isinstance(outcome, AssetMaterialized)
    assert outcome.metadata["n"] == 3
    text = outcome.metadata["text"]
    assert isinstance(text, str) and text.endswith(CUT) and len(text) < 5000


@pytest.mark.parametrize(
    ("data", "said"),
    [(b"{}", "no record of outcomes"), (b"", "no record"), (msgspec.msgpack.encode([2, "new"]), "of version 2")],
)
def test_what_is_no_record_of_ours_is_refused_with_a_reason(data: bytes, said: str) -> None:
    with pytest.raises(DecodeError, match=said):
        decode_events(data)


def test_a_record_that_points_beyond_its_tables_is_refused() -> None:
    [(record, _)] = encode_events([event()])
    version, _, _, full, thin = msgspec.msgpack.decode(record)
    with pytest.raises(DecodeError, match="not in it"):
        decode_events(msgspec.msgpack.encode([version, [], [], full, thin]))
