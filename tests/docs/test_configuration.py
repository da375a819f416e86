"""docs/configuration.md is what the types say."""

import pytest

from pipeline.cli.describe import component
from pipeline.cli.reference import PAGE, missing, page
from pipeline.topology.registry import KINDS, Kind, NoComponent, Registry

REGISTRY = Registry.installed()


def test_the_page_is_up_to_date() -> None:
    if reasons := missing(REGISTRY):
        pytest.skip(f"not all components import: {'; '.join(reasons)}")
    assert PAGE.read_text(encoding="utf-8") == page(REGISTRY), "run: python -m pipeline.cli.reference"


@pytest.mark.parametrize("kind", KINDS)
def test_every_option_of_every_component_is_described(kind: Kind) -> None:
    undescribed = []
    for name in REGISTRY.names(kind):
        try:
            one = component(name, REGISTRY.spec(kind, name))
        except NoComponent:
            continue
        if not one.doc:
            undescribed.append(f"{kind}/{name}")
        undescribed += [f"{kind}/{name}: {option.name}" for option in one.options if not option.doc]
    assert undescribed == []
