"""The README says what is true: its configuration is valid, its files exist, its commands are those of the Makefile."""

import re
from pathlib import Path

import pytest

from pipeline.config.load import load
from pipeline.topology.registry import Registry
from pipeline.topology.resolve import resolve

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def test_the_readmes_configuration_is_valid(tmp_path: Path) -> None:
    (block,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    file = tmp_path / "my.yaml"
    file.write_text(block)
    plan = resolve(load([file]), Registry.installed())
    assert set(plan.pipelines) == {"events", "traces", "metrics", "logs", "alerts"}


def test_every_command_of_the_readme_is_a_target_or_a_command() -> None:
    text = (ROOT / "README.md").read_text()
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"\$ make (\w+)", text):
        assert f"\n{target}:" in makefile, target
    from typer.main import get_command

    from pipeline.cli.app import app

    known = set(getattr(get_command(app), "commands", {}))
    for command in re.findall(r"dagtel (\w[\w-]*)", re.sub(r"`[^`]*later[^`]*`", "", text)):
        if command in {"bridge", "run", "validate", "components", "schema", "print-config"}:
            assert command in known, command


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        if not target.startswith(("http://", "https://")):
            assert (page.parent / target).exists(), target
