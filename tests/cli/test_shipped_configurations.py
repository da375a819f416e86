"""Every configuration that is shipped can run as it stands, and no secret gets into what people are told."""

from pathlib import Path

import pytest

from pipeline.config.load import load
from pipeline.signals import Signal
from pipeline.topology.registry import Registry
from pipeline.topology.resolve import resolve

CONFIGS = Path(__file__).parents[2] / "configs"
ON_TOP = {"sources.yaml": ["full.yaml", "sources.yaml"]}
NEEDED = {"cluster.yaml": {"DAGTEL_POSTGRES": "postgresql://db/dagtel"}}
SHIPPED = sorted(path.name for path in CONFIGS.glob("*.yaml") if not path.name.endswith(".test.yaml"))


@pytest.mark.parametrize("name", SHIPPED)
def test_it_can_run(name: str) -> None:
    plan = resolve(
        load([CONFIGS / each for each in ON_TOP.get(name, [name])], env=NEEDED.get(name, {})), Registry.installed()
    )
    assert not plan.warnings
    for pipeline in plan.pipelines.values():
        if pipeline.signal == Signal.ALERTS:
            assert "redaction" in [node.spec.name for node in pipeline.processors], f"{name}: {pipeline.id}"
