"""`dagtel test` called in this process, in a folder with a small alerting configuration."""

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from pipeline.cli.app import app

Play = Callable[..., Result]

CONFIG = """\
receivers:
  file: {path: nowhere.jsonl}
processors:
  run_ledger:
  dedup: {group_wait: 0s, window: 1h}
connectors:
  alerts:
exporters:
  console_alerts:
  webhook: {url: "${env:HOOK:-}"}
service:
  pipelines:
    events: {receivers: [file], processors: [run_ledger], exporters: [alerts]}
    alerts: {receivers: [alerts], processors: [dedup], exporters: [console_alerts, webhook]}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "alerts.yaml").write_text(CONFIG)
    return tmp_path


@pytest.fixture
def play(folder: Path) -> Play:
    """Plays a test file's text; its `config` is written for it."""

    def call(text: str, *options: str, **env: str) -> Result:
        (folder / "a.test.yaml").write_text(f"config: alerts.yaml\n{text}")
        return CliRunner().invoke(app, ["test", "a.test.yaml", *options], env={"COLUMNS": "80", **env})

    return call
