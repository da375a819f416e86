"""What scrapes see of each series, whatever happens in which order: 0 first, and never less than before."""

from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final, Literal, cast, get_args

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from exporters.prometheus import SPEC, Prometheus, PrometheusConfig
from pipeline.batch import WHOLE, Batch
from pipeline.clock import SECOND
from pipeline.components import Payload, Receipt
from pipeline.signals import Sample
from pipeline.testing.context import FakeContext
from tests.exporters.test_prometheus import samples_of, scrape

pytestmark = pytest.mark.anyio

Step = Literal["a", "b", "barrier", "commit", "send", "scrape", "kill", "sent", "shown"]
STEPS: Final[tuple[Step, ...]] = get_args(Step)


class World:
    """A service, its state store and Prometheus. Series count by their names; `seen` is what scrapes have shown."""

    def __init__(self) -> None:
        self.now = 1_700_000_000 * SECOND
        self.values: dict[str, tuple[int, int]] = {}  # value and time when it began
        self.stored: dict[str, tuple[int, int]] = {}
        self.waiting: list[Payload] = []
        self.acked = 0
        self.receipt: Receipt | None = None
        self.given: list[Receipt | None] = []
        self.seen: dict[str, list[float]] = defaultdict(list)

    @asynccontextmanager
    async def life(self) -> AsyncIterator["Life"]:
        context = FakeContext("prometheus", receipt=self.receipt)
        async with SPEC.build(PrometheusConfig(), context) as exporter:
            yield Life(self, context, cast("Prometheus", exporter))


class Life:
    """One process. What it has not stored when it is killed, its successor does not know."""

    def __init__(self, world: World, context: FakeContext, exporter: Prometheus) -> None:
        self.world, self.context, self.exporter = world, context, exporter
        world.values, world.acked, world.given = dict(world.stored), 0, []
        self.changed = dict.fromkeys(world.values, False)  # a start gives all; True: it begins
        self.moment: tuple[dict[str, tuple[int, int]], list[Payload], int, list[Receipt | None]] | None = None

    def count(self, name: str) -> None:
        world = self.world
        value, since = world.values.get(name, (0, world.now))
        self.changed.setdefault(name, name not in world.values)
        world.values[name] = (value + 1, since)

    def barrier(self) -> None:
        """One moment: the state, the payloads of what has changed, what was delivered and what was given back."""
        self.commit()
        world = self.world
        samples = [self.sample(name, begins) for name, begins in self.changed.items()]
        built = list(self.exporter.build(Batch(samples, WHOLE, world.now)))
        self.moment = dict(world.values), built, world.acked, world.given
        self.changed, world.given = {}, []

    def commit(self) -> None:
        """It is stored, if it is not yet."""
        if self.moment is None:
            return
        world = self.world
        world.stored, built, acked, receipts = self.moment
        world.waiting = world.waiting[acked:] + built
        world.acked -= acked
        for receipt in receipts:
            world.receipt = self.context.receipt = receipt
        self.moment = None

    def sample(self, name: str, begins: bool) -> Sample:
        value, since = self.world.values[name]
        return Sample("runs_total", "counter", (("job", name),), float(value), self.world.now, "", since, begins)

    async def send(self) -> None:
        world = self.world
        if world.acked < len(world.waiting):
            world.given.append(await self.exporter.send(world.waiting[world.acked]))
            world.acked += 1

    async def scrape(self) -> None:
        for (_, labels), value in samples_of((await scrape(self.exporter)).text).items():
            self.world.seen[dict(labels)["job"]].append(value)
        self.world.given += self.context.receipts
        self.context.receipts.clear()

    async def sent(self) -> None:
        """All that is needed until what has been counted is published."""
        self.barrier()
        self.commit()
        while self.world.acked < len(self.world.waiting):
            await self.send()

    async def shown(self) -> None:
        """… and until values are shown."""
        for _ in range(3):
            await self.sent()
            await self.scrape()

    async def take(self, step: Step) -> None:
        if step in ("barrier", "commit"):
            getattr(self, step)()
        elif step in ("send", "scrape", "sent", "shown"):
            await getattr(self, step)()
        else:
            self.count(step)


@settings(deadline=None, max_examples=300)
@given(st.lists(st.sampled_from(STEPS), max_size=30))
@example(["a", "sent", "barrier", "scrape", "commit", "scrape", "kill"])  # a receipt of before the scrape is stored
async def test_increase_is_the_truth_whenever_it_is_killed(steps: list[Step]) -> None:
    world = World()
    async with AsyncExitStack() as stack:
        life = await stack.enter_async_context(world.life())
        for step in steps:
            world.now += SECOND
            if step == "kill":
                life = await stack.enter_async_context(world.life())
            else:
                await life.take(step)
        await life.shown()
    for name, values in world.seen.items():
        assert values[0] == 0, f"{name} begins with {values}"
        assert values == sorted(values), f"{name} goes back in {values}"
        assert values[-1] == world.stored[name][0]
    assert world.seen.keys() == world.stored.keys()
