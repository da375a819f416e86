"""Configurations that come with dagtel."""

from importlib.resources import files
from pathlib import Path


def shipped(name: str) -> Path:
    """The path of `configs/NAME`: within the installed package, or in the repository that it is run from."""
    package = Path(str(files("pipeline")))
    installed = package / "configs" / name
    return installed if installed.is_file() else package.parent / "configs" / name
