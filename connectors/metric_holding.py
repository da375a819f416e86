"""Failures that wait for their run's end, because another step of the run may make the asset after all.

For whoever wants figures that are exact rather than at once: a counter cannot take back what it has counted.
"""

from collections.abc import Sequence

import msgspec

from pipeline.components import State
from pipeline.outcomes import AssetFailed, AssetMaterialized, Outcome, RunEnded


class Holding:
    """One row a run that goes on and in which assets have failed; beyond `limit` of them failures count at once."""

    def __init__(self, state: State, limit: int) -> None:
        self._runs = state.table("held_failures", str, tuple[AssetFailed, ...], version=1)
        self._limit = limit

    def settled(self, outcomes: Sequence[Outcome]) -> Sequence[Outcome]:
        """The outcomes that count now: without failures that wait, with those of a run that ends."""
        if not any(isinstance(outcome, (AssetFailed, AssetMaterialized, RunEnded)) for outcome in outcomes):
            return outcomes
        counted: list[Outcome] = []
        for outcome in outcomes:
            if isinstance(outcome, AssetFailed) and outcome.run and not outcome.late and self._hold(outcome):
                continue
            if isinstance(outcome, AssetMaterialized):
                outcome = self._made(outcome)
            elif isinstance(outcome, RunEnded):
                counted += self._runs.get(outcome.run) or ()
                self._runs.delete(outcome.run)
            counted.append(outcome)
        return counted

    def _hold(self, failed: AssetFailed) -> bool:
        held = self._runs.get(failed.run)
        if held is None and len(self._runs) >= self._limit:
            return False
        self._runs.put(failed.run, (*(held or ()), msgspec.structs.replace(failed, error=None)))
        return True

    def _made(self, made: AssetMaterialized) -> AssetMaterialized:
        held = self._runs.get(made.run) if made.run else None
        left = tuple(failed for failed in held or () if failed.asset != made.asset)
        if held is None or len(left) == len(held):
            return made
        if left:
            self._runs.put(made.run, left)
        else:
            self._runs.delete(made.run)
        return msgspec.structs.replace(made, execution=True)
