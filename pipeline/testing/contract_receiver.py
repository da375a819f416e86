"""The laws of receivers: `ReceiverContract`. All records come once, in order, whatever they are and however often
reading is interrupted.

A receiver has its input outside, so a contract needs to know how to fill one: `fill` writes records to where
`options` reads them, as one source. Make the reads small (`max_items: 2`, say): the laws cut between them.
"""

from collections.abc import Sequence
from typing import Any

import anyio
from hypothesis import strategies as st

from pipeline.components import Position, Read, ReceiverSpec, given_by
from pipeline.testing import strategies
from pipeline.testing.builders import Log
from pipeline.testing.context import FakeContext
from pipeline.testing.contract_spec import SpecContract, law
from pipeline.testing.intake import FakeIntake

PATIENCE_S = 30.0
"""Real seconds after which a receiver that should return is taken to hang."""

GOOD = tuple(Log("run-1").run_start().step_start("a").step_failure("a").log("hello").run_failure().lines())
HOSTILE = (
    b"\x00\xff\xfe not text", b"{", b"null", b"[]", b"{}", b'"text"', b"1e999", b"[" * 5000, b'{"a":' * 5000,
    b'{"__class__": "EventLogEntry"}', b'{"run_id": 5, "timestamp": "soon", "dagster_event": []}', b"x" * 70_000,
    GOOD[0][: len(GOOD[0]) // 2], GOOD[1].replace(b"timestamp", b"timestump"),
)  # fmt: skip
"""Records that nobody meant to write."""


class ReceiverContract(SpecContract):
    """A receiver, on an input that `fill` makes."""

    spec: ReceiverSpec[Any]

    async def fill(self, records: Sequence[bytes]) -> None:
        """Put these records into the input, as one source."""
        raise NotImplementedError

    def good(self) -> st.SearchStrategy[bytes]:
        """A record that becomes an item; without line breaks."""
        return st.sampled_from(GOOD)

    def hostile(self) -> st.SearchStrategy[bytes]:
        """A record that nobody meant to write; without line breaks."""
        return st.sampled_from(HOSTILE) | st.binary(max_size=40).map(lambda data: data.replace(b"\n", b"\x00"))

    def skips(self, record: bytes) -> bool:
        """Whether a record is none to this receiver: a blank line."""
        return not record or record.isspace()

    def body(self, item: Any) -> bytes:
        """The record that became this item."""
        raw: bytes = item.raw
        return raw

    @law(8)
    def test_every_record_comes_once_in_order(self, data: st.DataObject) -> None:
        records = data.draw(st.lists(self.good(), max_size=8))

        async def run() -> None:
            intake = await self._filled(records)
            assert [self.body(item) for item in intake.items] == records, "not all records, or in another order"
            kinds = tuple(each for signal in given_by(self.spec) for each in strategies.ITEM_TYPES[signal])
            assert all(isinstance(item, kinds) for item in intake.items), f"an item that is no {kinds[0].__name__}"
            assert not [bad for read in intake.reads for bad in read.rejected], "a good record was rejected"

        with self.world():
            anyio.run(run)

    @law(12)
    def test_what_cannot_be_decoded_is_rejected_and_stops_nothing(self, data: st.DataObject) -> None:
        records = data.draw(st.lists(self.good() | self.hostile(), max_size=8))

        async def run() -> None:
            intake = await self._filled(records)
            taken = [self.body(item) for item in intake.items]
            rejected = [bad for read in intake.reads for bad in read.rejected]
            meant = [record for record in records if not self.skips(record)]
            assert sorted([*taken, *(bad.body for bad in rejected)]) == sorted(meant), "a record was lost or doubled"
            assert _in_order(taken, meant), "the items came in another order"
            assert set(GOOD).isdisjoint(bad.body for bad in rejected), "a good record was rejected"
            assert all(bad.reason and bad.origin for bad in rejected), "a rejected record needs a reason and an origin"

        with self.world():
            anyio.run(run)

    @law(8)
    def test_its_positions_go_forward(self, data: st.DataObject) -> None:
        records = data.draw(st.lists(self.good() | self.hostile(), max_size=8))

        async def run() -> None:
            intake = await self._filled(records)
            last: dict[str, Position] = {}
            for read in intake.reads:
                before = last.get(read.source)
                assert before is None or read.position.next >= before.next, "a position went back"
                last[read.source] = read.position

        with self.world():
            anyio.run(run)

    @law(8)
    def test_from_any_stored_position_it_goes_on_with_the_rest(self, data: st.DataObject) -> None:
        records = data.draw(st.lists(self.good() | self.hostile(), max_size=8))

        async def run() -> None:
            intake = await self._filled(records)
            for place, read in enumerate(intake.reads, 1):
                again = FakeIntake({read.source: read.position}, once=True)
                await self._run(again)
                rest = [self._bodies(later) for later in intake.reads[place:] if later.source == read.source]
                went_on = [self._bodies(later) for later in again.reads]
                assert _joined(went_on) == _joined(rest), f"behind read {place} it goes on with something else"

        with self.world():
            anyio.run(run)

    @law(8)
    def test_stopped_at_any_read_it_loses_and_doubles_nothing(self, data: st.DataObject) -> None:
        records = data.draw(st.lists(self.good() | self.hostile(), max_size=8))
        stop_at = data.draw(st.integers(1, 5))

        async def run() -> None:
            await self.fill(records)
            first = FakeIntake(once=True)
            with anyio.CancelScope() as scope:
                first.on_put = lambda read: scope.cancel() if len(first.reads) == stop_at else None
                await self._run(first)
            second = FakeIntake(first.stored, once=True)
            await self._run(second)
            both = [self._bodies(read) for intake in (first, second) for read in intake.reads]
            meant = sorted(record for record in records if not self.skips(record))
            assert sorted(body for read in both for body in (*read[0], *read[1])) == meant, "a record lost or doubled"

        with self.world():
            anyio.run(run)

    def test_it_stops_when_it_is_told_to(self) -> None:
        async def run() -> None:
            await self.fill(GOOD)
            intake = FakeIntake()
            async with self.built() as receiver, anyio.create_task_group() as tasks:
                tasks.start_soon(receiver.run, intake)
                await intake.until(lambda: len(intake.items) == len(GOOD), PATIENCE_S)
                tasks.cancel_scope.cancel()

        with self.world():
            anyio.run(run)

    async def _filled(self, records: Sequence[bytes]) -> FakeIntake:
        """An intake that has had all of an input of these records."""
        await self.fill(records)
        intake = FakeIntake(once=True)
        await self._run(intake)
        return intake

    async def _run(self, intake: FakeIntake) -> None:
        async with self.built(FakeContext(self.spec.name, once=True)) as receiver:
            with anyio.fail_after(PATIENCE_S):
                await receiver.run(intake)

    def _bodies(self, read: Read[Any]) -> tuple[list[bytes], list[bytes]]:
        return [self.body(item) for item in read.items], [bad.body for bad in read.rejected]


def _in_order(taken: Sequence[bytes], records: Sequence[bytes]) -> bool:
    left = iter(records)
    return all(record in left for record in taken)


def _joined(reads: Sequence[tuple[list[bytes], list[bytes]]]) -> tuple[list[bytes], list[bytes]]:
    return [body for read in reads for body in read[0]], [body for read in reads for body in read[1]]
