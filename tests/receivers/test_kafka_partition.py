"""Records of one partition become reads."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import pytest

from pipeline.components import Position, Rejected
from pipeline.errors import DecodeError, PermanentError
from pipeline.events import Event
from receivers.kafka_options import OnRecreated
from receivers.kafka_partition import Partition
from receivers.kafka_positions import Start, begin_at, fingerprint


class Rec(NamedTuple):
    offset: int
    value: bytes | None = b"v"
    key: bytes | None = b"k"
    timestamp: int = 5
    headers: tuple[tuple[str, bytes], ...] = ()


def decode(
    raw: bytes,
    source: str,
    offset: int,
    record_ns: int = 0,
    headers: tuple[tuple[str, bytes], ...] = (),
    texts: dict[str, str] | None = None,
) -> Event:
    if raw == b"bad":
        raise DecodeError("no event")
    return Event(raw, "LOG", "", 0, 20, "", "", "", None, None, source, offset, record_ns, headers)  # type: ignore[arg-type]


def partition(start: Start, begin: int = 0, end: int = 10, on_recreated: OnRecreated = "fail") -> Partition:
    return Partition("t/0", start, begin, end, on_recreated, decode)


def test_records_become_events_and_the_position_names_the_last() -> None:
    read = partition(begin_at(0)).take([Rec(0), Rec(1, b"w", timestamp=7)], 2, 10)
    assert read is not None
    assert [(e.source, e.offset, e.record_ns) for e in read.items] == [("t/0", 0, 5_000_000), ("t/0", 1, 7_000_000)]
    assert read.position == Position(2, 7_000_000, fingerprint(b"k", b"w"))
    assert (read.behind, read.size) == (True, 2)


def test_at_the_known_end_it_is_not_behind() -> None:
    read = partition(begin_at(0)).take([Rec(0)], 1, 1)
    assert read is not None and not read.behind


def test_what_is_no_event_is_rejected_and_counted_into_the_position() -> None:
    read = partition(begin_at(0)).take([Rec(0, b"bad"), Rec(1, None), Rec(2)], 3, 3)
    assert read is not None
    assert [event.offset for event in read.items] == [2]
    assert read.rejected[0] == Rejected(b"bad", "no event", "t/0@0", "t/0", 0, 5_000_000)
    assert (read.rejected[1].body, read.rejected[1].origin) == (b"", "t/0@1")
    assert read.position.next == 3


class Asked(list[Rec]):
    """Notes which of its records are asked for."""

    def __init__(self, records: list[Rec]) -> None:
        super().__init__(records)
        self.places: list[int] = []

    def __getitem__(self, at: Any) -> Any:
        self.places.append(at)
        return super().__getitem__(at)

    def __iter__(self) -> Any:
        raise AssertionError("all are asked for")


def test_only_records_that_are_left_over_are_looked_at_and_all_keep_their_order() -> None:
    def all_but_some(records: Sequence[Any], source: str, /) -> tuple[list[Event | None], int, int]:
        found = [decode(b"v", source, at) if at in (0, 3, 4) else None for at in range(len(records))]
        return found, found.count(None), 3

    records = Asked([Rec(0), Rec(1, b"bad"), Rec(2, b"left"), Rec(3), Rec(4), Rec(5, b"left")])
    read = Partition("t/0", begin_at(0), 0, 10, "fail", decode, all_but_some).take(records, 6, 10)
    assert read is not None
    assert [event.offset for event in read.items] == [0, 2, 3, 4, 5]
    assert [bad.origin for bad in read.rejected] == ["t/0@1"]
    assert read.size == 3 + len(b"badleftleft")
    assert records.places == [1, 2, 5, -1]


def test_a_header_without_a_value_is_empty() -> None:
    record = Rec(0, headers=(("a", b"1"), ("b", None)))  # type: ignore[arg-type]
    read = partition(begin_at(0)).take([record], 1, 1)
    assert read is not None and read.items[0].headers == (("a", b"1"), ("b", b""))


def test_a_record_without_a_timestamp_has_none() -> None:
    read = partition(begin_at(0)).take([Rec(0, timestamp=-1)], 1, 1)
    assert read is not None and read.items[0].record_ns == 0


STORED = Position(3, 5_000_000, fingerprint(b"k", b"v"))


def test_the_record_fetched_again_is_compared_and_not_handed_out() -> None:
    part = partition(Start(STORED, 2, 2))
    assert part.seek_to == 2
    assert part.take([Rec(2)], 3, 10) is None
    read = part.take([Rec(3)], 4, 10)
    assert read is not None and [event.offset for event in read.items] == [3]


def test_a_compacted_last_record_is_fine() -> None:
    read = partition(Start(STORED, 2, 2)).take([Rec(4)], 5, 10)
    assert read is not None and [event.offset for event in read.items] == [4]


def test_another_last_record_is_another_topic() -> None:
    with pytest.raises(PermanentError, match="on_recreated"):
        partition(Start(STORED, 2, 2)).take([Rec(2, b"other")], 3, 10)


def test_another_topic_that_is_accepted_is_read_from_its_beginning() -> None:
    part = partition(Start(STORED, 2, 2), begin=1, on_recreated="accept")
    part.seek_to = None
    read = part.take([Rec(2, b"other"), Rec(3)], 4, 10)
    assert read is not None and read.items == () and read.position == Position(1)
    assert part.seek_to == 1


def test_an_end_before_the_position_is_another_topic_once_a_fetch_says_so() -> None:
    with pytest.raises(PermanentError, match=r"ends at offset 2, and 3 .*on_recreated"):
        partition(Start(STORED, 2, 2), end=2).advance(2, 2)
    part = partition(Start(STORED, 2, 2), end=2, on_recreated="accept")
    read = part.advance(2, 2)
    assert read is not None and read.position == Position(0)
    assert (part.seek_to, part.is_at_goal) == (0, False)


def test_an_end_that_only_the_offset_list_puts_before_the_position_is_not_believed() -> None:
    part = partition(Start(STORED, 2, 2), end=1)
    assert part.take([Rec(2)], 3, 3) is None
    assert part.is_at_goal


def test_the_goal_is_the_end_at_the_first_answer() -> None:
    part = partition(begin_at(0), end=1)
    assert not part.is_at_goal
    part.take([Rec(0)], 1, 2)
    assert not part.is_at_goal
    part.take([Rec(1)], 2, 9)
    assert part.is_at_goal


def test_markers_move_the_position_without_a_record() -> None:
    part = partition(begin_at(0), end=1)
    part.take([Rec(0)], 1, 3)
    read = part.advance(3, 3)
    assert read is not None
    assert (read.items, read.position.next, read.position.note, read.behind) == ((), 3, b"0", False)
    assert part.advance(3, 3) is None


def test_the_opening_says_where_it_begins_and_whether_more_is_there() -> None:
    read = partition(begin_at(4)).opening()
    assert (read.source, read.items, read.position, read.behind) == ("t/0", (), Position(4), True)


def test_a_record_may_hold_several_events_each_with_a_place_and_time_of_its_own() -> None:
    def several(raw: bytes, *_: object) -> list[Event]:
        times = [int(part) for part in raw.split()]
        return [Event(raw, "LOG", "", 0, 20, "", "", "", source="first/7", offset=at, record_ns=at) for at in times]

    part = Partition("t/0", begin_at(0), 0, 10, "fail", several)
    read = part.take([Rec(0, b"30 20"), Rec(1, b"25")], 2, 10)
    assert read is not None
    assert [(event.source, event.offset) for event in read.items] == [("first/7", 30), ("first/7", 20), ("first/7", 25)]
    assert read.position == Position(2, 30, fingerprint(b"k", b"25"))
    read = part.take([Rec(2, b"5")], 3, 10)
    assert read is not None and read.position.at_ns == 30
