"""An OpenTelemetry Collector beside the road: `collector.yaml` with the binary that OTELCOL_BIN names.

It gets every record of the topic into a log record, in batches, to the same sink: no decoding of events, no runs, no
traces, metrics or alerts, nothing on disk. A batch that it holds when it is killed is lost. So that nothing is, as the
road has it, its documents want one call for each record (`collector-at-least-once.yaml`). Its time is that of all its
threads until the group has committed the topic's end and it has stopped in order.
"""

import os
import subprocess
import time

import anyio
import msgspec

from benchmarks.running import HERE, Run, Timed
from benchmarks.service import PATIENCE_S
from benchmarks.topic import read_by

VARIABLE = "OTELCOL_BIN"


class Way(msgspec.Struct, frozen=True):
    """How it is run: in words, its `kafka` receiver's encoding, its configuration, and what part of the events it
    gets."""

    words: str
    encoding: str
    config: str = "collector.yaml"
    part: int = 1


WAYS = (
    Way("as text", "text"),
    Way("decoded as JSON", "json"),
    Way("decoded as JSON, none lost", "json", "collector-at-least-once.yaml", 20),
)
WITHOUT = (
    f"No Collector beside it: `{VARIABLE}=/path/to/otelcol make bench` adds one. Any build with the `kafka` receiver,",
    "the `batch` processor and the `otlphttp` exporter will do: `otelcol-contrib`, or the one that",
    "`cd benchmarks/collector && go build -o otelcol .` makes.",
)


def binary() -> str:
    """The Collector to run; empty: none."""
    return os.environ.get(VARIABLE, "")


def release() -> str:
    """What it calls itself: its version."""
    said = subprocess.run([binary(), "--version"], capture_output=True, text=True, check=True).stdout
    return said.split()[-1]


def collect(bootstrap: str, topic: str, sink_url: str, count: int, way: Way) -> Run:
    """The Collector over one topic of `count` records, in a group of its own. When it was done its commits say, once a
    second: `wall` is no measure of it."""
    group = f"{topic}-collector-{time.time_ns()}"
    env = {
        "BENCH_KAFKA": bootstrap,
        "BENCH_TOPIC": topic,
        "BENCH_SINK": sink_url,
        "BENCH_GROUP": group,
        "BENCH_ENCODING": way.encoding,
    }
    collector = Timed([binary(), "--config", str(HERE / way.config)], env)
    try:
        anyio.run(read_by, bootstrap, group, topic, count, PATIENCE_S)
    except BaseException:
        collector.process.kill()
        raise
    return collector.stopped()
