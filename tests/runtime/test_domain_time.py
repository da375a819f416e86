"""Domain time: the time that timers live in."""

from pipeline.batch import WHOLE
from pipeline.clock import DAY, HOUR, SECOND
from pipeline.events import Event
from pipeline.runtime.domain_time import DomainTime

NOW = 1_700_000_000 * SECOND


def event(record_ns: int, at_ns: int = 0) -> Event:
    return Event(b"", "LOG", "r", at_ns or record_ns, 20, "j", "", "", record_ns=record_ns)


def stamped(time: DomainTime, source: str, *events: Event) -> list[int]:
    time.stamp(source, events, NOW)
    return [e.now_ns for e in events]


def test_a_source_that_is_behind_lives_in_the_time_of_its_records() -> None:
    time = DomainTime("system")
    time.add("a")
    past = NOW - 7 * HOUR
    assert stamped(time, "a", event(past), event(past + SECOND), event(past)) == [past, past + SECOND, past + SECOND]
    time.read("a", True, NOW)
    assert time.of("a", NOW) == past + SECOND
    assert time.whole(NOW) == past + SECOND


def test_once_caught_up_it_lives_in_the_walls() -> None:
    time = DomainTime("system")
    time.add("a")
    stamped(time, "a", event(NOW - HOUR))
    time.read("a", False, NOW)
    assert time.of("a", NOW + SECOND) == NOW + SECOND
    assert time.whole(NOW + SECOND) == NOW + SECOND


def test_a_record_from_the_future_is_taken_as_now() -> None:
    time = DomainTime("system")
    time.add("a")
    assert stamped(time, "a", event(NOW + HOUR)) == [NOW]


def test_the_whole_takes_the_least_of_those_behind_and_never_goes_back() -> None:
    time = DomainTime("system")
    for source in "ab":
        time.add(source)
    assert time.whole(NOW) == 0
    stamped(time, "a", event(NOW - HOUR))
    stamped(time, "b", event(NOW - 2 * HOUR))
    assert time.whole(NOW) == NOW - 2 * HOUR
    assert time.limit("a") == NOW - 2 * HOUR
    assert time.limit("b") == NOW - HOUR
    time.read("b", False, NOW)
    assert time.whole(NOW) == NOW - HOUR
    assert time.limit("a") is None
    time.add("c", NOW - 9 * HOUR)
    assert time.whole(NOW) == NOW - HOUR
    time.remove("c")
    time.read("a", False, NOW)
    assert time.whole(NOW) == NOW


def test_with_the_clock_of_events_the_highest_event_time_holds() -> None:
    time = DomainTime("events")
    time.add("a")
    assert stamped(time, "a", event(0, 100), event(0, 50), event(0, 200)) == [100, 100, 200]
    time.read("a", False, NOW)
    assert time.of("a", NOW) == 200
    assert time.whole(NOW) == 200


def test_event_times_more_than_a_day_ahead_are_ignored_and_counted() -> None:
    time = DomainTime("events")
    time.add("a")
    assert stamped(time, "a", event(0, 100), event(0, NOW + 2 * DAY), event(0, NOW + DAY)) == [100, 100, NOW + DAY]
    assert time.absurd == 1


def test_with_the_clock_of_events_the_time_that_was_come_to_is_stored_and_goes_on_after_a_restart() -> None:
    before, after = DomainTime("events"), DomainTime("events")
    before.add("a")
    stamped(before, "a", event(0, 5 * SECOND), event(0, 9 * SECOND), event(0, 3 * SECOND), event(0, NOW + 2 * DAY))
    before.whole(NOW)
    stored = before.to_store({"a", WHOLE})
    assert stored == {"a": 9 * SECOND, WHOLE: 9 * SECOND}
    after.add_whole(stored[WHOLE])
    after.add("a", stored_ns=stored["a"])
    assert stamped(after, "a", event(0, 4 * SECOND)) == [9 * SECOND]


def test_the_whole_does_not_go_back_to_a_source_that_had_been_read_to_its_end() -> None:
    before, after = DomainTime("events"), DomainTime("events")
    for source, at in (("a", 9 * SECOND), ("b", 2 * SECOND)):
        before.add(source)
        stamped(before, source, event(0, at))
    before.read("b", behind=False, wall_ns=NOW)
    assert before.whole(NOW) == 9 * SECOND
    stored = before.to_store({"a", "b", WHOLE})
    after.add_whole(stored[WHOLE])
    after.add("a", stored_ns=stored["a"])
    after.add("b", stored_ns=stored["b"])
    assert after.whole(NOW) == 9 * SECOND


def test_with_the_systems_clock_the_positions_say_it_all() -> None:
    time = DomainTime("system")
    time.add("a")
    stamped(time, "a", event(9 * SECOND), event(3 * SECOND))
    assert time.to_store({"a", WHOLE}) == {}


def test_what_the_events_clock_stored_does_not_move_the_systems() -> None:
    time = DomainTime("system")
    time.add_whole(NOW + DAY)
    time.add("a", 3 * SECOND, stored_ns=NOW + DAY)
    assert time.of("a", NOW) == 3 * SECOND
    time.read("a", behind=False, wall_ns=NOW)
    assert time.whole(NOW) == NOW
