"""`docs/testing-alerts.md`: its scenario is as expected, and what it shows of a failure is what is printed."""

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipeline.cli.app import app

GUIDE = (Path(__file__).parents[2] / "docs" / "testing-alerts.md").read_text()
CONFIG = """\
receivers:
  file: {path: nowhere.jsonl}
processors:
  run_ledger:
  dedup: {severities: {ERROR: [slack]}}
connectors:
  alerts:
exporters:
  slack: {webhook_url: "${env:PHLO_ALERT_SLACK_WEBHOOK:-}"}
service:
  pipelines:
    events: {receivers: [file], processors: [run_ledger], exporters: [alerts]}
    alerts: {receivers: [alerts], processors: [dedup], exporters: [slack]}
"""


def block(language: str, start: str) -> str:
    return next(b for b in re.findall(rf"```{language}\n(.*?)```", GUIDE, re.S) if b.startswith(start))


def test_the_guides_scenario(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("alerts.yaml").write_text(CONFIG)
    text = block("yaml", "config:")
    Path("policy.test.yaml").write_text(text)
    result = CliRunner().invoke(app, ["test", "policy.test.yaml"])
    assert result.exit_code == 0, result.output
    Path("policy.test.yaml").write_text(text.replace("channels: [slack], text: no answer", "count: 2"))
    result = CliRunner().invoke(app, ["test", "policy.test.yaml"])
    assert result.stdout == block("text", "FAIL")
