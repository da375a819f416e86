"""The twin of enrichment sets on events what Python sets on them, and asks for a run's facts when Python does."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import anyio
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.batch import Batch
from pipeline.events import Event, RunQueued, StepSucceeded
from pipeline.facts import RunFacts
from pipeline.lineage import Catalog
from pipeline.native import HAS_NATIVE
from pipeline.run_rows import HEADER, RunRow, encode_header
from pipeline.testing.context import MemoryState
from processors import enrichment
from processors.enrichment import Enrichment
from processors.enrichment_runs import ENDS, KnownRuns
from receivers.dagster_wire import decode

pytestmark = pytest.mark.skipif(not HAS_NATIVE, reason="dagtel-native is not installed")

DATA = Path(__file__).parent.parent / "data"
ROWS = [encode_header(RunRow({"team": team}, code_location="shop")) for team in "abc"]
BEFORE = RunFacts({"who": "another process"})
Call = tuple[str, str, bytes]


class Text(str):
    """A text of another class."""


class Runs(KnownRuns):
    """Tells what it was asked."""

    def __init__(self, limit: int, asks: bool) -> None:
        super().__init__(MemoryState(), limit, asks=asks)
        self.asked: list[Call] = []

    def facts(self, event: Event, header: bytes) -> RunFacts | None:
        self.asked.append((event.run_id, event.type, header))
        return super().facts(event, header)


class Assets:
    """As much of KnownAssets as is asked."""

    catalog = Catalog({})


class Twin:
    """The twin, and how many of the events it did."""

    def __init__(self) -> None:
        self.twin, self.done = enrichment._twin, 0

    def enrich(self, *args: Any) -> int:
        assert self.twin is not None
        done = self.twin.enrich(*args)
        self.done += done
        return done


def enriched(
    batches: Sequence[Sequence[Event]], twin: Twin | None, *, limit: int, headers: bool, asks: bool
) -> tuple[list[Event], list[Call], list[int], list[str]]:
    """The events, what was asked, which events' facts are one object, and which runs are still to be looked up."""
    runs = Runs(limit, asks)
    processor = Enrichment(runs, Assets(), headers=headers)  # type: ignore[arg-type]
    found: list[Event] = []
    with patch.object(enrichment, "_twin", twin):
        for batch in batches:
            items = [msgspec.structs.replace(event) for event in batch]
            assert anyio.run(processor.process, Batch(items, "s", 0)).items is items
            found += items
    assert all(event.catalog is Assets.catalog for event in found)
    places = {id(event.run): place for place, event in enumerate(found)}
    return found, runs.asked, [places[id(event.run)] for event in found], runs.wanted(100)


def assert_same(*batches: Sequence[Event], limit: int = 100, headers: bool = True, asks: bool = False) -> int:
    """How many the twin did."""
    twin = Twin()
    told = enriched(batches, None, limit=limit, headers=headers, asks=asks)
    native = enriched(batches, twin, limit=limit, headers=headers, asks=asks)
    assert native[0] == told[0]
    assert native[3] == told[3]
    if twin.done == len(told[0]):
        assert native[1:3] == told[1:3]
    return twin.done


def event(
    run: str = "r", *headers: tuple[str, bytes], type: str = "LOG", detail: Any = None, facts: RunFacts | None = None
) -> Event:
    return Event(b"", type, run, 0, 20, "job", "", "", detail=detail, headers=headers, run=facts)


def told(run: str, row: int) -> Event:
    return event(run, ("dagtel-instance", b"i"), (HEADER, bytes(bytearray(ROWS[row]))))


@pytest.mark.parametrize("name", ["dagster-1.7", "dagster-1.10", "dagster-1.13", "mill-1.13"])
@pytest.mark.parametrize("asks", [False, True])
def test_recorded_events_are_the_twins(name: str, asks: bool) -> None:
    raws = (DATA / f"{name}.jsonl").read_bytes().splitlines()
    for row in (None, ROWS[0]):
        headers = (("dagtel-instance", b"i"), *([] if row is None else [(HEADER, row)]))
        events = [decode(raw, "k", n, 0, headers) for n, raw in enumerate(raws)]
        assert assert_same(events[:100], events[100:], asks=asks) == len(events)
        assert assert_same(events, asks=asks, headers=False, limit=2) == len(events)


def test_it_does_what_is_common() -> None:
    common = [
        told("r", 0), told("r", 0), told("r", 1), event("r"), told("s", 2), told("r", 1), event(""),
        event("", (HEADER, b"x")),
        event("t", (HEADER, ROWS[0]), ("mine", b"")), event("t", (HEADER, ROWS[0]), ("m", b""), (HEADER, ROWS[1])),
        event("t", (HEADER, ROWS[0]), ("m", b""), (HEADER, ROWS[1]), ("n", b"")), event("u", (HEADER, b"no JSON")),
        event("none", facts=BEFORE), event("none", facts=BEFORE), event("r", facts=BEFORE),
        event("q", type="PIPELINE_ENQUEUED", detail=RunQueued("shop", "repo", "p")), event("q"),
        event("q", type="PIPELINE_ENQUEUED", detail=RunQueued("shop", "repo", "p")),
        event("r", type="\ud800"), event("r", type="PIPELINE_SUCCESS"), event("\u00fc"),
        event("lost", type="PIPELINE_FAILURE"),
    ]  # fmt: skip
    for asks in (True, False):
        for headers in (True, False):
            for limit in (1, 2, 3, 100):
                assert assert_same(common, common[::-1], asks=asks, headers=headers, limit=limit) == 2 * len(common)
    assert assert_same([]) == 0


@pytest.mark.parametrize("end", sorted(ENDS))
@pytest.mark.parametrize("asks", [True, False])
def test_an_end_is_asked_about(end: str, asks: bool) -> None:
    batch = [event("r"), event("r", type=end), event("r")]
    assert len(enriched([batch], Twin(), limit=9, headers=True, asks=asks)[1]) == 2
    assert assert_same(batch, batch, asks=asks) == 6


def test_from_an_odd_one_on_events_are_pythons() -> None:
    class Other(Event):
        pass

    odd = [
        event("\ud800"),
        event(Text("r")),
        event("r", ("\ud800", b"x")),
        event("r", (HEADER, ROWS[0]), (Text("x"), b"x")),
        event("r", (HEADER, bytearray(ROWS[0]))),  # type: ignore[arg-type]
        Other(b"", "LOG", "r", 0, 20, "job", "", ""),
    ]
    for each in odd:
        assert assert_same([told("r", 0), told("s", 1), each, told("r", 0), event("s")]) == 2
        assert assert_same([each, told("r", 0)]) == 0


def test_an_error_of_the_state_is_told() -> None:
    class Broken(Runs):
        def facts(self, event: Event, header: bytes) -> RunFacts | None:
            raise RuntimeError("state")

    processor = Enrichment(Broken(9, False), Assets(), headers=True)  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="state"):
        anyio.run(processor.process, Batch([event()], "s", 0))


def test_what_is_set_is_held_once_and_what_was_set_is_let_go() -> None:
    first, second = (RunFacts({"n": str(n)}) for n in range(2))
    items = [event(f"r{n}", facts=first) for n in range(100)]
    before = sys.getrefcount(first), sys.getrefcount(second), sys.getrefcount(Assets.catalog)

    class One(Runs):
        def facts(self, event: Event, header: bytes) -> RunFacts | None:
            return second

    for _ in range(3):
        twin = Twin()
        assert twin.enrich(items, Assets.catalog, One(9, False), True) == len(items)
        after = sys.getrefcount(first), sys.getrefcount(second), sys.getrefcount(Assets.catalog)
        assert after == (before[0] - 100, before[1] + 100, before[2] + 100)


names = st.sampled_from([HEADER, HEADER, "dagtel-instance", Text(HEADER)]) | st.text(
    st.characters(exclude_categories=()), max_size=2
)
headers = st.lists(st.tuples(names, st.sampled_from([*ROWS, b"", b"{"]) | st.binary(max_size=3)), max_size=4)
details = st.sampled_from([None, None, StepSucceeded(1.0), RunQueued(), RunQueued("shop", "", "p"), RunQueued("x")])
common = st.builds(
    lambda run, headers, type, detail, facts: event(run, *headers, type=type, detail=detail, facts=facts),
    st.sampled_from(["", "r", "s", "t", "u"]),
    st.just([]) | st.sampled_from(ROWS).map(lambda row: [("a", b""), (HEADER, row)]) | headers,
    st.sampled_from(["LOG", *sorted(ENDS), "PIPELINE_ENQUEUED", "\ud800"]),
    details,
    st.sampled_from([None, None, BEFORE]),
)
odd = st.builds(
    lambda run, headers: event(run, *headers), st.text(st.characters(exclude_categories=()), max_size=2), headers
)


@settings(max_examples=400, deadline=None)
@given(
    st.lists(st.lists(common | odd, max_size=25), max_size=3),
    st.sampled_from([1, 2, 3, 100]),
    st.booleans(),
    st.booleans(),
)
def test_arbitrary_events_come_out_the_same(batches: list[list[Event]], limit: int, headers: bool, asks: bool) -> None:
    assert_same(*batches, limit=limit, headers=headers, asks=asks)
