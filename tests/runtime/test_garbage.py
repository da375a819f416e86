"""Cycles are freed between two checkpoints."""

import gc
from collections.abc import Iterator
from weakref import ref

import pytest

from pipeline.runtime.garbage import DUE, Garbage


class Cycle:
    def __init__(self) -> None:
        self.itself = self


@pytest.fixture(autouse=True)
def threshold() -> Iterator[None]:
    """None comes by itself meanwhile."""
    before = gc.get_threshold()
    gc.set_threshold(10 * DUE, 1000, 1000)
    gc.collect()
    yield
    gc.set_threshold(*before)
    gc.enable()


def litter(count: int) -> ref[Cycle]:
    """So many cycles that nobody holds; one of them."""
    refs = [ref(Cycle()) for _ in range(count)]
    return refs[0]


def test_cycles_go_where_there_are_enough_of_them() -> None:
    one = litter(DUE + 1)
    Garbage().collect()
    assert one() is None


def test_few_are_left_for_later() -> None:
    one = litter(10)
    Garbage().collect()
    assert one() is not None


def test_what_was_in_use_at_collections_goes_later() -> None:
    garbage, held = Garbage(), Cycle()
    one = ref(held)
    for _ in range(20):  # it has come to the oldest generation by then
        litter(DUE + 1)
        garbage.collect()
    del held
    for _ in range(64):
        litter(DUE + 1)
        garbage.collect()
    assert one() is None


def test_nothing_is_collected_where_collecting_is_off() -> None:
    one = litter(DUE + 1)
    gc.disable()
    Garbage().collect()
    assert one() is not None
