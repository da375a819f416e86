"""One scenario from its events to its verdict."""

from pathlib import Path

import msgspec

from pipeline.scenario.machine import play
from pipeline.scenario.reading import Ready
from pipeline.scenario.timeline import moments
from pipeline.scenario.verdict import Verdict, verdict


async def played(ready: Ready, folder: Path, restarts: bool = False) -> Verdict:
    """Play it with its state in `folder`. Raises ConfigError, StateError, ScenarioError."""
    done = await play(ready.plan, moments(ready), folder, restarts=restarts)
    result = verdict(ready, done)
    if result.passed or not done.missing:
        return result
    notes = tuple(f"not there in a scenario: {each}" for each in done.missing)
    return msgspec.structs.replace(result, problems=(*result.problems, *notes))
