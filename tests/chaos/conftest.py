"""The chaos suite runs the real daemon on real backends; each test breaks something and writes a row of the table."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.group import group as group
from tests.chaos.scene import Scene
from tests.integration.conftest import backends as backends
from tests.integration.webhook import taking_alerts


@pytest.fixture
def webhook() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    with taking_alerts() as taking:
        yield taking


@pytest.fixture
def scene(backends: dict[str, str], tmp_path: Path) -> Iterator[Callable[..., Scene]]:
    """Makes scenes, and ends the daemons that are left in them."""
    made: list[Scene] = []

    def make(name: str, webhook: str = "") -> Scene:
        folder = tmp_path / f"{name}-{len(made)}"
        folder.mkdir()
        made.append(Scene(name, folder, backends, webhook))
        return made[-1]

    yield make
    for each in made:
        each.close()
