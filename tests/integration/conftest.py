"""Real processes and real backends: how to start the first and ask the second."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest

ROOT = Path(__file__).parents[2]
DAGTEL = str(Path(sys.executable).with_name("dagtel"))
NAMES = {
    "kafka": "DAGTEL_TEST_KAFKA",
    "jaeger_otlp": "DAGTEL_TEST_JAEGER_OTLP",
    "jaeger": "DAGTEL_TEST_JAEGER_QUERY",
    "loki": "DAGTEL_TEST_LOKI",
    "prometheus": "DAGTEL_TEST_PROMETHEUS",
}


@pytest.fixture(scope="session")
def backends() -> dict[str, str]:
    """Addresses of the backends; skips where one is not named."""
    missing = [variable for variable in NAMES.values() if not os.environ.get(variable)]
    if missing:
        pytest.skip(f"{', '.join(missing)} not set: no real backends (tests/backends/all starts them)")
    return {name: os.environ[variable] for name, variable in NAMES.items()}


def get(url: str, **query: object) -> Any:
    """The JSON that a GET answers."""
    with urlopen(f"{url}?{urlencode(query)}" if query else url, timeout=10) as answer:
        return json.load(answer)


def until(what: str, found: Callable[[], Any], seconds: float = 120) -> Any:
    """Ask again and again until the answer is true; gives it."""
    deadline = time.monotonic() + seconds
    last: object = None
    while time.monotonic() < deadline:
        try:
            last = found()
            if last:
                return last
        except (URLError, ConnectionError, TimeoutError) as error:
            last = error
        time.sleep(0.2)
    raise AssertionError(f"not in {seconds} s: {what}; last: {last!r}")


class Daemon:
    """A `dagtel` process; it is gone with the test."""

    def __init__(self, *command: str, environment: dict[str, str], log: Path) -> None:
        self.log = log
        self._file = log.open("ab")
        self.process = subprocess.Popen(
            [DAGTEL, *command], env={**os.environ, **environment}, stdout=self._file, stderr=self._file
        )

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """SIGTERM; gives the exit code."""
        return self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        code = self.process.wait(40)
        self._file.close()
        return code


@pytest.fixture
def daemons(tmp_path: Path) -> Iterator[Callable[..., Daemon]]:
    """Starts daemons, and ends those that are left."""
    started: list[Daemon] = []

    def start(*command: str, **environment: str) -> Daemon:
        started.append(Daemon(*command, environment=environment, log=tmp_path / "daemon.log"))
        return started[-1]

    yield start
    for daemon in started:
        daemon.kill()
    print((tmp_path / "daemon.log").read_text()[-8000:] if started else "")


def loki_lines(url: str, query: str, start_ns: int, end_ns: int, limit: int = 5000) -> list[dict[str, Any]]:
    """All lines that a LogQL query answers, page after page."""
    found: list[dict[str, Any]] = []
    while True:
        answer = get(
            f"{url}/loki/api/v1/query_range", query=query, start=start_ns, end=end_ns, limit=limit, direction="forward"
        )
        page = sorted((int(at), line) for s in answer["data"]["result"] for at, line in s["values"])
        found += [json.loads(line) for _, line in page]
        if len(page) < limit:
            return found
        start_ns = page[-1][0] + 1
        kept = [line for at, line in page if at < start_ns - 1]
        found = found[: len(found) - len(page)] + [json.loads(line) for line in kept]
        start_ns -= 1


def jaeger_trace(url: str, trace_id: str) -> list[dict[str, Any]]:
    """The spans of a trace, empty while there is none."""
    try:
        data = get(f"{url}/api/traces/{trace_id}")["data"]
    except URLError as error:
        if getattr(error, "code", 0) == 404:
            return []
        raise
    return data[0]["spans"] if data else []


def series(text: str, name: str) -> dict[frozenset[tuple[str, str]], float]:
    """The samples of one metric in a Prometheus text."""
    from prometheus_client.parser import text_string_to_metric_families

    return {
        frozenset(sample.labels.items()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name
    }


def totals(text: str, name: str, label: str) -> Counter[str]:
    """The sum of a metric by one label."""
    summed: Counter[str] = Counter()
    for labels, value in series(text, name).items():
        summed[dict(labels)[label]] += int(value)
    return summed
