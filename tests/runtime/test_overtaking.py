"""What a newer message makes pointless is not sent, whatever happens to the process."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.batch import Batch
from pipeline.components import Context, ExporterSpec, Payload, Receipt
from pipeline.errors import RetryableError
from pipeline.runtime.overtaking import Entry, Overtaking
from pipeline.store.state import StateStore
from pipeline.testing.fakes import CollectingExporter, MemoryReceiver, a_plan, events
from pipeline.topology.plan import Plan
from tests.runtime.test_service import QUICK, run

pytestmark = pytest.mark.anyio
RANKS = {"digest": 1, "firing": 2, "escalated": 3, "resolved": 4}


class Notifier(CollectingExporter):
    """A message "p digest" is a payload of the life p; "* a b" ends the lives a and b. `away`: it takes nothing."""

    def __init__(self, away: Sequence[str] = ()) -> None:
        super().__init__()
        self.away = tuple(away)

    def build(self, batch: Batch[Any]) -> Sequence[Payload]:
        return [self._payload(item.message) for item in batch.items]

    def _payload(self, said: str) -> Payload:
        life, *rest = said.split()
        body = msgspec.json.encode([said])
        if life == "*":
            return Payload(body, 1, key="k", ends=tuple(rest))
        return Payload(body, 1, key="k", life=life, rank=RANKS[rest[0]]) if rest else Payload(body, 1, key="k")

    async def send(self, payload: Payload) -> Receipt | None:
        (said,) = msgspec.json.decode(payload.body)
        if any(said.startswith(start) for start in self.away):
            raise RetryableError("away")
        return await super().send(payload)


def told(exporter: Any, said: Sequence[str], state: Path, **more: Any) -> Plan:
    plan = a_plan(
        MemoryReceiver(events(*said), size=100), [], {"out": exporter}, state, delivery={"out": QUICK}, **more
    )
    node = plan.exporters["out"]
    spec = msgspec.structs.replace(node.spec, serial=True, urgent=True)
    return msgspec.structs.replace(plan, exporters={"out": msgspec.structs.replace(node, spec=spec)})


@pytest.mark.parametrize(
    ("waiting", "sent"),
    [
        (["p firing", "p digest", "p resolved"], ["p resolved"]),
        (["p firing", "p digest", "p digest"], ["p firing", "p digest"]),
        (["p firing", "p digest", "p escalated", "p digest"], ["p escalated", "p digest"]),
        (["p firing", "q firing", "p resolved"], ["q firing", "p resolved"]),
        (["p#1 resolved", "p#2 firing"], ["p#1 resolved", "p#2 firing"]),
        (["p firing", "q firing", "* p"], ["q firing", "* p"]),
        (["alone", "alone"], ["alone", "alone"]),
    ],
)
async def test_of_what_waits_together_only_what_says_something_is_sent(
    waiting: list[str], sent: list[str], tmp_path: Path
) -> None:
    out = Notifier()
    assert await run(told(out, waiting, tmp_path / "state.db")) == 0
    assert out.messages == sent


async def test_a_message_that_is_tried_again_and_again_gives_way_to_the_end(tmp_path: Path) -> None:
    out = Notifier(away=["p firing"])  # for ever: without giving way the run would not end
    plan = told(out, ["p firing", "p resolved"], tmp_path / "state.db")
    assert await run(plan) == 0
    assert out.messages == ["p resolved"]


async def test_what_an_earlier_process_left_is_overtaken_by_what_it_left_later_and_by_what_comes_now(
    tmp_path: Path,
) -> None:
    state = tmp_path / "state.db"
    left = ["p firing", "q firing", "r firing", "p resolved", "r digest"]
    first = told(Notifier(away=["p", "q", "r"]), left, state, shutdown_timeout="300ms")
    assert await run(first) == 1
    store = StateStore(state)
    assert 2 <= len(store.waiting()) <= len(left)
    store.close()
    out = Notifier(away=["q firing"])
    assert await run(told(out, [*left, "q resolved"], state)) == 0
    assert out.messages == ["r firing", "p resolved", "r digest", "q resolved"]
    assert await run(told(again := Notifier(), [*left, "q resolved"], state)) == 0
    assert again.messages == []


marks = st.tuples(st.sampled_from(["", "a", "b"]), st.integers(0, 3), st.sets(st.sampled_from(["a", "b"]), max_size=2))


@given(st.lists(marks, max_size=12), st.data())
def test_exactly_what_a_newer_one_of_its_life_outranks_or_ends_is_overtaken(
    made: list[tuple[str, int, set[str]]], data: st.DataObject
) -> None:
    overtaking = Overtaking()
    entries = [Entry(100 - id, 0, None) for id in range(len(made))]  # ids say nothing of the order
    later = []
    for entry, (life, rank, ends) in zip(entries, made, strict=True):
        payload = Payload(b"", 1, life=life, rank=rank, ends=tuple(ends))
        unread = data.draw(st.booleans())
        overtaking.add(entry, None if unread else payload)
        if unread:
            later.append((entry, payload))
    for entry, payload in data.draw(st.permutations(later)):
        assert overtaking.unknown(entry)
        overtaking.know(entry, payload)
    gone = data.draw(st.sets(st.sampled_from(range(len(made))))) if made else set()
    for id in gone:
        overtaking.remove(entries[id].id)
    for id, (life, rank, _) in enumerate(made):
        newer = [made[n] for n in range(id + 1, len(made)) if n not in gone]
        pointless = bool(life) and any(
            life in ends or (life == other and higher >= rank) for other, higher, ends in newer
        )
        if id not in gone:
            assert overtaking.overtaken(entries[id]) == pointless
    for entry in entries:
        overtaking.remove(entry.id)
    assert vars(overtaking) | {"_next": 0} == vars(Overtaking())


async def test_an_exporters_side_input_is_polled_while_it_sends(tmp_path: Path) -> None:
    calls: list[int] = []
    enough = anyio.Event()

    class Waiting(CollectingExporter):
        async def send(self, payload: Payload) -> Receipt | None:
            await enough.wait()
            return await super().send(payload)

    @asynccontextmanager
    async def build(options: object, context: Context) -> AsyncIterator[Any]:
        async def fetch() -> int:
            calls.append(len(calls))
            if len(calls) == 2:
                raise RetryableError("away for once")
            return len(calls)

        def apply(count: int) -> None:
            if count >= 3:
                enough.set()

        context.side_input("count", 0.001, fetch, apply)
        yield Waiting()

    plan = told(Notifier(), ["a"], tmp_path / "state.db")
    node = plan.exporters["out"]
    assert isinstance(node.spec, ExporterSpec)
    node = msgspec.structs.replace(node, spec=msgspec.structs.replace(node.spec, build=build))
    assert await run(msgspec.structs.replace(plan, exporters={"out": node})) == 0
    assert calls[:3] == [0, 1, 2]
