"""The laws of what works between receivers and exporters: `ProcessorContract` and `ConnectorContract`.

All of them are held on the runtime's own stage with real state tables. Most compare two lives of the component that
had the same items: cut into other batches, restarted in between, or with a call that raised. What the two gave must
be equal; a component that may differ in some way says so in `told`.
"""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

import anyio
import msgspec
from hypothesis import strategies as st

from pipeline.batch import Batch
from pipeline.clock import HOUR
from pipeline.components import ConnectorSpec, Finishes, Flushes, ProcessorSpec, Timed, given_by
from pipeline.events import Event
from pipeline.lineage import Catalog
from pipeline.signals import Signal
from pipeline.testing import strategies
from pipeline.testing.broken import broken
from pipeline.testing.builders import START_NS
from pipeline.testing.contract_spec import SpecContract, law
from pipeline.testing.rig import Rig, StageSpec, fresh, rig
from pipeline.topology.registry import Registry

_ANNOTATIONS = frozenset({"now_ns", "attempt", "assets", "outcomes", "run", "catalog"})
"""What a processor may set of an event; the rest is what was read."""
_WAITS = st.sampled_from([0, 2 * HOUR, 60 * HOUR])


class StageContract(SpecContract):
    """What processors and connectors have in common."""

    spec: Any
    """A ProcessorSpec or a ConnectorSpec."""
    may_set: frozenset[str] = frozenset()
    """Fields of an event that the component sets."""
    counts_calls: frozenset[str] = frozenset()
    """Tables that count calls, to notice one that was undone; they say nothing of items and are not compared."""

    def items(self) -> st.SearchStrategy[list[Any]]:
        """Items that flow here. By default those of the signal that it takes, behind the processors that it needs."""
        return _understood(strategies.items(self.signals()[0]), self.spec.needs)

    def signals(self) -> list[Signal]:
        """What it takes."""
        raise NotImplementedError

    def given_types(self, item: Any) -> tuple[type, ...]:
        """What it may give when it has had items like this one."""
        raise NotImplementedError

    def told(self, given: Sequence[Any]) -> Any:
        """What counts of what it gave when two lives are compared. Override it to leave out what may differ."""
        return [_comparable(item) for item in given]

    # --- batches ---

    def test_an_empty_batch_gives_nothing_and_changes_nothing(self) -> None:
        async def run() -> None:
            async with self._life() as life:
                before = self._state(life)
                given = _items(await life.component.process(Batch((), "whole", START_NS)))
                assert not given, f"an empty batch gave {given}"
                assert self._state(life) == before, "an empty batch changed its state"

        with self.world():
            anyio.run(run)

    @law(20)
    def test_what_it_gives_is_of_its_signal(self, data: st.DataObject) -> None:
        items = data.draw(self.items())

        async def run() -> None:
            async with self._life() as life:
                await life.push(fresh(items))
                await life.wait(60 * HOUR)
                await life.barrier()
                await life.stage.finish(life.now_ns)
                allowed = tuple({each for item in items for each in self.given_types(item)})
                foreign = [item for item in life.given if not isinstance(item, allowed)] if items else []
                assert not foreign, f"gave {type(foreign[0]).__name__}, which is not of its signal"
                assert not life.dead, f"raised on {life.dead[0]!r}"

        with self.world():
            anyio.run(run)

    @law(15)
    def test_it_leaves_its_input_as_it_was(self, data: st.DataObject) -> None:
        items = data.draw(self.items())

        async def run() -> None:
            async with self._life() as life:
                handed = fresh(items)
                before, same = [_shown(item, self.may_set) for item in handed], list(handed)
                await life.component.process(Batch(handed, "whole", START_NS))
                assert [id(item) for item in handed] == [id(item) for item in same], "it changed the list of items"
                changed = [item for item, was in zip(handed, before, strict=True) if _shown(item, self.may_set) != was]
                assert not changed, f"it changed an item that others read, too: {changed[0]!r}"

        with self.world():
            anyio.run(run)

    @law(15)
    def test_batch_boundaries_do_not_matter(self, data: st.DataObject) -> None:
        items = data.draw(self.items())
        barrier = data.draw(_places(items))
        one, other, wait = data.draw(_cuts(items)), data.draw(_cuts(items)), data.draw(_WAITS)

        async def run(cuts: list[int]) -> Any:
            async with self._life() as life:
                await life.barrier()
                first, second = fresh(items[:barrier]), fresh(items[barrier:])
                await life.push_cut(first, [cut for cut in cuts if cut < barrier])
                await life.barrier()
                await life.push_cut(second, [cut - barrier for cut in cuts if cut > barrier])
                await life.wait(wait)
                await life.barrier()
                return self.told(life.taken())

        with self.world():
            assert anyio.run(run, one) == anyio.run(run, other), f"batches cut at {one} and at {other} differ"

    # --- raising ---

    @law(15)
    def test_an_item_that_raises_leaves_no_trace(self, data: st.DataObject) -> None:
        items = data.draw(self.items())
        if not items:
            return
        places = data.draw(st.lists(_places(items[:-1]), min_size=1, max_size=6))
        poisons = [(place, data.draw(broken(items[place]))) for place in places]

        async def run() -> None:
            for place, poison in poisons:
                await self._survives(items[:place], poison, items[place + 1 :])

        with self.world():
            anyio.run(run)

    async def _survives(self, before: list[Any], poison: Any, after: list[Any]) -> None:
        """A life with a broken item is as one without it."""
        async with self._life() as life, self._life() as other:
            (handed,) = fresh([poison])
            await life.push([*fresh(before), handed, *fresh(after)])
            if not any(item is handed for item in life.dead):
                return  # nobody looked at what is broken, so it may come to light anywhere
            assert len(life.dead) == 1, "more than the item that raised went to the dead letters"
            left = fresh([*before, *after])
            await other.push_cut(left, range(len(left)))
            other.now_ns = life.now_ns  # time went on with the broken item, too, and its timers fired
            for each in (life, other):
                await each.wait(0)
            assert self._state(life) == self._state(other), "a call that raised left something in the state tables"
            for each in (life, other):
                await each.wait(60 * HOUR)
                await each.barrier()
            one, two = self.told(life.taken()), self.told(other.taken())
            assert one == two, "a call that raised left something behind: keep no state beside the tables"

    # --- state ---

    @law(15)
    def test_a_restart_changes_nothing_of_what_follows(self, data: st.DataObject) -> None:
        items = data.draw(self.items())
        crash = data.draw(_places(items))
        lost, wait = data.draw(st.integers(0, 5)), data.draw(_WAITS)

        async def run() -> None:
            async with self._life() as steady, self._life() as first:
                for each in (steady, first):
                    await each.barrier()
                    await each.push(fresh(items[:crash]))
                    await each.barrier()
                await first.push(fresh(items[crash : crash + lost]))
                async with self._life(first) as second:
                    second.now_ns = steady.now_ns
                    for each in (steady, second):
                        await each.barrier()  # after a start, the first flush may say again what was said before
                        each.taken()
                        await each.push(fresh(items[crash:]))
                        await each.wait(wait)
                        await each.barrier()
                    assert self.told(second.taken()) == self.told(steady.taken()), (
                        f"after a restart behind {crash} items it gives something else: keep all state in tables"
                    )

        with self.world():
            anyio.run(run)

    @law(15)
    def test_what_it_stores_is_read_back_equal(self, data: st.DataObject) -> None:
        items = data.draw(self.items())

        async def run() -> None:
            async with self._life() as life:
                await life.push(fresh(items))
                await life.barrier()
                kept = self._state(life)
                async with self._life(life) as again:
                    assert self._state(again) == kept, "a table reads back something else than was put into it"

        with self.world():
            anyio.run(run)

    # --- timers and last words ---

    @law(15)
    def test_its_timers_go_forward(self, data: st.DataObject) -> None:
        items = data.draw(self.items())

        async def run() -> None:
            async with self._life() as life:
                timed = life.component
                if not isinstance(timed, Timed):
                    return
                for item in fresh(items):
                    await life.stage.fire(getattr(item, "now_ns", 0))
                    before = timed.due()
                    await timed.process(Batch((item,), "whole", getattr(item, "now_ns", 0)))  # type: ignore[attr-defined]
                    _check_lead(timed, before, getattr(item, "now_ns", 0))
                for _ in range(5):
                    await self._check_one_timer(life, timed)

        with self.world():
            anyio.run(run)

    @law(15)
    def test_a_second_last_word_says_nothing_new(self, data: st.DataObject) -> None:
        items = data.draw(self.items())

        async def run() -> None:
            async with self._life() as life:
                await life.push(fresh(items))
                for kind, call in (("flush", life.stage.flush), ("finish", life.stage.finish)):
                    await call(life.now_ns)
                    life.taken()
                    await call(life.now_ns)
                    again = life.taken()
                    assert not again, f"a second {kind} at the same moment gave {again[0]!r} once more"
                assert not life.dead, "a last word raised"

        with self.world():
            anyio.run(run)

    def test_it_has_its_optional_methods_whole(self) -> None:
        async def run() -> None:
            async with self._life() as life:
                for names, kind in (
                    (("due", "on_time", "lead_ns"), Timed),
                    (("flush",), Flushes),
                    (("finish",), Finishes),
                ):
                    some = [name for name in names if hasattr(life.component, name)]
                    assert not some or isinstance(life.component, kind), f"has {some} but not all of {names}"

        with self.world():
            anyio.run(run)

    # --- how ---

    def _life(self, before: Rig | None = None) -> AbstractAsyncContextManager[Rig]:
        """A life of the component; behind `before` it goes on from what that one stored."""
        return rig(self.spec, self.options(), before.memory.restart() if before else None)

    def _state(self, life: Rig) -> dict[str, dict[Any, Any]]:
        return {name: rows for name, rows in life.state().items() if name not in self.counts_calls}

    async def _check_one_timer(self, life: Rig, timed: Timed[Any]) -> None:
        due = timed.due()
        if due is None:
            return
        before = self._state(life)
        assert not await timed.on_time(due - 1), "on_time gave something before it was due"
        assert self._state(life) == before, "on_time changed state before it was due"
        later = timed.due()
        assert later is None or later >= due, f"due() said {due}, on_time before that made it {later}"
        await timed.on_time(due)
        after = timed.due()
        assert after is None or after > due, f"on_time({due}) left a timer due at {after} in place"


class ProcessorContract(StageContract):
    """A processor: items of a signal in, items of the same signal out."""

    spec: ProcessorSpec[Any]
    may_set = _ANNOTATIONS

    def signals(self) -> list[Signal]:
        return [signal for signal in Signal if signal in self.spec.takes]

    def items(self) -> st.SearchStrategy[list[Any]]:
        each = [_understood(strategies.items(signal), self.spec.needs) for signal in self.signals()]
        return st.one_of(each)

    def given_types(self, item: Any) -> tuple[type, ...]:
        return next(types for types in strategies.ITEM_TYPES.values() if isinstance(item, types))


class ConnectorContract(StageContract):
    """A connector: items of one signal in, items of another out. Siblings read the same items: none may be changed."""

    spec: ConnectorSpec[Any]

    def signals(self) -> list[Signal]:
        return [self.spec.takes]

    def given_types(self, item: Any) -> tuple[type, ...]:
        return tuple(each for signal in given_by(self.spec) for each in strategies.ITEM_TYPES[signal])


def _understood(items: st.SearchStrategy[list[Any]], needs: Sequence[str]) -> st.SearchStrategy[list[Any]]:
    """The items as the processors that are needed before leave them."""
    if not needs:
        return items
    registry = Registry.installed()
    specs: list[Any] = [registry.spec("processors", name) for name in needs]
    return items.map(lambda drawn: anyio.run(_through, specs, drawn))


async def _through(specs: Sequence[StageSpec], items: list[Any]) -> list[Any]:
    for spec in specs:
        async with rig(spec, spec.config()) as before:
            await before.push(fresh(items))
            items = before.taken()
    return items


def _places(items: Sequence[Any]) -> st.SearchStrategy[int]:
    return st.integers(0, len(items))


def _cuts(items: Sequence[Any]) -> st.SearchStrategy[list[int]]:
    return st.lists(_places(items), max_size=4) | st.just(list(range(len(items))))


def _items(result: Any) -> Sequence[Any]:
    found: Sequence[Any] = result.items if isinstance(result, Batch) else result
    return found


def _comparable(item: Any) -> Any:
    """A catalog is compared by what it says; no two lives share one."""
    if not isinstance(item, Event) or not isinstance(item.catalog, Catalog):
        return item
    return msgspec.structs.replace(item, catalog=None), item.catalog.assets, item.catalog.exposures


def _shown(item: Any, but: frozenset[str]) -> Any:
    """All of an item that must stay, down to the dicts within."""
    if not isinstance(item, Event):
        return repr(item)
    return [repr(getattr(item, name)) for name in item.__struct_fields__ if name not in but]


def _check_lead(timed: Timed[Any], before: int | None, at_ns: int) -> None:
    after = timed.due()
    if after is not None and (before is None or after < before):
        assert after >= at_ns + timed.lead_ns, (
            f"an item set a timer {after - at_ns} ns ahead, lead_ns promises {timed.lead_ns}"
        )
