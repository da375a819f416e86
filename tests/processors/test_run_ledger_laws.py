"""Laws that hold for every log, however it is cut, repeated, mixed or interrupted."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from pipeline.batch import Batch
from pipeline.events import Event
from pipeline.options import Duration
from pipeline.outcomes import AssetFailed, AssetMaterialized, AssetSkipped, Outcome, RunEnded, StepEnded
from pipeline.testing.builders import CHECK_FAILED, INTERRUPTED, START_NS, Fault, Log
from pipeline.testing.context import FakeContext
from processors.run_ledger import RunLedger, RunLedgerConfig

HOUR = 3600 * 1_000_000_000
CONFIG = RunLedgerConfig(run_timeout=Duration("1h"))
Action = Callable[[Log], Log]

STEPS = ("a", "b", "g.first", "g.last", "x[y]")
ASSETS = {"raw/x": "a", "raw/y": "a", "mart/z": "b", "graph": "g.last"}


def actions() -> list[Action]:
    per_step: list[Action] = [
        action
        for step in STEPS
        for action in (
            partial(Log.step_start, step=step),
            partial(Log.step_restarted, step=step),
            partial(Log.step_up_for_retry, step=step),
            partial(Log.step_success, step=step),
            partial(Log.step_failure, step=step),
            partial(Log.step_failure, step=step, error=INTERRUPTED, source="INTERRUPT"),
            partial(Log.step_failure, step=step, error=CHECK_FAILED),
            partial(Log.not_executed, step=step, because="a"),
            partial(Log.step_output, step=step),
            partial(Log.handled_output, step=step),
            partial(Log.marker, type="STEP_WORKER_STARTING", start="go", step=step),
            partial(Log.marker, type="STEP_WORKER_STARTED", end="go", step=step),
        )
    ]
    per_asset: list[Action] = [
        action
        for asset, step in ASSETS.items()
        for action in (
            partial(Log.plan, asset=asset, step=step),
            partial(Log.materialize, asset=asset, step=step, metadata={"dagster/row_count": 5}),
            partial(Log.observe, asset=asset, step=step),
            partial(Log.plan_check, asset=asset, check="c", step=step),
            partial(Log.check, asset=asset, check="c", passed=False, step=step),
        )
    ]
    of_run: list[Action] = [
        Log.run_queued, Log.run_starting, Log.run_start, Log.run_success, Log.run_canceled,
        partial(Log.run_failure, error=Fault()), partial(Log.log, message="hello"),
    ]  # fmt: skip
    return [*per_step, *per_asset, *of_run]


def likely(run: str, attempts: list[tuple[str, int, bool]], end: str) -> Log:
    """A run as Dagster writes it: planned, its steps one after another, its end."""
    log = Log(run).run_queued().run_starting()
    for asset, step in ASSETS.items():
        log.plan(asset, step)
    log.run_start()
    for step, retries, well in attempts:
        log.marker("STEP_WORKER_STARTING", start="go", step=step).step_start(step)
        for retry in range(retries):
            log.step_up_for_retry(step).step_restarted(step, retry + 2)
        for asset in (asset for asset, maker in ASSETS.items() if maker == step and well):
            log.materialize(asset, step)
        log = log.step_success(step) if well else log.step_failure(step)
    return {"success": log.run_success, "failure": log.run_failure, "canceled": log.run_canceled, "": lambda: log}[
        end
    ]()


def wild(run: str, chosen: list[Action]) -> Log:
    log = Log(run)
    for action in chosen:
        action(log)
    return log


ATTEMPTS = st.lists(
    st.tuples(st.sampled_from(STEPS), st.integers(0, 2), st.booleans()), max_size=5, unique_by=lambda a: a[0]
)
ENDS = st.sampled_from(["success", "failure", "canceled", ""])
WILD = st.lists(st.sampled_from(actions()), max_size=25)
RUNS = st.lists(st.tuples(ATTEMPTS, ENDS) | WILD, min_size=1, max_size=3)


def logs(runs: Sequence[object]) -> list[list[Event]]:
    built = []
    for number, run in enumerate(runs):
        name = f"run-{number}"
        log = likely(name, *run) if isinstance(run, tuple) else wild(name, run)  # type: ignore[arg-type,misc]
        built.append(log.events())
    return built


def mixed(runs: list[list[Event]], choices: Sequence[int]) -> list[Event]:
    """The runs' events interleaved, each run in its own order; domain time never goes back."""
    queues = [list(run) for run in runs if run]
    order: list[Event] = []
    for choice in [*choices, *([0] * sum(map(len, runs)))]:
        if not queues:
            break
        queue = queues[choice % len(queues)]
        order.append(queue.pop(0))
        queues = [q for q in queues if q]
    return timed(order)


def timed(events: Sequence[Event]) -> list[Event]:
    now_ns, again = 0, []
    for event in events:
        now_ns = max(now_ns, event.at_ns)
        again.append(structs.replace(event, now_ns=now_ns, attempt=0, assets=(), outcomes=()))
    return again


def followed(events: Sequence[Event], cuts: Sequence[int] = (), restart: bool = False) -> list[Event]:
    """All events annotated, in batches that end at `cuts`; the ledger dies and comes back there if `restart`."""

    async def go() -> list[Event]:
        context = FakeContext(shard="test")
        ledger = RunLedger(CONFIG, context)
        fresh, given, begin = timed(events), [], 0
        for end in [*sorted(cuts), len(fresh)]:
            now_ns = fresh[end - 1].now_ns if end else 0
            given += (await ledger.process(Batch(fresh[begin:end], "test", now_ns))).items
            begin = end
            if restart:
                context.memory.checkpoint()
                context = FakeContext(shard="test", state=context.memory.restart())
                ledger = RunLedger(CONFIG, context)
        now_ns = fresh[-1].now_ns if fresh else START_NS
        given += await ledger.on_time(now_ns + HOUR // 2)
        given += await ledger.finish(now_ns + HOUR)
        return given

    return asyncio.run(go())


def annotations(events: Sequence[Event]) -> list[tuple[object, ...]]:
    return [(e.type, e.run_id, e.attempt, e.assets, e.outcomes) for e in events]


def by_run(events: Sequence[Event]) -> dict[str, list[Outcome]]:
    told: dict[str, list[Outcome]] = defaultdict(list)
    for event in events:
        told[event.run_id] += event.outcomes
    return told


def fates(events: Sequence[Event]) -> list[tuple[object, ...]]:
    """What must be told once: ends of runs and attempts, failures and executions of assets."""
    told: list[tuple[object, ...]] = []
    for event in events:
        for outcome in event.outcomes:
            match outcome:
                case RunEnded(late=late):
                    told.append(("run", outcome.run, late))
                case StepEnded():
                    told.append(("attempt", outcome.run, outcome.step, outcome.attempt))
                case AssetFailed():
                    told.append(("executed", outcome.run, outcome.asset))
                case AssetMaterialized(execution=True):
                    told.append(("executed", outcome.run, outcome.asset))
                case AssetSkipped():
                    told.append(("skipped", outcome.run, outcome.asset))
                case _:
                    pass
    return told


CHOICES = st.lists(st.integers(0, 5), max_size=60)


@settings(deadline=None)
@given(RUNS, CHOICES, st.data())
def test_how_the_log_is_cut_into_batches_changes_nothing(
    runs: list[object], choices: list[int], data: st.DataObject
) -> None:
    events = mixed(logs(runs), choices)
    cuts = data.draw(st.lists(st.integers(0, len(events)), max_size=6))
    assert annotations(followed(events, cuts)) == annotations(followed(events))


@settings(deadline=None)
@given(RUNS, CHOICES, st.data())
def test_a_restart_anywhere_changes_nothing(runs: list[object], choices: list[int], data: st.DataObject) -> None:
    events = mixed(logs(runs), choices)
    cuts = data.draw(st.lists(st.integers(0, len(events)), max_size=4))
    assert annotations(followed(events, cuts, restart=True)) == annotations(followed(events))


@settings(deadline=None)
@given(RUNS, CHOICES, CHOICES)
def test_runs_do_not_touch_one_another(runs: list[object], first: list[int], second: list[int]) -> None:
    built = logs(runs)
    assert by_run(followed(mixed(built, first))) == by_run(followed(mixed(built, second)))


@settings(deadline=None)
@given(RUNS, CHOICES, st.data())
def test_nothing_is_told_twice_because_an_event_comes_twice(
    runs: list[object], choices: list[int], data: st.DataObject
) -> None:
    events = mixed(logs(runs), choices)
    if not events:
        return
    once = fates(followed(events))
    repeated = list(events)
    for _ in range(data.draw(st.integers(1, 3))):
        which = data.draw(st.integers(0, len(events) - 1))
        behind = data.draw(st.integers(repeated.index(events[which]) + 1, len(repeated)))
        repeated.insert(behind, events[which])
    twice = fates(followed(repeated))
    assert len(twice) == len(set(twice))
    assert len(once) == len(set(once))


@settings(deadline=None)
@given(st.lists(st.tuples(ATTEMPTS, ENDS), min_size=1, max_size=2), CHOICES, st.data())
def test_a_log_as_dagster_writes_it_is_told_the_same_with_repeats(
    runs: list[object], choices: list[int], data: st.DataObject
) -> None:
    events = mixed(logs(runs), choices)
    which = data.draw(st.integers(0, len(events) - 1))
    behind = data.draw(st.integers(which + 1, len(events)))
    repeated = [*events[:behind], events[which], *events[behind:]]
    assert sorted(map(str, fates(followed(repeated)))) == sorted(map(str, fates(followed(events))))


@settings(deadline=None, max_examples=200)
@given(RUNS, st.randoms(use_true_random=False))
def test_any_order_tells_each_fate_at_most_once(runs: list[object], random: object) -> None:
    events = [event for run in logs(runs) for event in run]
    random.shuffle(events)  # type: ignore[attr-defined]
    told = fates(followed(timed(events)))
    assert len(told) == len(set(told))


@settings(deadline=None)
@given(st.lists(st.tuples(ATTEMPTS, ENDS), min_size=1, max_size=2), CHOICES, st.booleans())
def test_attempts_that_began_are_the_starts_and_restarts_of_the_log(
    runs: list[object], choices: list[int], cut: bool
) -> None:
    """A step that fails without a start has begun once; a retry without a restart (its process died) has not."""
    events = mixed(logs(runs), choices)
    if cut:
        events = [e for e in events if e.type not in ("STEP_START", "STEP_RESTARTED") or e.at_ns % 3]
        known = {(e.run_id, e.step_key) for e in events if e.type == "STEP_START"}
        events = [  # a step of which the start is lost has no other word than its failure
            e for e in events if (e.run_id, e.step_key) in known or not e.step_key or e.type == "STEP_FAILURE"
        ]
    of_type: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for event in events:
        of_type[event.type].append((event.run_id, event.step_key))
    starts, failures = set(of_type["STEP_START"]), set(of_type["STEP_FAILURE"])
    told = [o for e in followed(events) for o in e.outcomes if isinstance(o, StepEnded) and o.begun]
    assert len(told) == len(starts) + len(of_type["STEP_RESTARTED"]) + len(failures - starts)


@settings(deadline=None)
@given(RUNS, CHOICES)
def test_no_attempt_of_a_run_that_goes_on_is_left_without_an_end(runs: list[object], choices: list[int]) -> None:
    events = mixed(logs(runs), choices)
    begun, over = set(), set()
    for event in events:
        if event.type == "PIPELINE_SUCCESS":  # a run that succeeded is a tombstone, which takes no more steps
            over.add(event.run_id)
        elif event.type == "STEP_START" and event.run_id not in over:
            begun.add((event.run_id, event.step_key))
    ended = {fate[1:3] for fate in fates(followed(events)) if fate[0] == "attempt"}
    assert begun <= ended
