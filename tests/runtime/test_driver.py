"""How the driver joins what waits, and when a checkpoint is due."""

from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.components import Position, Read, Rejected
from pipeline.runtime.driver import HEAVY, URGENT_S, Driver, joined


def read(items: str, next: int, behind: bool = True, bad: str = "") -> Read[str]:
    return Read("a/0", tuple(items), Position(next), [Rejected(b.encode(), "bad", b) for b in bad], behind, len(items))


def test_joined_reads_are_their_items_in_order_with_the_position_of_the_last() -> None:
    whole = joined([read("ab", 2, bad="x"), read("", 3), read("cd", 5, behind=False, bad="yz")])
    assert list(whole.items) == ["a", "b", "c", "d"]
    assert [bad.origin for bad in whole.rejected] == ["x", "y", "z"]
    assert (whole.source, whole.position, whole.behind, whole.size) == ("a/0", Position(5), False, 4)


def test_one_read_stays_as_it_is() -> None:
    one = read("ab", 2)
    assert joined([one]) is one


@pytest.mark.parametrize(
    ("waiting", "pause", "due"), [(0, 0.0, 5.0), (HEAVY - 1, 0.0, 5.0), (HEAVY, 0.0, URGENT_S), (HEAVY, 0.03, 0.3)]
)
def test_a_checkpoint_is_due_sooner_when_much_waits_and_barriers_take_a_tenth_at_most(
    waiting: int, pause: float, due: float
) -> None:
    clock = SimpleNamespace(monotonic=lambda: 100.0)
    driver: Any = object.__new__(Driver)
    driver._urgent, driver._pause, driver._interval_s, driver._last, driver._clock = False, pause, 5.0, 100.0, clock
    driver._sealing = SimpleNamespace(bytes=waiting)
    assert driver._due_in() == pytest.approx(due)
