"""The whole road: a real Dagster run through bridge and daemon, then asked from outside, as a user would."""

import os
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.conftest import ROOT, Daemon, get, jaeger_trace, loki_lines, until
from tests.integration.webhook import taking_alerts
from tests.ports import free_port

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

PYTHON = os.environ.get("DAGTEL_TEST_DAGSTER_PYTHON", "")
ASSET = "dlt_glucose_entries"


class Road:
    """What came out: the runs that were played, and whom to ask."""

    def __init__(self, backends: dict[str, str], prometheus: str) -> None:
        self.backends, self.prometheus = backends, prometheus
        self.runs: dict[str, tuple[str, str]] = {}
        self.alerts: list[dict[str, Any]] = []
        self.began_ns = time.time_ns()

    def run(self, weather: str) -> str:
        """The id of the run in this weather."""
        return self.runs[weather][1]

    def trace(self, weather: str, count: int) -> list[dict[str, Any]]:
        """Its spans, once there are at least so many."""
        found = self.run(weather).replace("-", "")
        return until(
            f"{count} spans of {weather}",
            lambda: (spans := jaeger_trace(self.backends["jaeger"], found)) and len(spans) >= count and spans,
        )

    def lines(self, query: str) -> list[dict[str, Any]]:
        """Log lines of the runs played here, once there are any."""
        runs = {run for _, run in self.runs.values()}

        def ask() -> list[dict[str, Any]]:
            found = loki_lines(self.backends["loki"], query, self.began_ns - 10**9, time.time_ns())
            return [line for line in found if line.get("run_id") in runs]

        return until(query, ask)

    def figure(self, query: str, expected: float) -> None:
        """Wait until Prometheus answers this figure."""

        def ask() -> bool:
            result = get(f"{self.prometheus}/api/v1/query", query=query)["data"]["result"]
            return [float(series["value"][1]) for series in result] == [expected]

        until(f"{query} = {expected}", ask)


@pytest.fixture(scope="module")
def road(backends: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Road]:
    """Bridge and daemon up, five runs of the demo's project played, both still running."""
    if not PYTHON:
        pytest.skip("DAGTEL_TEST_DAGSTER_PYTHON is not set: no Dagster to run")
    folder = tmp_path_factory.mktemp("road")
    home = folder / "home"
    home.mkdir()
    (home / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    topic, metrics = f"road-{os.getpid()}-{time.time_ns()}", f"127.0.0.1:{free_port()}"
    common = {
        "DAGTEL_KAFKA": backends["kafka"],
        "DAGTEL_TOPIC": topic,
        "DAGTEL_GROUP": topic,
        "DAGTEL_JAEGER_ENDPOINT": backends["jaeger_otlp"],
        "DAGTEL_LOKI_ENDPOINT": backends["loki"],
        "DAGTEL_METRICS_ADDRESS": metrics,
        "DAGTEL_LINEAGE": str(ROOT / "demo" / "lineage.yaml"),
        "DAGTEL_DAGSTER_HOME": str(home),
        "DAGTEL_BRIDGE_STATE": str(folder / "bridge.db"),
        "DAGTEL_STATE": str(folder / "daemon.db"),
        "DAGTEL_HISTORY": str(folder / "history.db"),
    }
    prometheus_env = {
        **os.environ,
        "BACKENDS_RUN": str(folder / "backends"),
        "PROM_PORT": str(free_port()),
        "PROM_FROM": backends["prometheus"],
        "PROM_CONFIG": str(folder / "prometheus.yml"),
    }
    (folder / "prometheus.yml").write_text(
        "global: {scrape_interval: 1s}\n"
        f"scrape_configs: [{{job_name: dagtel, static_configs: [{{targets: ['{metrics}']}}]}}]\n"
    )
    script = ROOT / "tests" / "backends" / "prometheus"
    own = ["--set", 'service.telemetry.metrics.address=""', "--set", 'service.telemetry.health.address=""']
    with taking_alerts() as (url, alerts):
        bridge = Daemon("bridge", *own, environment=common, log=folder / "bridge.log")
        daemon = Daemon(
            *("run", "--config", str(ROOT / "configs" / "full.yaml"), *own),
            environment={**common, "DAGTEL_WEBHOOK": url},
            log=folder / "daemon.log",
        )
        try:
            up = subprocess.run(
                [script, "up"], env=prometheus_env, capture_output=True, text=True, timeout=60, check=True
            )
            made = Road(backends, up.stdout.strip().splitlines()[-1])
            played = subprocess.run(
                [PYTHON, "-m", "glucose.play", "once"],
                env={
                    **os.environ,
                    "DAGSTER_HOME": str(home),
                    "PYTHONPATH": str(ROOT / "demo"),
                    "GLUCOSE_OTLP_ENDPOINTS": backends["jaeger_otlp"],
                },
                capture_output=True,
                text=True,
                timeout=150,
                check=True,
            )
            for each in (bridge, daemon):
                assert each.process.poll() is None, each.log.read_text()
            for line in played.stdout.splitlines():
                _, weather, how, run = line.split()
                made.runs[weather] = (how, run)
            made.alerts = alerts
            yield made
            assert daemon.stop() == 0, (folder / "daemon.log").read_text()
            assert bridge.stop() == 0, (folder / "bridge.log").read_text()
        finally:
            print((folder / "bridge.log").read_text()[-3000:], (folder / "daemon.log").read_text()[-3000:])
            daemon.kill()
            bridge.kill()
            subprocess.run([script, "wipe"], env=prometheus_env, capture_output=True, check=False)


def test_jaeger_has_the_run_as_a_tree_with_the_users_own_spans_under_the_step(road: Road) -> None:
    spans = road.trace("fine", 20)
    by_id = {span["spanID"]: span for span in spans}
    parent = {
        span["spanID"]: next((r["spanID"] for r in span["references"] if r["refType"] == "CHILD_OF"), "")
        for span in spans
    }
    roots = [id for id, above in parent.items() if not above]
    assert len(roots) == 1
    assert set(parent.values()) - {""} <= set(by_id)
    (fetch,) = [span for span in spans if span["operationName"] == "fetch_from_api"]
    way = [fetch["spanID"]]
    while parent[way[-1]]:
        way.append(parent[way[-1]])
    assert [by_id[id]["operationName"] for id in way[:-1]] == ["fetch_from_api", ASSET, ASSET]
    tags = {tag["key"]: tag["value"] for tag in by_id[way[2]]["tags"]}
    assert tags["cicd.pipeline.task.run.id"] == f"{ASSET}#1"


def test_a_retried_step_has_a_span_an_attempt_and_the_users_spans_hang_on_the_right_one(road: Road) -> None:
    spans = road.trace("flaky", 20)
    attempts = {
        tag["value"]: span["spanID"]
        for span in spans
        for tag in span["tags"]
        if tag["key"] == "cicd.pipeline.task.run.id" and tag["value"].startswith(f"{ASSET}#")
    }
    assert len(attempts) >= 2
    parents = {
        reference["spanID"]
        for span in spans
        if span["operationName"] == ASSET and span["spanID"] not in attempts.values()
        for reference in span["references"]
        if reference["refType"] == "CHILD_OF"
    }
    assert set(attempts.values()) == parents


def test_loki_answers_the_seeds_query(road: Road) -> None:
    lines = road.lines(f'{{job="dagster"}} | json | asset_name="{ASSET}" | status="success"')
    assert all(line["duration_ms"] > 0 and line["message"].startswith("Succeeded in") for line in lines)
    assert all(len(line["trace_id"]) == 32 and len(line["span_id"]) == 16 for line in lines)
    assert road.run("fine") in {line["run_id"] for line in lines}


def test_the_fields_of_the_users_own_log_lines_are_fields_in_loki(road: Road) -> None:
    lines = road.lines('{job="dagster"} | json | message="api_fetch_success" | rows_returned > 0')
    assert {line["step_key"] for line in lines} == {ASSET}


def test_prometheus_has_scraped_the_seeds_series(road: Road) -> None:
    failed = sum(how == "failed" for how, _ in road.runs.values())
    road.figure(f'asset_executions_total{{asset_name="{ASSET}"}}', len(road.runs))
    road.figure(f'asset_execution_failures_total{{asset_name="{ASSET}"}}', 1)
    road.figure(f'count(asset_row_count{{asset_name="{ASSET}", schema="raw"}})', 1)
    road.figure('sum(dagster_runs_total{job_name="daily_glucose_pipeline", status="failure"})', failed)
    road.figure('sum(dagster_runs_total{job_name="daily_glucose_pipeline"})', len(road.runs))
    road.figure('count(validation_pass_rate{check_name="no_duplicates"})', 1)
    road.figure(f'count(asset_execution_seconds_count{{asset_name="{ASSET}", status="success"}})', 1)


def test_the_alert_says_what_where_and_whom_it_touches(road: Road) -> None:
    def ask() -> list[dict[str, Any]]:
        return [a for a in road.alerts if a["kind"] == "asset_failure" and a["asset"] == ASSET]

    (alert,) = until("the alert", ask)
    assert alert["state"] == "firing"
    assert alert["run_id"] == road.run("down")
    assert "timeout" in alert["error"]["message"]
    assert alert["error"]["file"].endswith(".py")
    assert alert["error"]["line"] > 0
    assert {"stg_glucose_entries", "fct_glucose_readings", "publish_glucose_marts"} <= set(alert["impact"]["assets"])
    assert alert["impact"]["exposures"] == ["Glucose Overview"]
    assert "team:analytics" in alert["impact"]["owners"]
