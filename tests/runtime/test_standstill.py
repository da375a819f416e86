"""That nothing moves any more is told once, found again while it lasts, and over when input is taken."""

from pipeline.runtime.standstill import AGAIN_S, Watch

AFTER = 60.0


def looks(watch: Watch, *seen: tuple[float, bool, bool]) -> list[tuple[float, str]]:
    """What is said, and when: (second, the brake is on, a source has gone on)."""
    said = [(at, watch.look(stopped, moved, at)) for at, stopped, moved in seen]
    return [(at, word) for at, word in said if word]


def test_it_is_told_once_it_has_lasted_and_over_when_input_is_taken() -> None:
    watch = Watch(AFTER, 0)
    assert looks(watch, (1, False, True)) == [(1, "recovered")], "what an earlier process told may be over"
    assert looks(watch, *((s, True, False) for s in range(2, 200))) == [(61, "failing")]
    assert watch.since_s == 1
    assert looks(watch, (200, False, True), (201, False, False)) == [(200, "recovered")]


def test_a_full_outbox_that_lets_a_little_through_is_no_standstill() -> None:
    watch = Watch(AFTER, 0)
    assert looks(watch, *((s, True, s % 30 == 0) for s in range(1, 500))) == []


def test_one_that_was_told_is_not_over_with_the_first_item_that_gets_through() -> None:
    watch = Watch(AFTER, 0)
    looks(watch, (0, False, False), (60, True, False))
    assert looks(watch, *((s, True, s % 30 == 0) for s in range(61, 500))) == []
    assert looks(watch, (500, False, False)) == [(500, "recovered")]


def test_one_that_lasts_is_found_again() -> None:
    watch = Watch(AFTER, 0)
    looks(watch, (0, False, False))
    found = looks(watch, *((s, True, False) for s in range(1, 2 * int(AGAIN_S))))
    assert found == [(60, "failing"), (60 + AGAIN_S, "failing")]


def test_a_process_that_begins_with_the_brake_on_tells_it() -> None:
    assert looks(Watch(AFTER, 0), *((s, True, False) for s in range(1, 62))) == [(60, "failing")]
