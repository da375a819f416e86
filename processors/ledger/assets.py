"""What becomes of a run's assets and checks. Pure functions on a `RunState`.

An asset's fate, as tests/data/truth-*.json defines it: made, when it was materialized; failed, when it was planned
and its planned step, or one under the same graph handle, failed for good; observed only; else not executed.

A failing step decides its own assets at once. For a graph (`g.load` fails, `g.rank` was to make the asset) it does so
when nothing else is under way there: one step makes the graph's assets and has not begun. Otherwise that step may yet
succeed on its own, so the decision waits until it is known not to run (Dagster logs it) or for the run's end. What
fails after that end decides at once.
"""

from collections.abc import Callable

from pipeline.outcomes import AssetFailed, AssetSkipped, CheckRaised
from processors.ledger import voices
from processors.ledger.states import AssetState, Failure, RunState

_NOT_RUN = ("Dependencies for step ", "Not executing.")


def plan_asset(run: RunState, step: str, asset: str, partition: str | None) -> None:
    """The run intends to make `asset` (this partition of it) in `step`."""
    state = run.assets.get(asset)
    if state is None:
        state = run.assets[asset] = AssetState()
    if state.planned and state.step == step:
        state.several = state.several or state.partition != partition
        return
    if state.planned:  # planned anew elsewhere: the last word holds
        _unplan(run, state.step, asset)
    state.planned, state.step, state.partition = True, step, partition
    run.plan.setdefault(step, []).append(asset)
    if "." in step:
        run.graphs.setdefault(_handle(step), []).append(asset)


def _unplan(run: RunState, step: str, asset: str) -> None:
    run.plan[step].remove(asset)
    if "." in step:
        run.graphs[_handle(step)].remove(asset)


def plan_check(run: RunState, step: str, asset: str, check: str) -> None:
    """The run intends to evaluate this check in `step`."""
    run.checks.setdefault(step, {}).setdefault(f"{asset}\0{check}", False)


def evaluated(run: RunState, step: str, asset: str, check: str) -> None:
    """The check has a result."""
    planned = run.checks.get(step)
    if planned is not None:
        planned[f"{asset}\0{check}"] = True


def assets_of(run: RunState, step: str) -> tuple[str, ...]:
    """What `step` is to make; for a step within a graph, also what the graph is to make."""
    own = run.plan.get(step, ())
    if "." not in step:
        return tuple(own)
    around = [asset for handle in _handles(step) for asset in run.graphs.get(handle, ())]
    return tuple(dict.fromkeys((*own, *around)))


def decided_by(run: RunState, run_id: str, failure: Failure, begun: Callable[[str], bool]) -> list[AssetFailed]:
    """The assets that this failure decides now. `begun` says whether a step of the run has begun."""
    decided = list(run.plan.get(failure.step, ()))
    for handle in _handles(failure.step):
        graph = run.graphs.get(handle, ())
        makers = {run.assets[asset].step for asset in graph}
        if (len(makers) == 1 or run.status) and not any(begun(step) for step in makers):
            decided += graph
    return [_fail(run, run_id, asset, failure) for asset in dict.fromkeys(decided) if _undecided(run.assets[asset])]


def awaits(run: RunState, step: str) -> bool:
    """Whether an asset of the step's graph is undecided and may yet fail with it."""
    graphs = (run.graphs.get(handle, ()) for handle in _handles(step))
    return any(_undecided(run.assets[asset]) for graph in graphs for asset in graph)


def not_executed(run: RunState, run_id: str, step: str, message: str) -> list[AssetFailed]:
    """Dagster's word that `step` will not run: decides assets of a graph in which another step failed."""
    if step not in run.plan or not (message.startswith(_NOT_RUN[0]) and message.endswith(_NOT_RUN[1])):
        return []
    return [failed for asset in run.plan[step] if (failed := failed_at_last(run, run_id, asset)) is not None]


def failed_at_last(run: RunState, run_id: str, asset: str) -> AssetFailed | None:
    """Whether what failed so far fails an asset that is still undecided."""
    state = run.assets[asset]
    if not _undecided(state):
        return None
    failure = run.failures.get(state.step)
    if failure is None and "." in state.step:
        handle = _handle(state.step)
        failure = next((f for step, f in run.failures.items() if step.startswith(handle)), None)
    return _fail(run, run_id, asset, failure) if failure is not None else None


def settle(run: RunState, run_id: str, at_ns: int) -> list[AssetFailed | AssetSkipped]:
    """The run's end decides the rest. Assets only observed are neither failed nor skipped."""
    settled: list[AssetFailed | AssetSkipped] = []
    for asset, state in run.assets.items():
        if not _undecided(state):  # nearly all of them
            continue
        failed = failed_at_last(run, run_id, asset)
        if failed is not None:
            settled.append(failed)
        elif not state.observed and not state.skipped:
            state.skipped = True
            settled.append(AssetSkipped(run_id, run.job, asset, state.one_partition, at_ns))
    return settled


def broken_checks(run: RunState, run_id: str, failure: Failure) -> list[CheckRaised]:
    """Checks that the failing step did not come to evaluate."""
    raised = []
    planned = run.checks.get(failure.step, {})
    for name in [name for name, done in planned.items() if not done]:
        planned[name] = True
        asset, _, check = name.partition("\0")
        raised.append(
            CheckRaised(
                run_id, run.job, failure.step, failure.attempt, asset, check,
                failure.at_ns, failure.error, failure.interrupted,
            )
        )  # fmt: skip
    return raised


def _undecided(state: AssetState) -> bool:
    return state.planned and not state.made and not state.failed


def _fail(run: RunState, run_id: str, asset: str, failure: Failure) -> AssetFailed:
    state = run.assets[asset]
    state.failed = True
    voices.told(run, failure)
    return AssetFailed(
        run=run_id,
        job=run.job,
        step=failure.step,
        attempt=failure.attempt,
        asset=asset,
        partition=state.one_partition,
        at_ns=failure.at_ns,
        duration_ns=None if failure.started_ns is None else max(0, failure.at_ns - failure.started_ns),
        error=failure.error,
        interrupted=failure.interrupted,
        failed_check=failure.failed_check,
        several=len(assets_of(run, failure.step)) > 1,
        late=bool(run.status),
    )


def _handle(step: str) -> str:
    """`graph.sub.` of `graph.sub.last`."""
    return step[: step.rindex(".") + 1]


def _handles(step: str) -> list[str]:
    """`graph.` and `graph.sub.` of `graph.sub.last`; none for a step outside a graph."""
    return [step[: at + 1] for at, char in enumerate(step) if char == "."] if "." in step else []
