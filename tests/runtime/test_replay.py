"""Dead letters that come again: each once, where it failed, whatever happens in between."""

import gzip
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest

from pipeline.components import Payload, Rejected
from pipeline.delivery import Delivery, QueueBatch, SendingQueue
from pipeline.errors import DecodeError, PartialError, PermanentError
from pipeline.events import Event
from pipeline.runtime.launch import run_service
from pipeline.store.beside import open_beside
from pipeline.store.commands import Asked, Choice, ask_for_replay
from pipeline.store.state import Commit, DeadLetter, StateStore
from pipeline.testing.clock import VirtualClock
from pipeline.testing.fakes import CollectingExporter, EachItem, FlakyExporter, MemoryReceiver, a_plan, events
from pipeline.testing.harness import harness
from pipeline.topology.plan import Plan

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def no_web(mounts: Mapping[str, Any]) -> AsyncIterator[None]:
    yield


async def run(plan: Plan) -> None:
    with anyio.fail_after(20):
        assert await run_service(plan, True, no_web) == 0


def letters(path: Path) -> list[DeadLetter]:
    store = StateStore(path)
    found = store.dead_letters()
    store.close()
    return found


def ask(path: Path, choice: Choice = Choice(), partly: bool = False) -> Asked:  # noqa: B008  # frozen
    with open_beside(str(path)) as beside:
        return ask_for_replay(beside.engine, choice, partly)


def redecoding(plan: Plan, redecode: Any) -> Plan:
    node = plan.receivers["in"]
    spec = msgspec.structs.replace(node.spec, redecode=redecode)
    return msgspec.structs.replace(plan, receivers={"in": msgspec.structs.replace(node, spec=spec)})


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


class Sealing(FlakyExporter):
    """Compresses, as those do that call over HTTP."""

    def build(self, batch: Any) -> Sequence[Payload]:
        return [msgspec.structs.replace(one, headers={"path": "/v1"}) for one in super().build(batch)]

    def seal(self, payload: Payload) -> Payload:
        body = gzip.compress(payload.body, mtime=0)
        return msgspec.structs.replace(payload, body=body, headers={**payload.headers, "Content-Encoding": "gzip"})


async def test_a_refused_payload_goes_out_again_byte_for_byte_and_once(state: Path) -> None:
    out = Sealing(fails=1, error=lambda: PermanentError("413: too large"))
    plan = a_plan(MemoryReceiver(events("a", "b")), [], {"out": out}, state)
    await run(plan)
    (letter,) = letters(state)
    assert ask(state) == Asked(1, 0, 0, 0)
    await run(plan)
    await run(plan)
    (payload,) = out.payloads
    assert payload.body == letter.body
    assert payload.headers == {"path": "/v1", "Content-Encoding": "gzip"}
    assert payload.items == 2
    assert letters(state) == []


async def test_what_is_refused_again_is_a_new_letter_and_nobody_asks_for_it(state: Path) -> None:
    answers = iter(["400: too old", "400: far too old"])
    out = FlakyExporter(fails=2, error=lambda: PermanentError(next(answers)))
    plan = a_plan(MemoryReceiver(events("a")), [], {"out": out}, state)
    await run(plan)
    (first,) = letters(state)
    ask(state)
    await run(plan)
    await run(plan)
    (second,) = letters(state)
    assert (first.reason, second.reason) == ("refused: 400: too old", "refused: 400: far too old")
    assert (second.body, out.payloads) == (first.body, [])


async def test_of_a_payload_that_was_partly_taken_a_replay_must_be_asked_for_by_name(state: Path) -> None:
    out = FlakyExporter(fails=1, error=lambda: PartialError("1 of 2", {-1: "bad"}))
    plan = a_plan(MemoryReceiver(events("a", "b")), [], {"out": out}, state)
    await run(plan)
    assert ask(state) == Asked(0, 0, 0, 1)
    await run(plan)
    assert out.messages == []
    assert ask(state, partly=True) == Asked(1, 0, 0, 0)
    await run(plan)
    assert out.messages == ["a", "b"]


async def test_an_item_is_given_to_the_stage_that_raised_and_to_no_other(state: Path) -> None:
    seen: list[str] = []
    broken = True

    def marking(event: Event) -> Event:
        seen.append(event.message)
        event.message += "!"
        return event

    def picky(event: Event) -> Event:
        if broken and event.message == "b!":
            raise ValueError("not b")
        return event

    out = CollectingExporter()
    receiver = MemoryReceiver(events("a", "b", "c"), size=3)
    plan = a_plan(receiver, [EachItem(marking), EachItem(picky)], {"out": out}, state)
    await run(plan)
    assert (out.messages, seen) == (["a!", "c!"], ["a", "b", "c"])
    broken = False
    ask(state)
    await run(plan)
    await run(plan)
    assert (out.messages, seen) == (["a!", "c!", "b!"], ["a", "b", "c"])
    assert letters(state) == []


async def test_an_item_that_raises_again_is_a_new_letter_with_the_new_reason(state: Path) -> None:
    error = "too long"

    def picky(event: Event) -> Event:
        raise ValueError(error)

    plan = a_plan(MemoryReceiver(events("a")), [EachItem(picky)], {"out": CollectingExporter()}, state)
    await run(plan)
    ask(state)
    error = "too short"
    await run(plan)
    assert [(one.reason, one.origin, one.kind) for one in letters(state)] == [
        ("ValueError: too short", "memory@0", "item")
    ]


async def test_an_item_that_an_exporter_could_not_build_is_built_again(state: Path) -> None:
    class Picky(CollectingExporter):
        broken = True

        def build(self, batch: Any) -> Sequence[Payload]:
            if self.broken and any(item.message == "b" for item in batch.items):
                raise ValueError("no b")
            return super().build(batch)

    out = Picky()
    plan = a_plan(MemoryReceiver(events("a", "b"), size=2), [], {"out": out}, state)
    await run(plan)
    assert out.messages == ["a"]
    out.broken = False
    ask(state)
    await run(plan)
    assert out.messages == ["a", "b"]
    assert letters(state) == []


BAD = Rejected(b"{broken", "no JSON", "memory@7", "memory", 7, 5, (("dagtel-storage-id", b"7"),))


async def test_rejected_input_is_decoded_again_and_enters_the_pipelines(state: Path) -> None:
    given: list[Rejected] = []

    def redecode(options: object, rejected: Rejected) -> list[Event]:
        given.append(rejected)
        return events("mended")

    out = CollectingExporter()
    receiver = MemoryReceiver(events("a"), rejected=[BAD])
    plan = a_plan(receiver, [EachItem(lambda event: event)], {"out": out}, state)
    await run(plan)
    ask(state)
    await run(redecoding(plan, redecode))
    await run(redecoding(plan, redecode))
    assert out.messages == ["a", "mended"]
    assert given == [msgspec.structs.replace(BAD, reason="")]
    assert letters(state) == []


async def test_input_that_is_rejected_again_is_a_new_letter_with_the_new_reason(state: Path) -> None:
    def redecode(options: object, rejected: Rejected) -> list[Event]:
        raise DecodeError("still no JSON")

    plan = a_plan(MemoryReceiver(events("a"), rejected=[BAD]), [], {"out": CollectingExporter()}, state)
    await run(plan)
    (first,) = letters(state)
    ask(state)
    await run(redecoding(plan, redecode))
    (second,) = letters(state)
    assert second.id > first.id
    assert (second.reason, second.body, second.origin) == ("still no JSON", b"{broken", "memory@7")


async def test_a_receiver_that_cannot_decode_again_says_so_and_the_letter_stays(state: Path) -> None:
    plan = a_plan(MemoryReceiver(events("a"), rejected=[BAD]), [], {"out": CollectingExporter()}, state)
    await run(plan)
    before = letters(state)
    ask(state)
    await run(plan)
    assert letters(state) == before
    assert ask(state).asked == 1, "the wish was withdrawn"


async def test_a_letter_waits_while_what_it_is_for_is_not_here(state: Path) -> None:
    out = FlakyExporter(fails=1, error=lambda: PermanentError("no"))
    await run(a_plan(MemoryReceiver(events("a")), [], {"out": out}, state))
    ask(state)
    await run(a_plan(MemoryReceiver(events("a")), [], {"another": CollectingExporter()}, state))
    assert len(letters(state)) == 1
    await run(a_plan(MemoryReceiver(events("a")), [], {"out": out}, state))
    assert out.messages == ["a"]


async def test_a_crash_before_the_commit_leaves_the_letter_and_nothing_of_its_effects(state: Path) -> None:
    out = FlakyExporter(fails=1, error=lambda: PermanentError("no"))
    plan = a_plan(MemoryReceiver(events("a")), [], {"out": out}, state)
    await run(plan)
    ask(state)
    for _ in range(3):
        async with harness(plan, state, VirtualClock()) as life:
            (letter,) = life.store.to_replay(0)
            life.outboxes["out"].resend(Payload(letter.body, 1))
            life.engine.replayed(letter.id)
            await life.barrier()  # and it dies before it is written
    async with harness(plan, state, VirtualClock()) as life:
        assert life.store.waiting() == []
        (letter,) = life.store.to_replay(0)
        life.outboxes["out"].resend(Payload(letter.body, 1))
        life.engine.replayed(letter.id)
        (row,) = await life.commit()
        assert row.payload.body == letter.body
    async with harness(plan, state, VirtualClock()) as life:
        assert life.store.to_replay(0) == []
        assert [one.id for one in life.store.waiting()] == [row.id]


async def test_a_letter_that_another_process_has_replayed_since_it_was_looked_for_comes_no_second_time(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = FlakyExporter(fails=1, error=lambda: PermanentError("no"))
    plan = a_plan(MemoryReceiver(events("a")), [], {"out": out}, state)
    await run(plan)
    ask(state)
    look = StateStore.to_replay

    def looked(store: StateStore, after: int) -> list[DeadLetter]:
        found = look(store, after)
        store.commit(Commit(replayed=[letter.id for letter in found]))  # as the owner of the shard then does
        return found

    monkeypatch.setattr(StateStore, "to_replay", looked)
    await run(plan)
    assert (out.messages, letters(state)) == ([], [])


async def test_a_running_daemon_replays_what_is_asked_beside_it(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.runtime.replay.POLL_S", 0.01)
    out = FlakyExporter(fails=3, error=lambda: PermanentError("no"))
    one_each = {"out": Delivery(sending_queue=SendingQueue(batch=QueueBatch(max_size=1)))}
    plan = a_plan(MemoryReceiver(events(*"abcdef"), size=2), [], {"out": out}, state, delivery=one_each)

    async def asking() -> None:
        with open_beside(str(state)) as beside:
            assert beside.in_use
            while len(out.messages) < 6:
                ask_for_replay(beside.engine, Choice(), partly=False)
                await anyio.sleep(0.01)
        scope.cancel()

    with anyio.fail_after(20), anyio.CancelScope() as scope:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run_service, plan, False, no_web)
            while out.left:  # all three refusals
                await anyio.sleep(0.01)
            await asking()
    assert sorted(out.messages) == list("abcdef")
