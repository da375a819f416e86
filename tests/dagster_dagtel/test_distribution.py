"""What a user's Dagster environment takes on with dagster-dagtel."""

import ast
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_it_depends_on_the_opentelemetry_api_alone() -> None:
    project = tomllib.loads((ROOT / "packages/dagster-dagtel/pyproject.toml").read_text())["project"]
    assert project["dependencies"] == ["opentelemetry-api>=1.20,<2"]


def test_it_imports_nothing_of_the_daemon_nor_of_the_sdk() -> None:
    imported: set[str] = set()
    for file in (ROOT / "dagster_dagtel").glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                imported.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                imported.add(node.module or "")
    outside = {name for name in imported if name.split(".")[0] not in sys.stdlib_module_names}
    assert {name.split(".")[0] for name in outside} == {"dagster", "dagster_dagtel", "opentelemetry"}
    assert not {name for name in outside if name.startswith("opentelemetry.sdk")}
