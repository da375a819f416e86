"""Domain times, given by the twin as by Python."""

from unittest.mock import patch

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.clock import DAY
from pipeline.events import Event
from pipeline.native import HAS_NATIVE
from pipeline.runtime import domain_time
from pipeline.runtime.domain_time import DomainTime, Mode
from pipeline.signals import Sample

pytestmark = pytest.mark.skipif(not HAS_NATIVE, reason="dagtel-native is not installed")

NOW = 1_760_000_000_000_000_000
NEAR = st.integers(NOW - DAY, NOW + 2 * DAY)
TIMES = NEAR | st.sampled_from((NOW, NOW + DAY, 0)) | st.integers(-(2**70), 2**70)
EVENTS = st.builds(lambda at, record: Event(b"x", "LOG", "r", at, 10, "", "", "", record_ns=record), TIMES, TIMES)
ITEMS = EVENTS | st.builds(lambda at: Sample("m", "gauge", (), 1.0, at), NEAR)


class Odd(Event):
    """An event all the same."""


def stamped(items: list[Event | Sample], mode: Mode, start_ns: int) -> tuple[list[int], int, int]:
    copies = [type(item)(*(getattr(item, name) for name in item.__struct_fields__)) for item in items]
    time = DomainTime(mode)
    time.add("a", start_ns, stored_ns=start_ns)
    time.stamp("a", copies, NOW)
    times = [copy.now_ns if isinstance(copy, Event) else copy.at_ns for copy in copies]
    return times, time.of("a", 0), time.absurd


@given(st.lists(ITEMS, max_size=40), st.sampled_from(("system", "events")), NEAR)
def test_any_items_get_the_same_times(items: list[Event | Sample], mode: Mode, start_ns: int) -> None:
    ours = stamped(items, mode, start_ns)
    with patch.object(domain_time, "_TWIN", None):
        assert ours == stamped(items, mode, start_ns)


def test_plain_events_are_all_done_by_it_and_others_left() -> None:
    events = [Event(b"x", "LOG", "r", NOW, 10, "", "", "", record_ns=NOW - 60 + at) for at in range(50)]
    assert domain_time._TWIN is not None
    assert domain_time._TWIN.stamp(events, 0, NOW, False) == (50, NOW - 11)
    assert [event.now_ns for event in events] == [event.record_ns for event in events]
    odd = Odd(*msgspec.structs.astuple(events[0]))
    assert domain_time._TWIN.stamp([*events[:20], odd, *events], 0, NOW, False)[0] == 20
