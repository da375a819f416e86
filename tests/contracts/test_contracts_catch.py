"""The contracts catch what they are there to catch: each of these components breaks one law, and that test fails."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from pipeline.batch import Batch
from pipeline.clock import HOUR
from pipeline.components import (
    ConnectorSpec,
    Context,
    ExporterSpec,
    ExtensionSpec,
    Payload,
    Position,
    ProcessorSpec,
    Read,
    ReceiverSpec,
    Rejected,
    Table,
)
from pipeline.errors import DecodeError
from pipeline.events import Event
from pipeline.http import expect_ok
from pipeline.signals import LogRecord, Signal
from pipeline.testing.contracts import (
    ConnectorContract,
    ExporterContract,
    ExtensionContract,
    HttpExporterContract,
    PayloadContract,
    ProcessorContract,
    ReceiverContract,
)
from receivers.dagster_wire import decode


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Nothing to set."""


def built(make: Callable[[Context], Any]) -> Any:
    """A `build` around a component that is made from its context."""

    @asynccontextmanager
    async def build(options: Options, context: Context) -> AsyncIterator[Any]:
        yield make(context)

    return build


# --- processors ------------------------------------------------------------------------------------------------------


class Sound:
    """Numbers the records of each event type, and keeps the numbers in its table."""

    def __init__(self, context: Context) -> None:
        self.counts: Table[str, int] = context.state.table("counts", str, int, version=1)

    async def process(self, batch: Batch[LogRecord]) -> Batch[LogRecord]:
        return batch.carrying([self.numbered(record) for record in batch.items])

    def numbered(self, record: LogRecord) -> LogRecord:
        count = (self.counts.get(record.event) or 0) + 1
        self.counts.put(record.event, count)
        return msgspec.structs.replace(record, message=f"{count}: {record.message.strip()}")


class CountsBesideTheTables(Sound):
    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.beside: dict[str, int] = {}

    def numbered(self, record: LogRecord) -> LogRecord:
        count = self.beside[record.event] = self.beside.get(record.event, 0) + 1
        return msgspec.structs.replace(record, message=f"{count}: {record.message.strip()}")


class CachesWhatIsUndone(CountsBesideTheTables):
    """Right after a restart, wrong after an undo."""

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.beside = dict(self.counts.items())

    def numbered(self, record: LogRecord) -> LogRecord:
        self.counts.put(record.event, self.beside.get(record.event, 0) + 1)
        return super().numbered(record)


class CountsBatches(Sound):
    async def process(self, batch: Batch[LogRecord]) -> Batch[LogRecord]:
        return batch.carrying([r for place, r in enumerate(batch.items) if place % 2 == 0])


class SaysSomethingOfNothing(Sound):
    async def process(self, batch: Batch[LogRecord]) -> Batch[LogRecord]:
        given = list((await super().process(batch)).items)
        return batch.carrying(given or [LogRecord(1, "INFO", "EMPTY", "", "e")])


class GivesText(Sound):
    async def process(self, batch: Batch[LogRecord]) -> Batch[Any]:
        return batch.carrying([record.message for record in batch.items])


class SortsItsInput(Sound):
    async def process(self, batch: Batch[LogRecord]) -> Batch[LogRecord]:
        if isinstance(batch.items, list):
            batch.items.sort(key=lambda record: record.message)
        return batch


class WritesIntoItsInput(Sound):
    def numbered(self, record: LogRecord) -> LogRecord:
        record.extra["seen"] = True
        return record


class FlushesAgain(Sound):
    async def flush(self, now_ns: int) -> Sequence[LogRecord]:
        return [LogRecord(now_ns, "INFO", event, str(n), event) for event, n in self.counts.items()]


class StoresWhatItCannotRead(Sound):
    def __init__(self, context: Context) -> None:
        # The value's type says text, and numbers are put.
        self.counts = context.state.table("counts", str, str, version=1)  # type: ignore[assignment]

    def numbered(self, record: LogRecord) -> LogRecord:
        self.counts.put(record.event, 1)
        return record


class Ticks(Sound):
    """One timer, an hour after the first record."""

    lead_ns = HOUR

    async def process(self, batch: Batch[LogRecord]) -> Batch[LogRecord]:
        for _ in batch.items:
            if "due" not in self.counts:
                self.counts.put("due", batch.now_ns + self.ahead())
        return batch

    def ahead(self) -> int:
        return HOUR

    def due(self) -> int | None:
        return self.counts.get("due")

    async def on_time(self, now_ns: int) -> Sequence[LogRecord]:
        due = self.counts.get("due")
        if due is None or due > now_ns:
            return ()
        self.counts.delete("due")
        return [LogRecord(now_ns, "INFO", "TICK", "", "tick")]


class TicksForEver(Ticks):
    async def on_time(self, now_ns: int) -> Sequence[LogRecord]:
        return ()


class TicksEarly(Ticks):
    async def on_time(self, now_ns: int) -> Sequence[LogRecord]:
        self.counts.delete("due")
        return ()


class PromisesTooMuch(Ticks):
    def ahead(self) -> int:
        return HOUR // 2


class HalfTimed(Sound):
    def due(self) -> int | None:
        return None


def processor(make: Any) -> ProcessorContract:
    class Contract(ProcessorContract):
        spec = ProcessorSpec("sound", Options, built(make), takes=frozenset({Signal.LOGS}))

    return Contract()


def laws(contract: Any) -> list[str]:
    """The tests without parameters."""
    return [
        name
        for name in dir(contract)
        if name.startswith("test_") and not hasattr(getattr(contract, name), "pytestmark")
    ]


QUICK = settings(
    max_examples=10,
    phases=[Phase.generate],  # that it fails is enough; why, nobody asks here
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


def broken_by(contract: Any, *only: str) -> set[str]:
    """The laws that a component breaks, of these or of all."""
    broken = set()
    for law in only or laws(contract):
        test = getattr(type(contract), law)
        if hasattr(test, "hypothesis"):
            quick = settings(QUICK, max_examples=60) if only else QUICK
            test = quick(given(data=st.data())(test.hypothesis.inner_test))
        try:
            test(contract)
        except Exception:
            broken.add(law)
    return broken


@pytest.mark.parametrize("make", [Sound, Ticks])
def test_a_sound_processor_keeps_all_laws(make: Any) -> None:
    assert broken_by(processor(make)) == set()


@pytest.mark.parametrize(
    ("make", "law"),
    [
        (CountsBesideTheTables, "test_a_restart_changes_nothing_of_what_follows"),
        (CountsBesideTheTables, "test_an_item_that_raises_leaves_no_trace"),
        (CachesWhatIsUndone, "test_an_item_that_raises_leaves_no_trace"),
        (CountsBatches, "test_batch_boundaries_do_not_matter"),
        (SaysSomethingOfNothing, "test_an_empty_batch_gives_nothing_and_changes_nothing"),
        (GivesText, "test_what_it_gives_is_of_its_signal"),
        (SortsItsInput, "test_it_leaves_its_input_as_it_was"),
        (WritesIntoItsInput, "test_it_leaves_its_input_as_it_was"),
        (FlushesAgain, "test_a_second_last_word_says_nothing_new"),
        (StoresWhatItCannotRead, "test_what_it_stores_is_read_back_equal"),
        (TicksForEver, "test_its_timers_go_forward"),
        (TicksEarly, "test_its_timers_go_forward"),
        (PromisesTooMuch, "test_its_timers_go_forward"),
        (HalfTimed, "test_it_has_its_optional_methods_whole"),
    ],
)
def test_a_processor_that_breaks_a_law_is_caught(make: Any, law: str) -> None:
    assert broken_by(processor(make), law) == {law}


# --- connectors ------------------------------------------------------------------------------------------------------


class Annotates:
    """What a processor may, a connector may not: others read the same events."""

    async def process(self, batch: Batch[Event]) -> Sequence[LogRecord]:
        for event in batch.items:
            event.attempt += 1
        return ()


def test_a_connector_may_not_annotate_events() -> None:
    class Contract(ConnectorContract):
        spec = ConnectorSpec("annotates", Options, built(lambda c: Annotates()), Signal.EVENTS, Signal.LOGS)

    assert broken_by(Contract()) == {"test_it_leaves_its_input_as_it_was"}


# --- specs -----------------------------------------------------------------------------------------------------------


class Thawed(msgspec.Struct, forbid_unknown_fields=True):
    """Options that change."""


class Loose(msgspec.Struct, frozen=True):
    """Options that take anything."""


class Silent(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An option that nobody explains."""

    mystery: int = 0


@pytest.mark.parametrize(
    ("name", "config", "law"),
    [
        ("Not A Name", Options, "test_its_name_can_stand_in_a_configuration"),
        ("sound", Thawed, "test_its_options_are_a_frozen_struct_that_knows_its_fields"),
        ("sound", Loose, "test_its_options_are_a_frozen_struct_that_knows_its_fields"),
        ("sound", Silent, "test_it_and_each_of_its_options_are_documented"),
    ],
)
def test_a_spec_that_is_not_well_formed_is_caught(name: str, config: Any, law: str) -> None:
    class Contract(ExtensionContract):
        spec = ExtensionSpec(name, config, built(lambda context: object()))

    assert broken_by(Contract()) == {law}


def test_an_extension_of_a_good_spec_keeps_its_contract() -> None:
    class Contract(ExtensionContract):
        spec = ExtensionSpec("sound", Options, built(lambda context: object()))

    assert broken_by(Contract()) == set()


# --- exporters -------------------------------------------------------------------------------------------------------


class Sends:
    """Sound: appends to a file, of which the contract knows."""

    def __init__(self, context: Context) -> None:
        self.http = context.http

    def build(self, batch: Batch[LogRecord]) -> Sequence[Payload]:
        return [Payload(msgspec.json.encode(list(batch.items)), len(batch.items))] if batch.items else []

    async def send(self, payload: Payload) -> bytes | None:
        await self.http.request("POST", "http://sink.test/", body=payload.body)
        return None


class SendsWell(Sends):
    async def send(self, payload: Payload) -> bytes | None:
        expect_ok(await self.http.request("POST", "http://sink.test/", body=payload.body), "the sink")
        return None


class NumbersItsPayloads(SendsWell):
    number = 0

    def build(self, batch: Batch[LogRecord]) -> Sequence[Payload]:
        self.number += 1
        return [Payload(b"%d" % self.number, len(batch.items))] if batch.items else []


class ForgetsAnItem(SendsWell):
    def build(self, batch: Batch[LogRecord]) -> Sequence[Payload]:
        return super().build(batch.carrying(batch.items[1:]))


class SendsNothingToo(SendsWell):
    def build(self, batch: Batch[LogRecord]) -> Sequence[Payload]:
        return [Payload(b"[]", len(batch.items))]


class SealsOtherwise(SendsWell):
    sealed = 0

    def seal(self, payload: Payload) -> Payload:
        self.sealed += 1
        return msgspec.structs.replace(payload, body=payload.body + b"%d" % self.sealed)


class JoinsTheFirstAlone(SendsWell):
    joins = 1000

    def seal(self, payload: Payload, /, *more: Payload) -> Payload:
        return payload


def http_exporter(make: Any, urgent: bool = False) -> HttpExporterContract:
    class Contract(HttpExporterContract):
        spec = ExporterSpec("sends", Options, built(make), frozenset({Signal.LOGS}), urgent=urgent)

    return Contract()


def test_a_sound_exporter_keeps_all_laws() -> None:
    contract = http_exporter(SendsWell)
    assert broken_by(contract) == set()
    contract.test_a_refusal_is_final(400)
    contract.test_it_waits_as_long_as_it_is_asked_to(503)


@pytest.mark.parametrize(
    ("make", "law"),
    [
        (NumbersItsPayloads, "test_the_same_items_make_the_same_bytes"),
        (ForgetsAnItem, "test_its_payloads_cover_the_items"),
        (SendsNothingToo, "test_no_items_make_no_payload"),
        (SealsOtherwise, "test_sealing_changes_the_bytes_alone_and_always_alike"),
        (JoinsTheFirstAlone, "test_payloads_that_are_sealed_as_one_hold_all_items"),
    ],
)
def test_an_exporter_that_breaks_a_law_is_caught(make: Any, law: str) -> None:
    assert broken_by(http_exporter(make), law) == {law}


def test_an_exporter_that_believes_any_answer_is_caught() -> None:
    contract = http_exporter(Sends)
    with pytest.raises(pytest.fail.Exception):
        contract.test_a_refusal_is_final(400)
    with pytest.raises(pytest.fail.Exception):
        contract.test_it_waits_as_long_as_it_is_asked_to(503)


def test_an_exporter_that_calls_by_http_has_to_keep_that_contract() -> None:
    class Contract(ExporterContract):
        spec = ExporterSpec("sends", Options, built(SendsWell), frozenset({Signal.LOGS}))

    assert broken_by(Contract()) == {"test_what_it_sends_arrives"}


class Doubles:
    """Writes before it may be cancelled, and does not know of it afterwards."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def build(self, batch: Batch[LogRecord]) -> Sequence[Payload]:
        return [Payload(b"line\n", len(batch.items))] if batch.items else []

    async def send(self, payload: Payload) -> None:
        with self.file.open("ab") as file:
            file.write(payload.body)
        await anyio.sleep(0)


def test_a_send_that_arrives_twice_when_it_is_cancelled_is_caught() -> None:
    class Contract(ExporterContract):
        @property
        def spec(self) -> Any:
            make = built(lambda context: Doubles(self.folder / "out"))
            return ExporterSpec("doubles", Options, make, frozenset({Signal.LOGS}))

        def outside(self) -> Any:
            file = self.folder / "out"
            return file.read_bytes() if file.exists() else b""

    assert broken_by(Contract(), "test_a_cancelled_send_is_as_one_that_was_not_made")


def test_a_notifier_whose_messages_have_no_key_is_caught() -> None:
    class Contract(PayloadContract):
        spec = ExporterSpec("sends", Options, built(SendsWell), frozenset({Signal.ALERTS}), urgent=True)

    assert broken_by(Contract(), "test_messages_of_one_problem_are_kept_in_order")


# --- receivers -------------------------------------------------------------------------------------------------------


class Reads:
    """Sound: a read for every record of a shared list."""

    def __init__(self, records: list[bytes]) -> None:
        self.records = records

    async def run(self, intake: Any) -> None:
        position = (await intake.assign(["list"]))["list"]
        for place in range(position.next if position else 0, len(self.records)):
            await intake.put(self.read(place))
            await anyio.sleep(0)
        if not intake.once:
            await anyio.sleep_forever()

    def read(self, place: int) -> Read[Event]:
        record = self.records[place]
        try:
            return Read("list", (decode(record, source="list", offset=place),), self.after(place))
        except DecodeError as error:
            return Read("list", (), self.after(place), (Rejected(record, str(error), f"list@{place}"),))

    def after(self, place: int) -> Position:
        return Position(place + 1)


class ChokesOnGarbage(Reads):
    def read(self, place: int) -> Read[Event]:
        return Read("list", (decode(self.records[place], source="list", offset=place),), self.after(place))


class ReadsTheLastAgain(Reads):
    def after(self, place: int) -> Position:
        return Position(place)


class SkipsOnRestart(Reads):
    def after(self, place: int) -> Position:
        return Position(place + 2)


class GoesBack(Reads):
    def after(self, place: int) -> Position:
        return Position(100 - place)


class LosesTheLast(Reads):
    async def run(self, intake: Any) -> None:
        self.records = self.records[:-1]
        await super().run(intake)


def receiver(make: Any) -> ReceiverContract:
    records: list[bytes] = []

    class Contract(ReceiverContract):
        spec = ReceiverSpec("reads", Options, built(lambda context: make(records)))

        async def fill(self, given: Sequence[bytes]) -> None:
            records[:] = given

        def skips(self, record: bytes) -> bool:
            return False

    return Contract()


def test_a_sound_receiver_keeps_all_laws() -> None:
    assert broken_by(receiver(Reads)) == set()


@pytest.mark.parametrize(
    ("make", "law"),
    [
        (ChokesOnGarbage, "test_what_cannot_be_decoded_is_rejected_and_stops_nothing"),
        (ReadsTheLastAgain, "test_stopped_at_any_read_it_loses_and_doubles_nothing"),
        (SkipsOnRestart, "test_from_any_stored_position_it_goes_on_with_the_rest"),
        (GoesBack, "test_its_positions_go_forward"),
        (LosesTheLast, "test_every_record_comes_once_in_order"),
    ],
)
def test_a_receiver_that_breaks_a_law_is_caught(make: Any, law: str) -> None:
    assert broken_by(receiver(make), law) == {law}
