"""Where reading goes on, and whether the partition is still the one that was read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.components import Position
from pipeline.errors import PermanentError
from receivers.kafka_positions import Start, begin_at, fingerprint, go_on, last_offset, moved, overtaken, position_after

READ = Position(next=5, at_ns=1, crc=7)


def test_it_goes_on_by_comparing_the_last_record() -> None:
    assert go_on("t/0", READ, 0, 9, "fail") == Start(READ, fetch=4, check=4)


def test_an_expired_last_record_is_not_compared() -> None:
    assert go_on("t/0", READ, 5, 9, "fail") == Start(READ, fetch=5)


def test_a_position_before_any_record_has_nothing_to_compare() -> None:
    assert go_on("t/0", Position(5), 0, 9, "fail") == Start(Position(5), fetch=5)


def test_a_record_that_markers_follow_is_found_by_the_note() -> None:
    position = position_after(next_offset=8, last_offset=4, at_ns=1, crc=7)
    assert last_offset(position) == 4
    assert go_on("t/0", position, 0, 9, "fail") == Start(position, fetch=4, check=4)


def test_lost_records_name_the_option() -> None:
    with pytest.raises(PermanentError, match=r"t/0 .*\(2 are gone\).*`on_lost: earliest`"):
        go_on("t/0", READ, 7, 9, "fail")
    assert go_on("t/0", READ, 7, 9, "earliest") == begin_at(7)
    assert go_on("t/0", READ, 7, 9, "latest") == begin_at(9)


def test_an_end_before_the_position_names_the_option() -> None:
    with pytest.raises(PermanentError, match=r"t/0 .*`on_recreated: accept`"):
        overtaken("t/0", READ, 0, 4, "fail", "fail")
    assert overtaken("t/0", READ, 0, 4, "fail", "accept") == begin_at(0)


def test_retention_that_overtook_us_names_the_option() -> None:
    with pytest.raises(PermanentError, match=r"t/0 .*`on_lost: earliest`"):
        overtaken("t/0", READ, 7, 9, "fail", "fail")


@given(st.integers(0, 50), st.integers(0, 50), st.integers(0, 50), st.booleans())
def test_nothing_between_the_position_and_the_start_is_skipped_silently(
    begin: int, size: int, at: int, was_read: bool
) -> None:
    end = begin + size
    stored = Position(at, 1, 7) if was_read else Position(at)
    try:
        start = go_on("t/0", stored, begin, end, "fail")
    except PermanentError:
        assert begin > at
    else:
        assert start.position == stored
        assert begin <= start.fetch <= at
        assert start.fetch == at or start.fetch == start.check == at - 1


@given(st.integers(0, 50), st.integers(0, 50), st.integers(0, 50))
def test_markers_move_the_position_and_keep_the_last_record(last: int, gap: int, more: int) -> None:
    position = position_after(last + 1 + gap, last, 1, 7)
    later = moved(position, position.next + more)
    assert later.next == position.next + more
    assert last_offset(later) == last_offset(position) == last


def test_a_fingerprint_is_of_key_and_value() -> None:
    assert fingerprint(None, None) == 0
    assert fingerprint(b"k", b"v") == fingerprint(b"", b"kv") != fingerprint(b"k", b"w")
