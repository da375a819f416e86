"""Processes that share a store, in one: a shard that is taken over, and what becomes of who had it."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest

from pipeline.components import Intake, Payload, Position, Read, Receipt
from pipeline.config.model import PostgresqlState, StateConfig
from pipeline.delivery import CircuitBreaker, Delivery, RetryOnFailure
from pipeline.errors import RetryableError, StateError
from pipeline.options import Duration, Secret
from pipeline.runtime.launch import run_service
from pipeline.store.records import Commit
from pipeline.store.state import StateStore, replaced_by
from pipeline.testing.fakes import CollectingExporter, MemoryReceiver, a_plan, events
from pipeline.topology.plan import Plan
from tests.store.conftest import PostgresPlace
from tests.store.conftest import postgres as postgres

pytestmark = pytest.mark.anyio
QUICK = Delivery(
    retry_on_failure=RetryOnFailure(initial_interval=Duration("1ms"), max_interval=Duration("2ms")),
    circuit_breaker=CircuitBreaker(cool_down=Duration("2ms")),
)


@asynccontextmanager
async def no_web(mounts: Mapping[str, Any]) -> AsyncIterator[None]:
    yield


def shared(plan: Plan, place: PostgresPlace) -> Plan:
    state = StateConfig(postgresql=PostgresqlState(url=Secret(place.server), schema=place.schema))
    return msgspec.structs.replace(plan, service=msgspec.structs.replace(plan.service, state=state))


class Away(CollectingExporter):
    """A backend that is away; `calls` were made all the same."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    async def send(self, payload: Payload) -> Receipt | None:
        self.calls += 1
        raise RetryableError("away")


async def until(holds: Any) -> None:
    with anyio.fail_after(30):
        while not holds():
            await anyio.sleep(0.005)


@pytest.mark.integration
async def test_whose_shard_was_taken_over_calls_nobody_any_more_and_its_successor_sends_what_it_had(
    postgres: PostgresPlace, tmp_path: Path
) -> None:
    away, there, told, calls_then = Away(), CollectingExporter(), list[str](), list[int]()

    async def stale() -> None:
        plan = a_plan(MemoryReceiver(events("a", "b")), [], {"out": away}, tmp_path, delivery={"out": QUICK})
        with pytest.raises(StateError, match="shard memory has been taken over by another process"):
            await run_service(shared(plan, postgres), False, no_web)
        told.append("ended")

    class Successor(MemoryReceiver):
        async def run(self, intake: Intake[Any]) -> None:
            assert await intake.assign(["memory"]) == {"memory": Position(2)}
            calls_then.append(away.calls)
            await anyio.sleep_forever()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stale)
        await until(lambda: away.calls > 3)
        tasks.start_soon(
            run_service, shared(a_plan(Successor([]), [], {"out": there}, tmp_path), postgres), False, no_web
        )
        await until(lambda: there.messages == ["a", "b"] and told == ["ended"])
        tasks.cancel_scope.cancel()
    # one may have been under way between its look and its answer
    assert away.calls - calls_then[0] <= QUICK.sending_queue.num_consumers


async def test_a_receiver_that_wants_to_give_up_its_shards_does_not_wait_for_a_driver_that_has_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused: list[str] = []
    commit = StateStore.commit

    def taken_over(store: StateStore, what: Commit) -> None:
        if what.positions:
            raise replaced_by("memory")
        commit(store, what)

    class Leaving:
        """As the kafka receiver of a member that leaves."""

        async def run(self, intake: Intake[Any]) -> None:
            await intake.assign(["memory"])
            try:
                await intake.put(Read("memory", events("a"), Position(1)))
                await anyio.sleep_forever()
            finally:
                with anyio.fail_after(30, shield=True):
                    try:
                        await intake.revoke(["memory"])
                    except StateError as error:
                        refused.append(str(error))

    monkeypatch.setattr(StateStore, "commit", taken_over)
    plan = a_plan(Leaving(), [], {"out": CollectingExporter()}, tmp_path / "state.db")
    with pytest.raises(StateError, match="taken over by another process"):
        await run_service(plan, False, no_web)
    assert refused == ["the daemon is ending after a failure"]
