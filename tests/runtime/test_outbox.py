"""What a checkpoint takes from an outbox: payloads built in pieces and joined, in the order of building."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import msgspec
import pytest

from pipeline.alert_records import Decided, Occurred
from pipeline.batch import WHOLE, Batch
from pipeline.components import ExporterSpec, Payload
from pipeline.delivery import Delivery, QueueBatch, SendingQueue
from pipeline.runtime import outbox as module
from pipeline.runtime.dead_letters import DeadLetters
from pipeline.runtime.ids import Ids
from pipeline.runtime.outbox import Outbox
from pipeline.runtime.sealing import released, sealed, settled
from pipeline.signals import LogRecord, Signal
from pipeline.store.state import OutboxRow
from pipeline.testing import strategies
from pipeline.testing.fakes import CollectingExporter

pytestmark = pytest.mark.anyio


class Joining(CollectingExporter):
    """Joins lists of messages."""

    joins = 1 << 20

    def seal(self, payload: Payload, /, *more: Payload) -> Payload:
        bodies = [payload.body, *(other.body for other in more)]
        body = msgspec.json.encode([text for body in bodies for text in msgspec.json.decode(body)])
        return msgspec.structs.replace(payload, body=body, items=payload.items + sum(other.items for other in more))


class Lossy(Joining):
    def seal(self, payload: Payload, /, *more: Payload) -> Payload:
        return super().seal(payload)


class Broken(Joining):
    def seal(self, payload: Payload, /, *more: Payload) -> Payload:
        if more:
            raise RuntimeError("no")
        return payload


class Sealing(Joining):
    def build(self, batch: Batch[LogRecord]) -> Sequence[Payload]:
        return [msgspec.structs.replace(payload, key="one") for payload in super().build(batch)]


class Naming(CollectingExporter):
    """Payloads of the names of what is in them."""

    def build(self, batch: Batch[Any]) -> Sequence[Payload]:
        return [Payload(msgspec.json.encode([type(item).__name__ for item in batch.items]), len(batch.items))]


def opened(exporter: CollectingExporter, most: int = 7, takes: Signal = Signal.LOGS, keeps: bool = False) -> Outbox:
    options = type("NoOptions", (msgspec.Struct,), {})
    spec: ExporterSpec[Any] = ExporterSpec("out", options, lambda *a: None, frozenset({takes}), records=keeps)  # type: ignore[arg-type, return-value]
    delivery = Delivery(sending_queue=SendingQueue(batch=QueueBatch(max_size=most)))
    ids = Ids(1)
    return Outbox("out", spec, exporter, delivery, ids, DeadLetters(ids), lambda: None)


def records(first: int, last: int) -> list[LogRecord]:
    return [LogRecord(n, "INFO", "LOG", str(n), str(n)) for n in range(first, last)]


def texts(rows: Sequence[OutboxRow]) -> list[list[str]]:
    return [msgspec.json.decode(row.payload.body) for row in rows]


def numbers(*ends: int) -> list[list[str]]:
    return [[str(n) for n in range(first, last)] for first, last in pairwise(ends)]


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PIECE", 3)


async def test_pieces_are_built_as_they_come_and_joined_for_the_checkpoint() -> None:
    outbox = opened(Joining())
    for first in range(0, 20, 2):
        await outbox.push(records(first, first + 2), 0)
    outbox.build(0)
    assert outbox.unsealed == outbox.bytes > 0
    built = outbox.take_built()
    assert outbox.unsealed == 0
    ids = [row.id for row in built]
    exporters = dict.fromkeys(ids, "out")
    rows = sealed({"out": outbox}, built)
    assert [text for found in texts(rows) for text in found] == [str(n) for n in range(20)]
    assert all(row.payload.items <= 7 for row in rows)
    assert len(rows) == 4
    assert [row.id for row in rows] == sorted(row.id for row in rows)
    assert not built, "nobody needs them as they were"
    assert len(outbox) == len(ids) > len(rows)
    settled({"out": outbox}, exporters, rows)
    assert len(outbox) == len(rows)
    assert outbox.bytes == sum(len(row.payload.body) for row in rows)
    assert not outbox.ready
    released({"out": outbox}, rows)
    assert [(await outbox.next()).id for _ in rows] == [row.id for row in rows]


async def test_no_more_bytes_become_one_than_may() -> None:
    exporter = Joining()
    exporter.joins = 2 * len(b'["0","1","2"]')
    outbox = opened(exporter)
    for first in range(0, 9, 3):
        await outbox.push(records(first, first + 3), 0)
    assert texts(outbox.sealed(outbox.take_built())) == numbers(0, 6, 9)


async def test_what_is_larger_alone_stays_as_it_is() -> None:
    exporter = Joining()
    exporter.joins = 1
    outbox = opened(exporter)
    await outbox.push(records(0, 6), 0)
    assert texts(outbox.sealed(outbox.take_built())) == numbers(0, 3, 6)


async def test_payloads_of_other_headers_stay_apart() -> None:
    class Heading(Joining):
        def build(self, batch: Batch[LogRecord]) -> Sequence[Payload]:
            headers = {"level": batch.items[0].level}
            return [msgspec.structs.replace(payload, headers=headers) for payload in super().build(batch)]

    outbox = opened(Heading())
    for first, level in ((0, "INFO"), (3, "INFO"), (6, "ERROR"), (9, "INFO")):
        await outbox.push([msgspec.structs.replace(each, level=level) for each in records(first, first + 3)], 0)
    rows = outbox.sealed(outbox.take_built())
    assert texts(rows) == numbers(0, 6, 9, 12)
    assert [row.payload.headers["level"] for row in rows] == ["INFO", "ERROR", "INFO"]


async def test_payloads_of_several_shards_stay_apart() -> None:
    outbox = opened(Joining())
    for first in range(0, 12, 3):
        await outbox.push(records(first, first + 3), 0, "ab"[first // 3 % 2])
    rows = outbox.sealed(outbox.take_built())
    assert {row.shard: found for row, found in zip(rows, texts(rows), strict=True)} == {
        "a": ["0", "1", "2", "6", "7", "8"],
        "b": ["3", "4", "5", "9", "10", "11"],
    }


TOLD: list[Any] = [
    Occurred("k", 1, 1, 1, 1, "v1:f", "ERROR"),
    (firing := strategies.EXAMPLES[Signal.ALERTS]),
    Decided("k", 1, 1, 1, "first"),
    firing,
    Occurred("k", 1, 2, 2, 2, "v1:f", "ERROR"),
]


async def test_what_is_told_in_one_checkpoint_is_one_payload_for_those_who_keep_records() -> None:
    """Else a reader of theirs finds a problem of which nothing has happened."""
    outbox = opened(Naming(), takes=Signal.ALERTS, keeps=True)
    await outbox.push(TOLD[:3], 0)
    await outbox.push(TOLD[3:], 0)
    outbox.build(0)
    assert texts(outbox.sealed(outbox.take_built())) == [["Occurred", "Alert", "Decided", "Alert", "Occurred"]]


async def test_records_go_to_nobody_else() -> None:
    outbox = opened(Naming(), takes=Signal.ALERTS)
    await outbox.push(TOLD, 0)
    outbox.build(0)
    assert texts(outbox.sealed(outbox.take_built())) == [["Alert", "Alert"]]


async def test_an_exporter_that_does_not_join_gets_as_many_as_a_payload_may_have() -> None:
    outbox = opened(CollectingExporter())
    for n in range(16):
        await outbox.push(records(n, n + 1), 0)
    outbox.build(0)
    assert texts(outbox.sealed(outbox.take_built())) == numbers(0, 7, 14, 16)


async def test_payloads_that_have_an_order_are_not_joined() -> None:
    outbox = opened(Sealing())
    await outbox.push(records(0, 6), 0)
    assert texts(outbox.sealed(outbox.take_built())) == numbers(0, 3, 6)


async def test_payloads_that_come_again_are_not_joined_for_they_are_sealed() -> None:
    outbox = opened(Joining())
    outbox.resend(Payload(b"sealed", 1), WHOLE)
    outbox.resend(Payload(b"sealed too", 1), WHOLE)
    await outbox.push(records(0, 6), 0)
    assert [row.payload.body for row in outbox.sealed(outbox.take_built())] == [
        b"sealed",
        b"sealed too",
        b'["0","1","2","3","4","5"]',
    ]


@pytest.mark.parametrize("exporter", [Lossy, Broken])
async def test_an_exporter_that_cannot_join_loses_nothing(
    exporter: type[Joining], caplog: pytest.LogCaptureFixture
) -> None:
    outbox = opened(exporter())
    await outbox.push(records(0, 12), 0)
    assert texts(outbox.sealed(outbox.take_built())) == numbers(0, 3, 6, 9, 12)
    assert "could not join" in caplog.text
