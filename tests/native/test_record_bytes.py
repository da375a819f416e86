"""What stands for the bytes and the headers of a record that lies in Kafka's answer."""

import copy
import pickle
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import msgspec
import pytest
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from hypothesis import given
from hypothesis import strategies as st

from connectors.logs import Logs, LogsConfig, build
from pipeline import events
from pipeline.batch import Batch
from pipeline.components import Intake, Position, Read
from pipeline.events import Event, own_bytes
from pipeline.native import HAS_NATIVE, native
from pipeline.runtime import driver
from pipeline.runtime.launch import run_service
from pipeline.signals import LogRecord
from pipeline.testing.context import FakeContext
from pipeline.testing.fakes import CollectingExporter, EachItem, a_plan
from processors.enrichment import _twin as enricher
from processors.redelivery import EventIds
from receivers.dagster_wire import TWIN, decode
from receivers.kafka_records import KafkaRecord
from tests.native.recorded import DATA, RECORDED

pytestmark = [pytest.mark.anyio, pytest.mark.skipif(not HAS_NATIVE, reason="dagtel-native is not installed")]

Headers = tuple[tuple[str, bytes], ...]
BRIDGED: Headers = (("dagtel-instance", b"prod"), ("dagtel-storage-id", b"17"))
LINES = (DATA / "dagster-1.13.jsonl").read_bytes().splitlines()
AT_MS = 1_700_000_000_000


def answer_of(raws: Sequence[bytes], headers: Sequence[Headers] = (BRIDGED,)) -> bytes:
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, 2**26)
    for at, raw in enumerate(raws):
        assert builder.append(at, AT_MS + at, b"run", raw, list(headers[at % len(headers)])) is not None
    return bytes(builder.build())


def left_in(answer: bytes) -> list[Event]:
    """Its events; those that are Python's are left out."""
    assert TWIN is not None
    records = native.RecordReader(KafkaRecord).records(answer, 0)
    assert records is not None
    found = TWIN.decode_all(records, "t/0")
    assert found is not None
    return [event for event in found[0] if event is not None]


def plain(left: Sequence[Event], raws: Sequence[bytes], headers: Sequence[Headers] = (BRIDGED,)) -> list[Event]:
    """The same events with bytes of their own."""
    of = headers.__getitem__
    numbers = [event.offset for event in left]
    return [
        decode(raws[n], source="t/0", offset=n, record_ns=(AT_MS + n) * 10**6, headers=of(n % len(headers)))
        for n in numbers
    ]


@pytest.mark.parametrize("name", RECORDED)
def test_events_are_those_of_the_bytes_and_give_them_to_who_asks(name: str) -> None:
    raws = (DATA / name).read_bytes().splitlines()
    left = left_in(answer_of(raws))
    assert len(left) > 0.99 * len(raws)
    expected = plain(left, raws)
    assert left == expected
    assert expected == left
    left = left_in(answer_of(raws))
    for event, own in zip(left, expected, strict=True):
        assert type(event.raw) is bytes
        assert (event.raw, event.headers) == (own.raw, own.headers)
        assert event.raw is event.raw
        assert event.headers is event.headers
        assert event == own


def test_they_differ_where_bytes_or_headers_do() -> None:
    (event,), (other,), (headed,) = (
        left_in(answer_of(LINES[:1])),
        left_in(answer_of([LINES[0] + b" "])),
        left_in(answer_of(LINES[:1], [(("a", b""),)])),
    )
    assert event == left_in(answer_of(LINES[:1]))[0]
    assert event not in (other, headed)
    assert event == event
    own = msgspec.structs.replace(event, raw=event.raw, headers=event.headers)
    assert own == event == own
    assert (own != other, own != headed, event != msgspec.structs.replace(own, raw=b"")) == (True, True, True)
    assert "dagtel-storage-id" in repr(event)


def test_they_are_set_copied_and_pickled_as_other_fields_are() -> None:
    (event,) = left_in(answer_of(LINES[:1]))
    for again in (copy.copy(event), copy.deepcopy(event), pickle.loads(pickle.dumps(event))):
        assert again == event
        assert (again.raw, again.headers) == (LINES[0], BRIDGED)
    event.raw, event.headers = b"x", ()
    assert (event.raw, event.headers) == (b"x", ())


@pytest.mark.parametrize("keep", ["event", "copy", "batch"])
def test_an_event_that_is_kept_does_not_hold_the_answer(keep: str) -> None:
    answer = answer_of(LINES[:50])
    alone = sys.getrefcount(answer)
    batch = left_in(answer)
    assert sys.getrefcount(answer) == alone + len(batch)
    kept = {"event": [batch[7]], "copy": [msgspec.structs.replace(batch[7])], "batch": list(batch)}[keep]
    assert own_bytes(batch) == len(kept)
    del batch
    assert sys.getrefcount(answer) == alone
    assert kept[-1].raw == LINES[kept[-1].offset]
    assert kept[-1].headers == BRIDGED


def test_nothing_is_made_of_events_that_nobody_keeps_nor_of_other_items() -> None:
    batch = left_in(answer_of(LINES[:50]))
    assert own_bytes(batch) == 0
    assert own_bytes(tuple(batch)) == 0
    others: list[Any] = [*batch, None, "x", msgspec.structs.replace(batch[0], raw=b"own", headers=())]
    assert own_bytes(others) == len(batch)


def test_headers_alone_may_be_set_and_the_bytes_are_still_looked_after() -> None:
    answer = answer_of(LINES[:1])
    alone = sys.getrefcount(answer)
    batch = left_in(answer)
    batch[0].headers = ()
    assert own_bytes(batch) == 0
    kept = batch[0]
    assert own_bytes(batch) == 1
    assert sys.getrefcount(answer) == alone
    assert (kept.raw, kept.headers) == (LINES[0], ())


async def test_the_twins_read_headers_where_they_lie() -> None:
    headers = [BRIDGED, (), BRIDGED[::-1], BRIDGED[:1], (("dagtel-storage-id", b"x"), *BRIDGED)]
    left = left_in(answer_of(LINES, headers))
    own = plain(left, LINES, headers)
    assert EventIds().of(left) == EventIds().of(own)
    assert await logged(left) == await logged(own)


names = st.sampled_from(("dagtel-instance", "dagtel-storage-id", "dagtel-run")) | st.text(max_size=4)
pairs = st.lists(st.tuples(names, st.sampled_from((b"1", b"22", b"")) | st.binary(max_size=3)), max_size=4).map(tuple)


@given(st.lists(pairs, min_size=1, max_size=5))
def test_any_headers_are_read_the_same(headers: list[Headers]) -> None:
    raws = LINES[:5]
    left = left_in(answer_of(raws, headers))
    own = plain(left, raws, headers)
    assert EventIds().of(left) == EventIds().of(own)
    assert anyio.run(logged, left) == anyio.run(logged, own)
    assert asked(left) == asked(own)
    assert left == own


async def logged(batch: Sequence[Event]) -> list[LogRecord]:
    async with build(LogsConfig(), FakeContext()) as logs:
        assert isinstance(logs, Logs)
        return list(await logs.process(Batch(batch, "t/0", 0)))


def asked(batch: Sequence[Event]) -> list[tuple[int, bytes]]:
    """What enrichment asks for with headers: each event's place, and its header."""
    found: list[tuple[int, bytes]] = []
    runs = SimpleNamespace(forgotten=0, facts=lambda event, header: found.append((event.offset, header)))
    assert enricher is not None
    assert enricher.enrich(batch, None, runs, True) == len(batch)
    return found


class AnsweredReceiver:
    """Gives the events of an answer, in reads of `size`."""

    def __init__(self, answer: bytes, size: int) -> None:
        self.answer, self.size = answer, size

    async def run(self, intake: Intake[Any]) -> None:
        await intake.assign(["t/0"])
        events, self.answer = left_in(self.answer), b""
        while events:
            some, events = events[: self.size], events[self.size :]
            end, behind = some[-1].offset + 1, bool(events)
            await intake.put(Read("t/0", some, Position(end), (), behind, 100))


async def test_a_run_makes_bytes_for_events_that_a_plugin_keeps_and_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []
    monkeypatch.setattr(driver, "own_bytes", lambda items: made.append(own_bytes(items)))
    answer, kept = answer_of(LINES[:500]), []

    def keep(event: Event) -> None:
        if event.offset % 100 == 7:
            kept.append(event)

    alone = sys.getrefcount(answer)
    out = {"out": CollectingExporter()}
    plan = a_plan(AnsweredReceiver(answer, 20), [EachItem(keep)], out, tmp_path / "state.db")
    with anyio.fail_after(20):
        assert await run_service(plan, True, no_web) == 0
    assert sys.getrefcount(answer) == alone
    assert sum(made) == len(kept) == 5
    assert [event.raw for event in kept] == [LINES[event.offset] for event in kept]


def no_web(mounts: object) -> Any:
    return anyio.CancelScope()


def test_the_descriptor_stands_before_the_slot_of_the_class_and_of_those_below() -> None:
    class Below(Event):
        more: int = 0

    left = events.Event.__dict__["raw"]
    assert left.__get__(None, Event) is left
    assert Below(b"raw", "LOG", "r", 0, 20, "", "", "").raw == b"raw"
