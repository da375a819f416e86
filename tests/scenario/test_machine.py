"""What `--restarts` is for: a component that keeps something in memory alone is found out."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from pipeline.batch import Batch
from pipeline.components import Context
from pipeline.scenario.machine import play
from pipeline.scenario.reading import ready
from pipeline.scenario.timeline import moments
from pipeline.signals import Alert
from pipeline.topology.plan import Plan
from pipeline.topology.registry import Registry

TEXT = """\
config: alerts.yaml
scenarios:
  - {name: a, events: [{at: 0s, every: 1m, times: 3, asset_failed: {asset: a}}]}
"""


class Forgets:
    """Lets each problem through once, as long as it lives."""

    def __init__(self) -> None:
        self._seen: set[str] = set()

    async def process(self, batch: Batch[object], /) -> Batch[object]:
        fresh = [item for item in batch.items if isinstance(item, Alert) and item.fingerprint not in self._seen]
        self._seen |= {item.fingerprint for item in fresh}
        return batch.carrying(fresh)


@asynccontextmanager
async def build(options: object, context: Context) -> AsyncIterator[Forgets]:
    yield Forgets()


def forgetful(plan: Plan) -> Plan:
    """The plan with such a component in place of `dedup`."""
    pipeline = plan.pipelines["alerts"]
    (dedup,) = pipeline.processors
    node = msgspec.structs.replace(dedup, spec=msgspec.structs.replace(dedup.spec, build=build))
    pipelines = {**plan.pipelines, "alerts": msgspec.structs.replace(pipeline, processors=(node,))}
    return msgspec.structs.replace(plan, pipelines=pipelines)


@pytest.mark.anyio
@pytest.mark.parametrize(("restarts", "told"), [(False, 1), (True, 3)])
async def test_a_component_that_forgets_is_found_out_by_restarts(folder: Path, restarts: bool, told: int) -> None:
    (folder / "a.test.yaml").write_text(TEXT)
    (each,) = ready(folder / "a.test.yaml", Registry.installed())
    played = await play(forgetful(each.plan), moments(each), folder, restarts=restarts)
    assert len(played.told) == told


@pytest.mark.anyio
async def test_real_dedup_is_not(folder: Path) -> None:
    (folder / "a.test.yaml").write_text(TEXT)
    (each,) = ready(folder / "a.test.yaml", Registry.installed())
    played = await play(each.plan, moments(each), folder, restarts=True)
    assert [told.alert.state for told in played.told] == ["firing"]
