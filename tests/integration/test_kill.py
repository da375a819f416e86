"""kill -9 for real: from real Kafka to real Jaeger, Loki and a webhook; the figures are as if nothing had happened."""

import json
import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from benchmarks.load import records
from benchmarks.topic import fill
from tests.integration.conftest import ROOT, Daemon, jaeger_trace, loki_lines, totals, until
from tests.integration.webhook import taking_alerts

pytestmark = pytest.mark.integration

EVENTS = 6000
KILLS = 6


@pytest.fixture
def webhook() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    with taking_alerts() as taking:
        yield taking


def recorded_at() -> int:
    """When the corpus's last event was, in Unix seconds."""
    return max(int(json.loads(record.value)["timestamp"]) for record in records(3000))


def attempts(events: list[dict[str, Any]]) -> Counter[str]:
    """Step attempts of each run, by the formula of tests/data/check.py."""
    steps: dict[str, set[tuple[str, str]]] = {}
    found: Counter[str] = Counter()
    for event in events:
        if detail := event["dagster_event"]:
            kind = detail["event_type_value"]
            steps.setdefault(kind, set()).add((event["run_id"], detail["step_key"]))
            found[event["run_id"]] += kind == "STEP_RESTARTED"
    begun = steps["STEP_START"] | steps["STEP_FAILURE"]
    for run, _ in begun:
        found[run] += 1
    return found


@pytest.mark.timeout(300)
def test_killed_again_and_again_nothing_is_lost_and_nothing_counted_twice(
    backends: dict[str, str], daemons: Callable[..., Daemon], webhook: tuple[str, list[dict[str, Any]]], tmp_path: Path
) -> None:
    url, alerts = webhook
    name = f"kill-{os.getpid()}-{time.time_ns()}"
    later = int(time.time()) - recorded_at()  # Loki asks its memory for what is young, and its disk for what is old
    anyio.run(fill, backends["kafka"], name, EVENTS, 2, later, name)
    events = [json.loads(record.value) for record in records(EVENTS, later_s=later, salt=name)]
    environment = {
        "DAGTEL_KAFKA": backends["kafka"],
        "DAGTEL_TOPIC": name,
        "DAGTEL_GROUP": name,
        "DAGTEL_STATE": str(tmp_path / "state.db"),
        "DAGTEL_HISTORY": str(tmp_path / "history.db"),
        "DAGTEL_JAEGER_ENDPOINT": backends["jaeger_otlp"],
        "DAGTEL_LOKI_ENDPOINT": backends["loki"],
        "DAGTEL_WEBHOOK": url,
    }
    sets = {
        "service.telemetry.metrics.address": '""',
        "service.telemetry.health.address": '""',
        "exporters.prometheus.address": '""',
        "receivers.kafka.max_poll_records": "40",
        "service.checkpoint_interval": "20ms",
        "service.intake.max_bytes": "100KB",
        "exporters.loki.labels": f"{{job: {name}}}",
        "exporters.prometheus.textfile": str(tmp_path / "metrics.prom"),
    }
    command = ["run", "--config", str(ROOT / "configs" / "full.yaml")]
    command += [part for key, value in sets.items() for part in ("--set", f"{key}={value}")]
    chance = random.Random(11)
    for _ in range(KILLS):
        daemon = daemons(*command, **environment)
        time.sleep(1.2 + chance.random() * 1.5)
        assert daemon.process.poll() is None, daemon.log.read_text()
        daemon.kill()
    last = daemons(*command, "--once", **environment)
    assert last.process.wait(120) == 0, last.log.read_text()

    start = min(int(e["timestamp"] * 1e9) for e in events) - 10**9
    end = max(int(e["timestamp"] * 1e9) for e in events) + 10**9
    lines = loki_lines(backends["loki"], f'{{job="{name}"}}', start, end)
    assert Counter(line["event_id"] for line in lines).most_common(1)[0][1] == 1, "a line is in Loki twice"
    assert len([line for line in lines if not line.get("derived")]) == EVENTS

    runs = {event["run_id"] for event in events} - {""}
    wanted = attempts(events)
    for run in runs:
        spans = until(f"the trace of {run}", lambda run=run: jaeger_trace(backends["jaeger"], run.replace("-", "")))
        tags = [{tag["key"] for tag in span["tags"]} for span in spans]
        assert len({span["spanID"] for span in spans}) == len(spans), "a span is in Jaeger twice"
        assert sum("cicd.pipeline.task.run.id" in keys for keys in tags) == wanted[run]
        assert sum(not span["references"] or _links_only(span) for span in spans) == 1

    text = (tmp_path / "metrics.prom").read_text()
    materialized = Counter(
        "/".join(e["dagster_event"]["event_specific_data"]["materialization"]["asset_key"]["path"])
        for e in events
        if e["dagster_event"] and e["dagster_event"]["event_type_value"] == "ASSET_MATERIALIZATION"
    )
    assert totals(text, "asset_materializations_total", "asset_name") == materialized

    repeats = Counter((alert["key"], alert["state"], alert["last_at"]) for alert in alerts)
    assert sum(count - 1 for count in repeats.values()) <= KILLS, "at most the call that a kill cut off comes twice"
    firing = {alert["fingerprint"] for alert in alerts if alert["state"] == "firing"}
    assert len(firing) >= 5


def _links_only(span: dict[str, Any]) -> bool:
    return all(reference["refType"] != "CHILD_OF" for reference in span["references"])
