"""The senders' turn at a backend that was left alone. Time is the event loop's own and jumps: no test waits."""

import anyio
import looptime
import pytest

from pipeline.delivery import CircuitBreaker
from pipeline.options import Duration
from pipeline.runtime.breaker import Breaker
from pipeline.runtime.gate import Gate

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "asyncio", {"loop_factory": looptime.new_event_loop}


async def shut(failures: int = 1) -> Gate:
    gate = Gate(Breaker(CircuitBreaker(failures=failures, cool_down=Duration("10s"))))
    for _ in range(failures):
        gate.failed(await gate.enter(0), None)
    return gate


async def test_of_all_that_wait_one_goes_first_and_the_others_follow_its_success() -> None:
    gate = await shut()
    began = anyio.current_time()
    entered: list[tuple[str, float]] = []

    async def sender(name: str, failures: int) -> None:
        call = await gate.enter(failures)
        entered.append((name, round(anyio.current_time() - began)))
        await anyio.sleep(3)
        gate.answered(call)

    async with anyio.create_task_group() as tasks:
        for name, failures in (("often", 9), ("twice", 2), ("fresh", 0), ("once", 1)):
            tasks.start_soon(sender, name, failures)
    assert entered[0] == ("fresh", 10), "who failed least goes first"
    assert sorted(entered[1:]) == [("often", 13), ("once", 13), ("twice", 13)]


async def test_while_the_probe_fails_there_is_one_call_a_cool_down_whatever_the_senders() -> None:
    gate = await shut()
    began = anyio.current_time()
    calls: list[float] = []

    async def sender() -> None:
        for failures in range(1, 100):
            call = await gate.enter(failures)
            calls.append(round(anyio.current_time() - began))
            gate.failed(call, None)

    with anyio.move_on_after(65):
        async with anyio.create_task_group() as tasks:
            for _ in range(4):
                tasks.start_soon(sender)
    assert calls == [10, 20, 30, 40, 50, 60]


async def test_a_payload_that_fails_again_and_again_does_not_keep_a_fresh_one_from_the_probe() -> None:
    gate = await shut()

    async def poison() -> None:
        for failures in range(1, 100):
            gate.failed(await gate.enter(failures), None)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(poison)
        await anyio.sleep(25)
        with anyio.fail_after(6):
            await gate.enter(0)
        tasks.cancel_scope.cancel()


async def test_a_sender_that_is_cancelled_in_the_line_leaves_it() -> None:
    gate = await shut()
    with anyio.move_on_after(1):
        await gate.enter(0)
    with anyio.fail_after(10):
        await gate.enter(5)
