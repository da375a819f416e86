"""The command lines of the demo's processes: the road that an event takes, and what each is told about the others."""

import os
import sys
from dataclasses import dataclass, field
from pathlib import Path

from demo.broker import free_port
from demo.children import Child, Children
from demo.seen import Seen

ROOT = Path(__file__).resolve().parents[1]
DAGTEL = [sys.executable, "-c", "from pipeline.cli import main; main()"]
DAGSTER_PYTHON = os.environ.get("DEMO_DAGSTER_PYTHON") or str(ROOT / ".venv-dagster" / "bin" / "python")
JAEGER, LOKI = "DAGTEL_JAEGER_ENDPOINT", "DAGTEL_LOKI_ENDPOINT"


def _address() -> str:
    return f"127.0.0.1:{free_port()}"


@dataclass(frozen=True)
class Place:
    """Where everything is: the demo's folder, the sink's base URL, the broker's `host:port` (None: there is none)."""

    folder: Path
    sink: str
    broker: str | None
    metrics: str = field(default_factory=_address)
    own_metrics: str = field(default_factory=_address)
    api: str = field(default_factory=_address)

    @property
    def home(self) -> Path:
        """DAGSTER_HOME."""
        return self.folder / "dagster"


def make_home(place: Place) -> None:
    """A Dagster instance on SQLite that phones nowhere."""
    place.home.mkdir()
    (place.home / "dagster.yaml").write_text("telemetry: {enabled: false}\n")


def start_bridge(place: Place, children: Children) -> Child:
    """Dagster's storage → the broker, whose topic it makes."""
    env = {
        "DAGTEL_DAGSTER_HOME": str(place.home),
        "DAGTEL_KAFKA": place.broker or "",
        "DAGTEL_BRIDGE_STATE": str(place.folder / "bridge.db"),
    }
    return children.start("bridge", [*DAGTEL, "bridge"], env)


def start_daemon(place: Place, seen: Seen, children: Children) -> Child:
    """The broker (or Dagster's storage) → the sink, `/metrics`, alerts on stdout; and whatever the user named."""
    env = {
        "DAGTEL_STATE": str(place.folder / "daemon.db"),
        "DAGTEL_HISTORY": str(place.folder / "history.db"),
        "DAGTEL_LINEAGE": str(ROOT / "demo" / "lineage.yaml"),
        "DAGTEL_METRICS_ADDRESS": place.metrics,
        "DAGTEL_OWN_METRICS_ADDRESS": place.own_metrics,
        "DAGTEL_API_ADDRESS": place.api,
        "DAGTEL_URL": os.environ.get("DAGTEL_URL") or f"http://{place.api}",
        JAEGER: os.environ.get(JAEGER) or place.sink,
        LOKI: os.environ.get(LOKI) or place.sink,
    }
    sets = {"connectors.alerts.strip_prefixes": f"[{ROOT / 'demo'}/]"}
    if place.broker is None:
        sets |= {"receivers.dagster.home": str(place.home), "service.pipelines.events.receivers": "[dagster]"}
    else:
        env["DAGTEL_KAFKA"] = place.broker
    for name, exporter, signal in ((JAEGER, "jaeger", "traces"), (LOKI, "loki", "logs")):
        if os.environ.get(name):
            sets[f"exporters.{exporter}/screen.endpoint"] = place.sink
            sets[f"service.pipelines.{signal}.exporters"] = f"[{exporter}, {exporter}/screen]"
    command = [*DAGTEL, "run", "--config", str(ROOT / "configs" / "demo.yaml"), *_sets(sets)]
    return children.start("daemon", command, env, seen.alert_line)


def start_project(place: Place, seen: Seen, children: Children, once: bool) -> Child:
    """The Dagster project, in Dagster's own environment; its spans go where the daemon's go."""
    also = os.environ.get(JAEGER, "")
    env = {
        "DAGSTER_HOME": str(place.home),
        "PYTHONPATH": str(ROOT / "demo"),
        "GLUCOSE_OTLP_ENDPOINTS": ",".join([place.sink, also] if also else [place.sink]),
    }
    return children.start(
        "project", [DAGSTER_PYTHON, "-m", "glucose.play", *(["once"] if once else [])], env, seen.play_line
    )


def _sets(sets: dict[str, str]) -> list[str]:
    return [part for key, value in sets.items() for part in ("--set", f"{key}={value}")]
