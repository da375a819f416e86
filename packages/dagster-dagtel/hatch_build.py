"""Puts `dagster_dagtel` into the sdist and the wheel: from the repository's root, or from the sdist's own."""

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class ImportPackage(BuildHookInterface):
    """One source tree for both distributions of the repository, so the package is not below its pyproject.toml."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called by hatchling before each target is built."""
        here = Path(self.root)
        inside = here / "dagster_dagtel"
        if inside.is_dir() and self.target_name == "sdist":
            return  # a sdist made of a sdist: it is selected already
        package = inside if inside.is_dir() else here.parents[1] / "dagster_dagtel"
        for file in sorted([*package.glob("*.py"), package / "py.typed"]):
            build_data["force_include"][str(file)] = f"dagster_dagtel/{file.name}"
