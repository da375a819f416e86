"""A closed valve lets no call begin and is still once those under way are over and acknowledged."""

import anyio
import pytest

from pipeline.components import Payload
from pipeline.runtime.valve import Valve
from pipeline.store.state import Ack
from pipeline.testing.fakes import CollectingExporter

pytestmark = pytest.mark.anyio
PAYLOAD = Payload(b'["a"]', 1)


class Slow(CollectingExporter):
    def __init__(self) -> None:
        super().__init__()
        self.go = anyio.Event()

    async def send(self, payload: Payload) -> bytes | None:
        await self.go.wait()
        return await super().send(payload)


async def test_it_is_still_only_when_the_call_and_its_acknowledgement_are_over() -> None:
    exporter, committing, acknowledged = Slow(), anyio.Event(), list[int]()

    async def ack(ack: Ack, now: bool) -> None:
        await committing.wait()
        acknowledged.append(ack.id)

    valve = Valve(exporter, ack)

    async def deliver(id: int) -> None:
        await valve.send(PAYLOAD)
        await valve.ack(Ack(id, "out"), True)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(deliver, 1)
        await anyio.wait_all_tasks_blocked()
        valve.close()
        tasks.start_soon(deliver, 2)
        still = anyio.Event()

        async def wait() -> None:
            await valve.still()
            assert acknowledged == [1]
            still.set()

        tasks.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        assert not still.is_set()
        exporter.go.set()
        await anyio.wait_all_tasks_blocked()
        assert not still.is_set(), "sent, and not acknowledged yet"
        committing.set()
        await still.wait()
        await anyio.wait_all_tasks_blocked()
        assert len(exporter.payloads) == 1, "no call begins behind a closed valve"
        valve.open()
    assert acknowledged == [1, 2]


async def test_it_is_still_at_once_when_nothing_is_under_way() -> None:
    async def ack(ack: Ack, now: bool) -> None: ...

    valve = Valve(CollectingExporter(), ack)
    valve.close()
    with anyio.fail_after(5):
        await valve.still()
