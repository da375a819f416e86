"""docs/plugins.md and examples/plugin: what the page shows is what is there, and all of it runs."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from pipeline.testing import contracts

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "plugins.md"
PLUGIN = ROOT / "examples" / "plugin"
EVENTS = ROOT / "tests" / "data" / "dagster-1.13.jsonl"
DAGTEL = Path(sys.executable).with_name("dagtel")
BLOCKS = re.findall(r"^```(\w+) ?(\S*)\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)


def blocks(language: str) -> list[str]:
    """The page's own examples in a language; those that repeat a file are left out."""
    return [text for kind, file, text in BLOCKS if kind == language and not file]


@pytest.mark.parametrize(("file", "text"), [(file, text) for _, file, text in BLOCKS if file])
def test_a_file_is_shown_as_it_is(file: str, text: str) -> None:
    assert (ROOT / file).read_text() == text


def test_every_contract_is_named() -> None:
    named = set(re.findall(r"`(\w+Contract)`", PAGE.read_text()))
    assert named == set(contracts.__all__) - {"SpecContract", "law"}


def test_the_example_and_the_pages_own_components_keep_their_contracts(tmp_path: Path) -> None:
    for file in (*PLUGIN.glob("*.py"), PLUGIN / "pyproject.toml"):
        shutil.copy(file, tmp_path)
    for number, text in enumerate(blocks("python")):
        (tmp_path / f"test_page_{number}.py").write_text(text)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:looptime_plugin"],
        cwd=tmp_path, capture_output=True, text=True, timeout=170, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:]
    assert "skipped" not in done.stdout


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """The plugin installed: what pip would leave of it on the path."""
    project = tomllib.loads((PLUGIN / "pyproject.toml").read_text())["project"]
    about = tmp_path / "site" / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    about.mkdir(parents=True)
    about.joinpath("METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    points = [
        f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in named.items())
        for group, named in project["entry-points"].items()
    ]
    about.joinpath("entry_points.txt").write_text("\n".join(points))
    shutil.copy(PLUGIN / "thin_logs.py", about.parent)
    return {**os.environ, "PYTHONPATH": str(about.parent), "DAGTEL_INPUT": str(EVENTS), "DAGTEL_OUT": str(tmp_path)}


def dagtel(environment: dict[str, str], *words: str) -> str:
    done = subprocess.run(
        [str(DAGTEL), *words], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_installed_it_is_a_component_like_any_other(environment: dict[str, str]) -> None:
    (found,) = json.loads(dagtel(environment, "components", "processors/thin_logs", "--json"))
    assert [(option["name"], option["default"]) for option in found["options"]] == [
        ("every", "10"),
        ("levels", "[DEBUG]"),
    ]


def test_the_configuration_of_the_page_runs_it(environment: dict[str, str], tmp_path: Path) -> None:
    (text,) = blocks("yaml")
    config = tmp_path / "thin.yaml"
    config.write_text(text)
    dagtel(environment, "validate", "--config", str(config))
    dagtel(environment, "run", "--config", str(config), "--once")
    kept = [json.loads(line)["level"] for line in (tmp_path / "logs.jsonl").read_text().splitlines()]
    everything = len(EVENTS.read_text().splitlines())
    assert 0 < len(kept) < everything / 2
    assert "ERROR" in kept
