"""One daemon and its surroundings: how it is started, how far it is, and what arrived."""

import json
import os
import re
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeAlias
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import urlopen

from prometheus_client.parser import text_string_to_metric_families

from tests.chaos.events import Truth
from tests.integration.conftest import ROOT, Daemon, jaeger_trace, series, until
from tests.ports import free_port

HERE = Path(__file__).parent
LONG = os.environ.get("DAGTEL_CHAOS") == "long"
"""`make chaos` asks for the long form; `make test` runs the short one."""
POLL_S = 0.01
Counters: TypeAlias = dict[tuple[str, frozenset[tuple[str, str]]], float]
"""Counters by name and labels."""


def size(short: int, long: int) -> int:
    """How much of something this form of the suite takes."""
    return long if LONG else short


class Scene:
    """A topic, a state and addresses under one name. `sets` and `environment` may be changed between starts."""

    def __init__(self, name: str, folder: Path, backends: dict[str, str], webhook: str = "") -> None:
        self.name, self.folder, self.backends = f"chaos-{name}-{os.getpid()}-{time.time_ns()}", folder, backends
        self.own = f"127.0.0.1:{free_port()}"
        self.health = f"127.0.0.1:{free_port()}"
        self.metrics = f"127.0.0.1:{free_port()}"
        self.configs = [ROOT / "configs" / "full.yaml"]
        self.environment = {
            "DAGTEL_KAFKA": backends["kafka"],
            "DAGTEL_TOPIC": self.name,
            "DAGTEL_GROUP": self.name,
            "DAGTEL_STATE": str(folder / "state.db"),
            "DAGTEL_HISTORY": str(folder / "history.db"),
            "DAGTEL_JAEGER_ENDPOINT": backends["jaeger_otlp"],
            "DAGTEL_LOKI_ENDPOINT": backends["loki"],
            "DAGTEL_WEBHOOK": webhook,
        }
        self.sets = {
            "service.telemetry.metrics.address": self.own,
            "service.telemetry.health.address": self.health,
            "service.api.address": "",
            "exporters.prometheus.address": self.metrics,
            "exporters.prometheus.textfile": str(folder / "metrics.prom"),
            "exporters.loki.labels": f"{{job: {self.name}}}",
            # each failure is told, by itself and at once: only so can they be counted
            "processors.dedup.group_wait": "0s",
            "processors.dedup.rate_limit.messages": "0",
            "processors.dedup.catch_up_after": "0s",
        }
        self.started: list[Daemon] = []
        self._told = 0
        """Characters of the log that earlier daemons wrote."""
        self.starts: list[float] = []
        """When they were started (wall clock, seconds)."""

    @property
    def log(self) -> str:
        """What all daemons of the scene have logged so far."""
        path = self.folder / "daemon.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def command(self, sets: Mapping[str, str]) -> list[str]:
        """`dagtel run` on the configurations of the scene, with these options on top."""
        command = ["run", *(part for path in self.configs for part in ("--config", str(path)))]
        return command + [part for key, value in sets.items() for part in ("--set", f"{key}={value}")]

    def start(self, *more: str) -> Daemon:
        self._told = len(self.log)
        daemon = Daemon(*self.command(self.sets), *more, environment=self.environment, log=self.folder / "daemon.log")
        self.started.append(daemon)
        self.starts.append(time.time())
        return daemon

    def once(self, within_s: float = 300) -> None:
        """Read all there is, and end."""
        daemon = self.start("--once")
        assert daemon.process.wait(within_s) == 0, self.log[-6000:]
        daemon.kill()  # its log file is closed with it

    def close(self) -> None:
        for daemon in self.started:
            daemon.kill()
        print(self.log[-8000:])

    # --- how far it is ---

    def figures(self, name: str) -> dict[frozenset[tuple[str, str]], float]:
        """The samples of one of the daemon's own metrics; none while it does not answer."""
        try:
            with urlopen(f"http://{self.own}/metrics", timeout=5) as answer:
                text = answer.read().decode()
        except (URLError, OSError):
            return {}
        return series(text, name)

    def accepted(self) -> int:
        """Events taken in by the present process."""
        return int(sum(self.figures("dagtel_receiver_accepted_events_total").values()))

    def lag(self, partitions: int) -> int | None:
        """Records not read yet, None until all partitions are known."""
        found = self.figures("dagtel_kafka_receiver_offset_lag")
        return int(sum(found.values())) if len(found) == partitions else None

    def wait_for_lag(self, most: int, partitions: int, within_s: float = 240) -> None:
        """Wait until so few records are left to be read."""

        def found() -> bool:
            lag = self.lag(partitions)
            return lag is not None and lag <= most

        self.wait(f"{most} records left", found, within_s)

    def idle(self, partitions: int, within_s: float = 240) -> None:
        """Wait until all is read, all that was read is processed, and all is sent."""

        def found() -> bool:
            queues = self.figures("dagtel_exporter_queue_size")
            read = self.lag(partitions) == 0 and not sum(self.figures("dagtel_intake_bytes").values())
            return read and bool(queues) and not sum(queues.values())

        self.wait("all read and sent", found, within_s)

    def ready(self) -> bool:
        return is_ready(self.health)

    def wait(self, what: str, found: Callable[[], Any], within_s: float = 180) -> Any:
        """Wait for a condition, asking often; the daemon must live on. The time is for a machine that is busy."""
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline:
            if answer := found():
                return answer
            code = self.started[-1].process.poll() if self.started else None
            assert code is None, f"the daemon ended with {code} before: {what}\n{self.log[-6000:]}"
            time.sleep(POLL_S)
        raise AssertionError(f"not in {within_s} s: {what}\n{self.log[-6000:]}")

    def first_event(self) -> float:
        """Seconds from its start until the present process had its first events, by its log."""

        def said() -> list[str]:
            return re.findall(r"The first events are read\. after_s=([\d.]+)", self.log[self._told :])

        return float(self.wait("the first event", said)[0])

    # --- what arrived ---

    def counters(self) -> Counters:
        """Every counter of the metrics file, histograms' too."""
        return counters((self.folder / "metrics.prom").read_text())

    def in_loki(self, truth: Truth) -> Counter[str]:
        """How often each event's line is in Loki."""
        found: Counter[str] = Counter()
        for begin_ns, end_ns in slices(truth.times_ns, 1000):
            query = {"query": f'{{job="{self.name}"}}', "start": begin_ns, "end": end_ns, "limit": 5000}
            with urlopen(f"{self.backends['loki']}/loki/api/v1/query_range?{urlencode(query)}", timeout=120) as answer:
                streams = json.load(answer)["data"]["result"]
            lines = [json.loads(line) for stream in streams for _, line in stream["values"]]
            assert len(lines) < 5000, "more lines than one answer holds"
            found.update(line["event_id"] for line in lines if not line.get("derived"))
        return found

    def spans(self, run: str) -> list[dict[str, Any]]:
        """The spans of a run, once there are any."""
        id = run.replace("-", "")
        return until(f"the trace of {run}", lambda: jaeger_trace(self.backends["jaeger"], id), 20)  # type: ignore[no-any-return]


def is_ready(address: str) -> bool:
    """Whether the daemon with this health page says that it is ready."""
    try:
        with urlopen(f"http://{address}/readyz", timeout=5) as answer:
            return bool(answer.status == 200)
    except (URLError, OSError):
        return False


def slices(times_ns: Sequence[int], most: int) -> list[tuple[int, int]]:
    """Spans of time, each with about `most` of the times in it, from a second before the first to one after the last:
    one answer of Loki's holds 5000 lines, and a long span takes it long."""
    ordered = sorted(times_ns)
    cuts = sorted({ordered[0] - 10**9, *ordered[most::most], ordered[-1] + 10**9})
    return list(pairwise(cuts))


def counters(text: str) -> Counters:
    """Every counter in a Prometheus text, by name and labels; of a histogram its buckets and its count."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if family.type in ("counter", "histogram") and not sample.name.endswith(("_created", "_sum"))
    }


def figures_of(counted: Counters) -> tuple[Counter[Any], Counter[Any], Counter[Any]]:
    """Materializations an asset, check evaluations an asset and status, runs a job and status, as dagtel counts: to be
    held against `Truth`."""
    materialized: Counter[Any] = Counter()
    checks: Counter[Any] = Counter()
    runs: Counter[Any] = Counter()
    for (name, labels), value in counted.items():
        label = dict(labels)
        if name == "asset_materializations_total" and value:
            materialized[label["asset_name"]] += int(value)
        elif name == "asset_check_evaluations_total" and value:
            checks[label["asset_name"], label["status"]] += int(value)
        elif name == "dagster_runs_total" and value and label["status"] in ("success", "failure", "canceled"):
            runs[label["job_name"], label["status"]] += int(value)
    return materialized, checks, runs


def undisturbed(scene: Scene, topic: str = "") -> Counters:
    """The counters of a daemon that reads the same topic, or another one, in one go."""
    folder = scene.folder / "undisturbed"
    folder.mkdir()
    calm = Scene("calm", folder, scene.backends)
    calm.configs = [HERE / "counters.yaml"]
    calm.environment |= {"DAGTEL_TOPIC": topic or scene.environment["DAGTEL_TOPIC"]}
    calm.sets = {"exporters.prometheus.textfile": str(folder / "metrics.prom")}
    calm.once()
    return calm.counters()


def different(found: dict[Any, float], wanted: dict[Any, float]) -> tuple[int, int, list[str]]:
    """By how much counters are below and above the truth, and the worst of them."""
    lost = doubled = 0
    worst = []
    for key in found.keys() | wanted.keys():
        by = found.get(key, 0.0) - wanted.get(key, 0.0)
        lost, doubled = lost + int(max(0, -by)), doubled + int(max(0, by))
        if by:
            worst.append(f"{key}: {found.get(key)} for {wanted.get(key)}")
    return lost, doubled, worst[:10]


def whole(spans: list[dict[str, Any]], attempts: int | None) -> list[str]:
    """What is wrong with a trace: nothing, if each span is there once, all hang on one root, and so many are attempts
    at a step (None: nobody knows how many)."""
    ids = {span["spanID"] for span in spans}
    above = [[r["spanID"] for r in span["references"] if r["refType"] == "CHILD_OF"] for span in spans]
    steps = sum(any(tag["key"] == "cicd.pipeline.task.run.id" for tag in span["tags"]) for span in spans)
    wrong = []
    if len(ids) != len(spans):
        wrong.append(f"{len(spans) - len(ids)} spans twice")
    if sum(not parents for parents in above) != 1:
        wrong.append("not one root")
    if missing := {parent for parents in above for parent in parents} - ids:
        wrong.append(f"{len(missing)} parents missing")
    if attempts not in (None, steps):
        wrong.append(f"{steps} step attempts for {attempts}")
    return wrong
