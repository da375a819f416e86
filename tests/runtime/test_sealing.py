"""Payloads that are sealed before their checkpoint: all of them, each once, in the order of building."""

import gzip
from collections.abc import Iterator, Sequence
from typing import Any
from unittest import mock

import anyio
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.batch import WHOLE
from pipeline.components import ExporterSpec, Payload
from pipeline.delivery import Delivery, QueueBatch, SendingQueue
from pipeline.runtime import joining
from pipeline.runtime import sealing as module
from pipeline.runtime.dead_letters import DeadLetters
from pipeline.runtime.driver import Driver
from pipeline.runtime.ids import Ids
from pipeline.runtime.outbox import Outbox
from pipeline.runtime.sealing import Sealing, released
from pipeline.signals import LogRecord, Signal
from pipeline.store.state import Commit, OutboxRow
from pipeline.testing.fakes import CollectingExporter

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("small")]
MOST = 7
NOW = "a checkpoint"
AHEAD = "sealed ahead"


@pytest.fixture(scope="module")
def small() -> Iterator[None]:
    """Whatever is built is much."""
    with mock.patch.object(module, "AHEAD", 1):
        yield


class Plain(CollectingExporter):
    """Payloads stay as they are built."""


class Compressing(CollectingExporter):
    """Joins lists of messages, and compresses them."""

    joins = 1 << 20

    def seal(self, payload: Payload, /, *more: Payload) -> Payload:
        inside = b",".join(other.body[1:-1] for other in (payload, *more))
        return Payload(gzip.compress(b"[" + inside + b"]"), payload.items + sum(other.items for other in more))


def opened(id: str, exporter: CollectingExporter, ids: Ids) -> Outbox:
    options = type("NoOptions", (msgspec.Struct,), {})
    spec: ExporterSpec[Any] = ExporterSpec(id, options, lambda *a: None, frozenset({Signal.LOGS}))  # type: ignore[arg-type, return-value]
    delivery = Delivery(sending_queue=SendingQueue(batch=QueueBatch(max_size=MOST)))
    return Outbox(id, spec, exporter, delivery, ids, DeadLetters(ids), lambda: None)


def outboxes() -> dict[str, Outbox]:
    ids = Ids(1)
    return {"plain": opened("plain", Plain(), ids), "small": opened("small", Compressing(), ids)}


async def push(outbox: Outbox, first: int, count: int, shard: str = WHOLE) -> None:
    await outbox.push([LogRecord(n, "INFO", "LOG", str(n), str(n)) for n in range(first, first + count)], 0, shard)
    outbox.build(0)


def texts(rows: Sequence[OutboxRow], exporter: str, shard: str) -> list[str]:
    own = [row.payload.body for row in rows if (row.exporter, row.shard) == (exporter, shard)]
    return [
        text for body in own for text in msgspec.json.decode(gzip.decompress(body) if exporter == "small" else body)
    ]


async def stored(sealing: Sealing, boxes: dict[str, Outbox]) -> list[OutboxRow]:
    """A checkpoint of all that is built."""
    built = [row for box in boxes.values() for row in box.take_built()]
    rows = await sealing.finished(built)
    assert not built, "nobody needs them as they were"
    released(boxes, rows)
    return rows


@given(
    st.lists(
        st.sampled_from([NOW, AHEAD])
        | st.tuples(st.sampled_from(["plain", "small"]), st.integers(1, 9), st.sampled_from([WHOLE, "a/0"]))
    )
)
async def test_whatever_is_sealed_ahead_each_item_is_stored_once_and_in_order(steps: list[Any]) -> None:
    boxes = outboxes()
    sealing = Sealing(boxes)
    pushed: dict[tuple[str, str], list[str]] = {}
    rows: list[OutboxRow] = []
    for number, step in enumerate([*steps, NOW]):
        if step == AHEAD:
            await sealing.ahead()
            assert not sealing.due
        elif step == NOW:
            now = await stored(sealing, boxes)
            assert [row.id for row in now] == sorted({row.id for row in now})
            assert not rows or not now or now[0].id > rows[-1].id, "a checkpoint has what was built before the next"
            rows += now
            assert sealing.bytes == 0
        else:
            exporter, count, shard = step
            await push(boxes[exporter], number * 10, count, shard)
            pushed.setdefault((exporter, shard), []).extend(str(n) for n in range(number * 10, number * 10 + count))
    assert {key: texts(rows, *key) for key in pushed} == pushed
    assert all(row.payload.items <= MOST for row in rows)
    for id, box in boxes.items():
        own = [row for row in rows if row.exporter == id]
        assert len(box) == len(own), "those that were joined to others wait no more"
        assert box.bytes == sum(len(row.payload.body) for row in own)


async def test_what_has_room_left_waits_as_it_is_for_what_comes() -> None:
    """Else whatever is sealed ahead ends with a small request."""
    boxes = outboxes()
    sealing = Sealing(boxes)
    for first in range(0, 20, 5):
        await push(boxes["small"], first, 5)
        await sealing.ahead()
    assert [row.payload.items for row in await stored(sealing, boxes)] == [5, 5, 5, 5], "no two of them fit in one"
    for first in range(0, 12, 3):
        await push(boxes["small"], first, 3)
        await sealing.ahead()
    assert [row.payload.items for row in await stored(sealing, boxes)] == [6, 6]


async def test_what_is_left_is_little(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else each exporter and shard holds what it could have sealed."""
    boxes = outboxes()
    sealing = Sealing(boxes)
    await push(boxes["small"], 10, 5)
    await push(boxes["small"], 20, 5, "a/0")
    monkeypatch.setattr(joining, "REST", sealing.bytes - 1)
    await sealing.ahead()
    await push(boxes["small"], 30, 1)
    assert [row.payload.items for row in await stored(sealing, boxes)] == [5, 5, 1]


async def test_only_those_are_sealed_ahead_that_have_much(monkeypatch: pytest.MonkeyPatch) -> None:
    boxes = outboxes()
    sealing = Sealing(boxes)
    await push(boxes["small"], 0, 7)
    await push(boxes["plain"], 0, 1)
    monkeypatch.setattr(module, "AHEAD", boxes["small"].unsealed)
    assert sealing.due
    await sealing.ahead()
    assert (boxes["small"].unsealed, sealing.due) == (0, False)
    assert boxes["plain"].unsealed == boxes["plain"].bytes > 0


async def test_what_waits_is_told_as_it_stands_in_memory() -> None:
    boxes = outboxes()
    sealing = Sealing(boxes)
    await boxes["small"].push([LogRecord(n, "INFO", "LOG", "a" * 1000, str(n)) for n in range(MOST * 2)], 0)
    boxes["small"].build(0)
    assert sealing.bytes == boxes["small"].bytes > 14_000
    await sealing.ahead()
    assert 7_000 < sealing.bytes == boxes["small"].bytes < 8_000, "one is sealed, one waits for what comes"
    rows = await stored(sealing, boxes)
    assert sealing.bytes == 0
    assert boxes["small"].bytes == sum(len(row.payload.body) for row in rows) < 1_000


async def test_an_exporter_whose_seal_raises_says_so() -> None:
    boxes = outboxes()
    boxes["small"].exporter.seal = lambda *payloads: 1 / 0  # type: ignore[attr-defined]
    await push(boxes["small"], 0, 14)
    with pytest.raises(ZeroDivisionError):
        await Sealing(boxes).ahead()


async def test_what_comes_while_a_checkpoint_is_written_is_sealed_for_the_next() -> None:
    boxes = outboxes()
    driver: Any = object.__new__(Driver)
    driver._sealing, driver._outboxes, driver.committed = Sealing(boxes), boxes, {}
    driver._commit_wake = anyio.Event()
    written: list[Commit] = []

    async def write(commit: Commit) -> None:
        await push(boxes["small"], 1, 9)
        driver._commit_wake.set()
        while boxes["small"].unsealed:
            await anyio.sleep(0.001)
        written.append(commit)

    driver._write = write
    with anyio.fail_after(10):
        await driver._store(Commit())
    assert [commit.outbox for commit in written] == [[]]
    rows = await stored(driver._sealing, boxes)
    assert texts(rows, "small", WHOLE) == [str(n) for n in range(1, 10)]
