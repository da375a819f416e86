"""Who tells of a failed step: the asset or check that fails with it, else the step itself. Pure.

A step of a graph waits, where an asset of the graph is still undecided and may fail with it. Of the steps of such a
graph that fail alike (a thousand mapped ones, with the database down) one is enough.
"""

from collections.abc import Iterator

from pipeline.outcomes import StepRaised
from processors.ledger.states import Failure, RunState


def told(run: RunState, failure: Failure) -> None:
    """An asset of the run tells of this failure."""
    if failure.step in run.unvoiced:
        run.unvoiced.remove(failure.step)
    graph = _asset_graph(run, failure.step)
    if graph:
        run.voices.setdefault(graph, set()).add(_class(failure))


def alone(run: RunState, run_id: str, failure: Failure, waits: bool) -> list[StepRaised]:
    """A failure of which neither an asset nor a check tells, or not yet (`waits`)."""
    if waits:
        run.unvoiced.append(failure.step)
        return []
    graph = _asset_graph(run, failure.step)
    if graph:
        voices = run.voices.setdefault(graph, set())
        if _class(failure) in voices:
            return []
        voices.add(_class(failure))
    return [
        StepRaised(
            run_id, run.job, failure.step, failure.attempt, failure.at_ns, failure.partition, failure.error,
            failure.interrupted,
        )
    ]  # fmt: skip


def left(run: RunState, run_id: str) -> Iterator[StepRaised]:
    """The run is over: the failures of which nothing has told."""
    waiting, run.unvoiced = run.unvoiced, []
    for step in waiting:
        yield from alone(run, run_id, run.failures[step], waits=False)


def _class(failure: Failure) -> str:
    return failure.error.type if failure.error is not None else ""


def _asset_graph(run: RunState, step: str) -> str:
    """`graph.` of `graph.sub.last`, if the run is to make assets in it; else ""."""
    graph = step[: step.find(".") + 1]
    return graph if graph and any(handle.startswith(graph) for handle in run.graphs) else ""
