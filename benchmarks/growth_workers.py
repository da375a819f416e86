"""What several workers bring and cost: `configs/cluster.yaml` on Kafka and the PostgreSQL of DAGTEL_TEST_POSTGRES."""

import os
import socket
import tempfile
import time
from bisect import bisect_left
from collections.abc import Sequence

import anyio

from benchmarks.growth_road import COST, EVENTS, ROUNDS, Ratio, backends, cost, filled, least
from benchmarks.page import Cell, table
from benchmarks.running import DAGTEL, HERE, Run, Timed, free_port, less, loop, options
from benchmarks.service import PATIENCE_S
from benchmarks.topic import delete, ends, read_by

POSTGRES = "DAGTEL_TEST_POSTGRES"
WORKERS = (1, 2)
PARTITIONS = 4
_APART = 10
"""The second worker's ports are so much higher: docs/cluster.md."""
Seen = Sequence[tuple[float, int]]


def rate(seen: Seen) -> float:
    """Records a second while the middle eight tenths were read, by what was committed when."""
    reads = [read for _, read in seen]
    first, last = (bisect_left(reads, share * reads[-1]) for share in (0.1, 0.9))
    passed = seen[last][0] - seen[first][0]
    return (reads[last] - reads[first]) / passed if passed else 0.0


def two_ports() -> int:
    """A port that is free, as is the second worker's."""
    while True:
        first = free_port()
        with socket.socket() as second:
            try:
                second.bind(("127.0.0.1", first + _APART))
            except OSError:
                continue
            return first


def group(bootstrap: str, topic: str, sink_url: str, count: int, number: int) -> tuple[Run, float]:
    """So many workers from an empty state until all is read, and what came of it as well: (times of all, rate)."""
    outcomes = f"{topic}-outcomes-{time.time_ns()}"
    schema = f"growth_{os.getpid()}_{time.time_ns()}"
    name = f"growth-{time.time_ns()}"
    with tempfile.TemporaryDirectory() as out:
        env = {
            "DAGTEL_KAFKA": bootstrap,
            "DAGTEL_TOPIC": topic,
            "DAGTEL_OUTCOMES_TOPIC": outcomes,
            "DAGTEL_GROUP": name,
            "DAGTEL_POSTGRES": os.environ[POSTGRES],
            "DAGTEL_SCHEMA": schema,
            "DAGTEL_JAEGER_ENDPOINT": sink_url,
            "DAGTEL_LOKI_ENDPOINT": sink_url,
        }
        sets = [
            "exporters.prometheus.address=",
            f"exporters.prometheus.textfile={out}/metrics.prom",
            f"exporters.store.postgresql.schema={schema}_history",
            "service.api.address=",
            f"service.telemetry.metrics.address=127.0.0.1:{two_ports()}",
            "service.telemetry.health.address=",
            "service.telemetry.logs.level=warning",
            *(f"receivers.{receiver}.commit_interval=500ms" for receiver in ("kafka", "kafka/outcomes")),
        ]
        config = HERE.parent / "configs" / "cluster.yaml"
        command = [DAGTEL, "run", "--config", config, "--workers", str(number), "--leave", *options(sets)]
        daemons = Timed(command, env)
        try:
            seen = anyio.run(read_by, bootstrap, name, topic, count, PATIENCE_S)
            told = anyio.run(ends, bootstrap, outcomes)
            anyio.run(read_by, bootstrap, f"{name}.outcomes", outcomes, told, PATIENCE_S)
            run = daemons.stopped()
        except BaseException:
            daemons.process.terminate()
            daemons.process.wait()
            raise
        finally:
            _drop(schema)
            anyio.run(delete, bootstrap, outcomes)
    return run, rate(seen)


def _drop(schema: str) -> None:
    import psycopg  # of the tests' dependencies

    with psycopg.connect(os.environ[POSTGRES], autocommit=True) as connection:
        for name in (schema, f"{schema}_history"):
            connection.execute(f"DROP SCHEMA IF EXISTS {name} CASCADE".encode())


def workers() -> list[str]:
    """One and two workers over the same partitions."""
    if not os.environ.get(POSTGRES):
        return [f"Not measured: {POSTGRES} names no PostgreSQL."]
    rows: list[Sequence[Cell]] = []
    found: dict[int, list[tuple[Ratio, float]]] = {number: [] for number in WORKERS}
    with backends() as (bootstrap, url), filled(bootstrap, EVENTS, PARTITIONS) as topic, filled(bootstrap, 1) as one:
        starts = {number: group(bootstrap, one, url, 1, number)[0] for number in WORKERS}
        for _ in range(ROUNDS):
            for number in WORKERS:
                bare = loop(bootstrap, topic, "decode", PARTITIONS)
                run, speed = group(bootstrap, topic, url, EVENTS, number)
                found[number].append(((less(run, starts[number]), bare), speed))
                print(f"  {number}: {cost(found[number][-1][0])}, {speed:,.0f} a second", flush=True)
    for number, rounds in found.items():
        rows.append((number, *cost(least([pair for pair, _ in rounds])), round(max(speed for _, speed in rounds))))
    return [
        f"`configs/cluster.yaml`, {EVENTS:,} events in {PARTITIONS} partitions, without notifiers; CPU of all",
        "processes of dagtel, until the outcomes are counted, too, without what Kafka and PostgreSQL take, which share",
        f"the {os.cpu_count()} cores of this machine with the workers, the sink and whatever else runs here: the rate",
        "is what this machine gives and not how far workers scale; for that each would need a core of its own.",
        "",
        *table(("workers", *COST, "events/s, middle eight tenths"), rows),
    ]
