"""`dagtel replay` from a range of a real topic: as its file would be, with the run's tags from the records' headers.

DAGTEL_TEST_KAFKA: bootstrap servers.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from pathlib import Path

import anyio
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from click.testing import Result
from typer.testing import CliRunner

from pipeline.cli.app import app
from pipeline.scenario.story import Log

BOOTSTRAP = os.environ.get("DAGTEL_TEST_KAFKA", "")
TWO = 1_705_284_000 * 10**9  # 2024-01-15 02:00:00

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not BOOTSTRAP, reason="DAGTEL_TEST_KAFKA names no broker"),
]
_numbers = count()

CONFIG = """
receivers:
  kafka: {brokers: BROKERS, topics: TOPIC, group_id: TOPIC}
processors: {run_ledger: , dedup: {group_wait: 0s, group_by: [backfill]}}
connectors: {alerts: }
exporters: {console_alerts: }
service:
  state: {path: state.db}
  pipelines:
    events: {receivers: [kafka], processors: [run_ledger], exporters: [alerts]}
    alerts: {receivers: [alerts], processors: [dedup], exporters: [console_alerts]}
"""


def failures(times: int) -> list[tuple[int, str, bytes]]:
    """Time, run and bytes of an asset's failures, one each 20 minutes from 02:00."""
    logs = [Log(f"r{n}", start_ns=TWO + n * 1200 * 10**9, tick_ns=0) for n in range(times)]
    for log in logs:
        log.plan("orders", "orders").run_start().step_start("orders").step_failure("orders").run_failure()
    return [(at, log.run, line) for log in logs for at, line in log.timed_lines()]


async def produce(topic: str, entries: Sequence[tuple[int, str, bytes]]) -> None:
    """Runs are spread over three partitions; the records have the entries' own times."""
    admin = AIOKafkaAdminClient(bootstrap_servers=BOOTSTRAP)
    await admin.start()
    await admin.create_topics([NewTopic(topic, 3, 1, topic_configs={"retention.ms": "-1"})])  # it is of 2024
    await admin.close()
    producer = AIOKafkaProducer(bootstrap_servers=BOOTSTRAP)
    await producer.start()
    for at_ns, run, line in entries:
        partition = int(run[1:]) % 3
        await producer.send(topic, line, run.encode(), partition, at_ns // 10**6)
    await producer.stop()


@pytest.fixture
def replay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Result]]:
    topic = f"replay-{os.getpid()}-{next(_numbers)}"
    anyio.run(produce, topic, failures(7))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "new.yaml").write_text(CONFIG.replace("BROKERS", BOOTSTRAP).replace("TOPIC", topic))
    yield lambda *options: CliRunner().invoke(app, ["replay", "--config", "new.yaml", *options])


def rows(result: Result) -> list[str]:
    """Mark, time of day, state, count."""
    assert result.exit_code == 0, result.output
    lines = [(line[0], line[2:].split()) for line in result.stdout.splitlines()[:-1]]
    return [f"{mark} {words[1][:5]} {words[2]} {words[7]}" for mark, words in lines]


def test_a_topic_is_played_in_order_of_time_over_all_its_partitions(replay: Callable[..., Result]) -> None:
    assert rows(replay("--from", "kafka")) == ["  02:00 firing 1", "  03:00 digest 3", "  04:00 digest 3"]
    assert not Path("state.db").exists()


def test_a_range_of_it(replay: Callable[..., Result]) -> None:
    later = replay("--from", "kafka", "--since", "2024-01-15T02:20", "--until", "2024-01-15T03:00", "--beyond", "1h")
    assert rows(later) == ["  02:20 firing 1", "  03:20 digest 1"]
    nothing = replay("--from", "kafka", "--since", "2024-02-01")
    assert nothing.exit_code == 1
    assert "kafka from 2024-02-01 00:00:00Z to " in nothing.output
    assert "holds no record" in nothing.output


def test_against_another_configuration(replay: Callable[..., Result]) -> None:
    Path("old.yaml").write_text(Path("new.yaml").read_text())
    options = ("--from", "kafka", "--set", "processors.dedup.window=40m", "--against", "old.yaml")
    assert rows(replay(*options)) == [
        "  02:00 firing 1",
        "+ 02:40 digest 2",
        "- 03:00 digest 3",
        "+ 03:20 digest 2",
        "- 04:00 digest 3",
        "+ 04:00 digest 2",
    ]


def test_what_cannot_be_read_is_told(replay: Callable[..., Result]) -> None:
    missing = replay("--from", "kafka", "--set", "receivers.kafka.topics=no-such-topic")
    assert (missing.exit_code, "there is no topic no-such-topic" in missing.output) == (1, True)
    other = replay("--from", "kafak")
    assert other.exit_code == 2
    assert "no such receiver: there is kafka" in other.output.replace("\n", " ").replace("│", "").replace("  ", " ")
