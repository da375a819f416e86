"""The seed's three rules, in a real Prometheus, over a real Alertmanager, through the webhook, out as one alert each.

The rules are those of configs/prometheus; only their waits (`for`) are taken out, and the figures are made up.
"""

import json
import os
import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import ROOT, Daemon, until
from tests.ports import free_port

BACKENDS = ROOT / "tests" / "backends"
HOME = Path(os.environ.get("BACKENDS_HOME", Path.home() / ".cache" / "backends"))
BUILT = os.environ.get("DAGTEL_TEST_ALERTMANAGER") or next(HOME.glob("alertmanager-*/.done"), None)

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not os.environ.get("DAGTEL_TEST_PROMETHEUS"), reason="DAGTEL_TEST_PROMETHEUS is not set"),
    pytest.mark.skipif(not BUILT, reason="no Alertmanager: tests/backends/alertmanager install builds it"),
]

TOKEN = "of-the-webhook"


class Figures:
    """What Prometheus scrapes."""

    def __init__(self) -> None:
        self.set(well=False)

    def set(self, well: bool) -> None:
        old = time.time() - (60 if well else 3 * 3600)
        executions, rate = (1000, 99.9) if well else (10, 80.0)
        self.text = (
            f'asset_last_update_timestamp{{asset_name="dlt_glucose_entries"}} {old}\n'
            f'validation_pass_rate{{asset_name="fct_glucose_readings",check_name="glucose_range_check"}} {rate}\n'
            f'asset_executions_total{{asset_name="mrt_glucose_readings"}} {executions}\n'
            'asset_execution_failures_total{asset_name="mrt_glucose_readings"} 5\n'
            'asset_last_update_timestamp{asset_name="mrt_glucose_readings"} 4e9\n'
        )

    @contextmanager
    def served(self) -> Iterator[int]:
        figures = self

        class Answers(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = figures.text.encode()
                self.send_response(200)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *arguments: object) -> None:
                """Quiet."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            server.server_close()


@contextmanager
def backend(script: str, folder: Path, **environment: str) -> Iterator[None]:
    """A backend in the foreground, for as long as the block."""
    with (folder / f"{script}.log").open("ab") as log:
        process = subprocess.Popen(
            [str(BACKENDS / script), "run"],
            env={**os.environ, "BACKENDS_RUN": str(folder / "run"), **environment},
            stdout=log,
            stderr=log,
        )
        try:
            yield
        finally:
            process.terminate()
            process.wait(20)
            print((folder / f"{script}.log").read_text()[-3000:])


def written(folder: Path, figures: int, alertmanager: int, webhook: int) -> tuple[Path, Path, Path]:
    """The configurations of Prometheus, Alertmanager and dagtel."""
    rules = (ROOT / "configs" / "prometheus" / "rules.yaml").read_text()
    (folder / "rules.yaml").write_text(re.sub(r"(?m)^(\s+for:) \S+$", r"\1 0s", rules))
    prometheus, hook, own = folder / "prometheus.yml", folder / "alertmanager.yml", folder / "dagtel.yaml"
    prometheus.write_text(f"""
global: {{scrape_interval: 500ms, evaluation_interval: 500ms}}
rule_files: [rules.yaml]
alerting: {{alertmanagers: [{{static_configs: [{{targets: ["127.0.0.1:{alertmanager}"]}}]}}]}}
scrape_configs: [{{job_name: dagtel, static_configs: [{{targets: ["127.0.0.1:{figures}"]}}]}}]
""")
    hook.write_text(f"""
route: {{receiver: dagtel, group_by: [alertname], group_wait: 0s, group_interval: 1s, repeat_interval: 1h}}
receivers:
  - name: dagtel
    webhook_configs:
      - url: http://127.0.0.1:{webhook}/alertmanager
        send_resolved: true
        http_config: {{authorization: {{credentials: {TOKEN}}}}}
""")
    own.write_text(f"""
receivers: {{alertmanager: {{address: "127.0.0.1:{webhook}", token: {TOKEN}}}}}
processors: {{dedup: {{}}}}
exporters: {{file: {{path: {folder}/alerts.jsonl}}}}
service:
  pipelines: {{alerts: {{receivers: [alertmanager], processors: [dedup], exporters: [file]}}}}
  checkpoint_interval: 100ms
  state: {{path: {folder}/state.db}}
  telemetry: {{metrics: {{address: ""}}, health: {{address: ""}}}}
""")
    return prometheus, hook, own


def told(folder: Path) -> list[dict[str, Any]]:
    path = folder / "alerts.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def of(folder: Path, state: str) -> dict[str, dict[str, Any]]:
    return {alert["title"]: alert for alert in told(folder) if alert["state"] == state}


TITLES = {
    "Dataset dlt_glucose_entries is stale": ("WARNING", "dlt_glucose_entries"),
    "Data validation failed for fct_glucose_readings": ("ERROR", "fct_glucose_readings"),
    "Asset mrt_glucose_readings has high error rate": ("ERROR", "mrt_glucose_readings"),
}


@pytest.mark.timeout(240)
def test_the_three_rules_fire_through_the_webhook_and_come_out_as_one_alert_each(
    tmp_path: Path, daemons: Callable[..., Daemon]
) -> None:
    figures, am_port, webhook = Figures(), free_port(), free_port()
    with figures.served() as port:
        prometheus, hook, own = written(tmp_path, port, am_port, webhook)
        daemon = daemons("run", "--config", str(own))
        with (
            backend("alertmanager", tmp_path, AM_PORT=str(am_port), AM_CONFIG=str(hook)),
            backend("prometheus", tmp_path, PROM_PORT=str(free_port()), PROM_CONFIG=str(prometheus),
                    PROM_FROM=os.environ["DAGTEL_TEST_PROMETHEUS"]),
        ):  # fmt: skip
            firing = until("three alerts", lambda: len(found := of(tmp_path, "firing")) == 3 and found, 90)
            assert {title: (a["severity"], a["asset"]) for title, a in firing.items()} == TITLES
            assert {a["kind"] for a in firing.values()} == {"external"}
            assert firing["Data validation failed for fct_glucose_readings"]["summary"].startswith(
                "glucose_range_check: pass rate: 80.00%"
            )

            daemon.kill()  # what was told survives, and what comes meanwhile is sent again
            figures.set(well=True)
            daemons("run", "--config", str(own))
            resolved = until("three resolutions", lambda: len(found := of(tmp_path, "resolved")) == 3 and found, 90)
    keys = {title: alert["key"] for title, alert in firing.items()}
    assert {title: alert["key"] for title, alert in resolved.items()} == keys
    states = [alert["state"] for alert in told(tmp_path)]
    assert sorted(states) == ["firing"] * 3 + ["resolved"] * 3, "one alert each, and nothing else"
