"""Wrong options of built-in components, and all that is said of them at once."""

import subprocess
import sys
from pathlib import Path

import pytest

WRONG = {
    "addresses": (
        """\
receivers: {file: {path: a}}
processors: {run_ledger: }
connectors: {spans: , logs: , metrics: }
exporters:
  jaeger: {endpoint: "localhost:4318"}
  loki: {endpoint: loki}
  prometheus: {address: "0.0.0.0:99999"}
service:
  pipelines:
    events: {receivers: [file], processors: [run_ledger], exporters: [spans, logs, metrics]}
    traces: {receivers: [spans], exporters: [jaeger]}
    logs: {receivers: [logs], exporters: [loki]}
    metrics: {receivers: [metrics], exporters: [prometheus]}
""",
        [
            "w.yaml:5: exporters.jaeger.endpoint: 'localhost:4318' is no URL: it begins with http:// or https://, "
            "as in `http://localhost:4318`",
            "w.yaml:6: exporters.loki.endpoint: 'loki' is no URL: it begins with http:// or https://, as in "
            "`http://localhost:3100`",
            "w.yaml:7: exporters.prometheus.address: '0.0.0.0:99999' is no address; write for example `0.0.0.0:8889`",
        ],
    ),
    "what is wrong across options is said beside a bad option": (
        """\
receivers: {file: {path: a}}
processors:
  run_ledger:
  dedup:
    group_by: [rum]
    timezone: Mars/Base
    daily_list: x y
    routes:
      - {when: asste == 3, channels: [slack]}
connectors: {alerts: }
exporters: {slack: }
service:
  pipelines:
    events: {receivers: [file], processors: [run_ledger], exporters: [alerts]}
    alerts: {receivers: [alerts], processors: [dedup], exporters: [slack]}
""",
        [
            "w.yaml:5: processors.dedup.group_by[0]: expected `run` or `backfill`, got `rum`; did you mean `run`?",
            "w.yaml:6: processors.dedup.timezone: there is no time zone 'Mars/Base'; write it as `Europe/Berlin` or "
            "`UTC`",
            "w.yaml:7: processors.dedup.daily_list: 'x y' is no cron expression: Wrong number of fields",
            "w.yaml:8: processors.dedup.routes: route 1: there is no variable `asste`; did you mean `asset`?",
        ],
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_every_fault_is_named(name: str, tmp_path: Path) -> None:
    text, expected = WRONG[name]
    (tmp_path / "w.yaml").write_text(text)
    done = subprocess.run(
        [Path(sys.executable).with_name("dagtel"), "validate", "--config", "w.yaml"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.splitlines() == expected
