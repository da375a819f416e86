"""The twin gives events the ids that Python gives them."""

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.events import Event
from pipeline.native import HAS_NATIVE
from processors.redelivery import _DIGITS, _MOST_STORAGE_ID, _RUNS, INSTANCE, STORAGE_ID, EventIds
from receivers.dagster_wire import decode

pytestmark = pytest.mark.skipif(not HAS_NATIVE, reason="dagtel-native is not installed")

DATA = Path(__file__).parent.parent / "data"
Header = tuple[str, bytes]


class Text(str):
    """A text of another class."""


def event(*headers: Header, run: str = "r", raw: bytes = b"x") -> Event:
    return Event(raw, "LOG", run, 1, 20, "job", "", "", headers=headers)


class Pair:
    """Both, with what they have at hand; which events the twin left to Python."""

    def __init__(self) -> None:
        self.python, self.native, self.left = EventIds(), EventIds(), list[Event]()
        self.python._twin = None
        self.native._any = self._counted(self.native._any)  # type: ignore[method-assign]

    def of(self, events: list[Event]) -> list[int]:
        self.left.clear()
        ids = self.native.of(events)
        assert ids == self.python.of(events)
        assert {type(id) for id in ids} <= {int}
        return ids

    def _counted(self, work: Callable[[Event], int]) -> Callable[[Event], int]:
        def counted(event: Event) -> int:
            self.left.append(event)
            return work(event)

        return counted


def bridged(storage_id: bytes, instance: bytes = b"prod") -> tuple[Header, Header]:
    return (STORAGE_ID, storage_id), (INSTANCE, instance)


@pytest.mark.parametrize("name", ["dagster-1.7", "dagster-1.10", "dagster-1.13", "mill-1.13"])
def test_recorded_events_have_the_same_and_python_is_not_asked(name: str) -> None:
    raws = (DATA / f"{name}.jsonl").read_bytes().splitlines()
    pair = Pair()
    for more in ((), (("dagster-event-type", b"LOG"),)):
        for turn in (1, -1):
            for first in (True, False):
                events = []
                for n, raw in enumerate(raws, 1):
                    headers = bridged(b"%d" % n)[::turn]
                    events.append(decode(raw, "k", n, 0, (*headers, *more) if first else (*more, *headers)))
                assert len(set(pair.of(events))) == len(events)
                assert pair.left == []
    assert len(set(pair.of([decode(raw, "k", 1) for raw in raws]))) == len(set(raws))
    assert len(pair.left) == len(raws)


@pytest.mark.parametrize("value", [b"0", b"007", b"12", b"9" * (_DIGITS - 1), b"0" * (_DIGITS - 1)])
def test_digits_are_the_twins(value: bytes) -> None:
    pair = Pair()
    assert pair.of([event(*bridged(value))])[0] - pair.of([event(*bridged(b"0"))])[0] == int(value)
    assert pair.left == []


@pytest.mark.parametrize(
    "value",
    [b"", b"abc", b"-1", b"+1", b"1.5", b"1_0", b" 7 ", "٣".encode(), b"\xb2", b"7\n", b"%d" % _MOST_STORAGE_ID,
     b"%d" % (_MOST_STORAGE_ID - 1), b"0" * 30 + b"7", b"9" * 5000],
)  # fmt: skip
def test_other_numbers_are_pythons(value: bytes) -> None:
    pair = Pair()
    odd = event(*bridged(value))
    pair.of([odd])
    assert pair.left == [odd]


def test_of_headers_of_one_name_the_first_counts_whatever_came_before() -> None:
    (one, prod), (two, staging) = bridged(b"1"), bridged(b"2", b"staging")
    twice = [event(one, two, staging, prod), event(staging, one, prod, two), event(two, two, prod), event(one, one)]
    ids = Pair().of(twice)
    for before in (event(prod, one), event(one, prod), event(("a", b""), ("b", b""), one, prod)):
        pair = Pair()
        pair.of([before])
        assert pair.of(twice) == ids


def test_what_is_not_as_typed_is_pythons() -> None:
    class Other(msgspec.Struct):
        headers: tuple[Header, ...]
        run_id: str
        raw: bytes = b"x"

    pair = Pair()
    odd = [
        event(*bridged(b"1"), run="\ud800"),
        event(*bridged(b"1", b"i" * 1000)),
        event(*bridged(b"1"), run="r" * 1000),
        event((Text(STORAGE_ID), b"1"), (INSTANCE, b"prod")),
        event(("\ud800", b"1"), *bridged(b"1")),
        Other(bridged(b"1"), "r"),
        event(),
    ]
    ids = pair.of(odd)  # type: ignore[arg-type]
    assert pair.left == odd
    assert ids[3] == ids[4] == ids[5]


def test_an_error_is_pythons_own() -> None:
    with pytest.raises(AttributeError):
        EventIds().of([1])  # type: ignore[list-item]


def test_more_runs_than_are_kept_at_hand_are_the_same() -> None:
    pair = Pair()
    events = [event(*bridged(b"5"), run=f"r{n}") for n in range(_RUNS + 10)]
    assert len(set(pair.of(events))) == len(events)
    assert pair.of(events[::-1])[-1] == pair.of(events[:1])[0]
    assert pair.left == []


def test_runs_and_instances_do_not_run_into_each_other() -> None:
    events = [event(*bridged(b"1", b"a" * n), run="a" * (9 - n)) for n in range(10)]
    assert len(set(Pair().of(events))) == 10


names = st.sampled_from([STORAGE_ID, INSTANCE, "dagster-run", Text(INSTANCE)]) | st.text(
    st.characters(exclude_categories=()), max_size=3
)
values = (
    st.integers(-5, 10**20).map(lambda n: b"%d" % n) | st.sampled_from([b"a", b"b", b"007"]) | st.binary(max_size=4)
)
events = st.builds(
    lambda headers, run, raw: event(*headers, run=run, raw=raw),
    st.lists(st.tuples(names, values), max_size=5)
    | st.tuples(values, values).flatmap(lambda pair: st.permutations([*bridged(*pair), ("other", b"x")])),
    st.text(st.characters(exclude_categories=()), max_size=3) | st.sampled_from(["r", "s"]),
    st.binary(max_size=3),
)


@settings(max_examples=400, deadline=None)
@given(st.lists(st.lists(events, max_size=20), max_size=3))
def test_arbitrary_headers_give_the_same(batches: list[list[Event]]) -> None:
    pair = Pair()
    for batch in batches:
        assert pair.of(batch) == [EventIds().of([each])[0] for each in batch]
