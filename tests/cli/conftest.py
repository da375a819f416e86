"""The command line, called in this process, in an empty folder with no variables of ours."""

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from pipeline.cli.app import app

Dagtel = Callable[..., Result]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def dagtel(folder: Path) -> Dagtel:
    def call(*arguments: str, **env: str) -> Result:
        return CliRunner().invoke(app, arguments, env={"COLUMNS": "80", "NO_COLOR": "1", **env}, prog_name="dagtel")

    return call
