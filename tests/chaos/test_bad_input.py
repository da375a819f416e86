"""Records that are no events, plugins that raise and hang, messages far too large."""

import json
import os
import random
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from benchmarks.load import Record, records
from tests.chaos.events import Truth, fill, make_topic, mixed, recorded_at, write
from tests.chaos.scene import HERE, Scene, different, size, undisturbed
from tests.chaos.table import Row, record
from tests.chaos.verdict import compared

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(1800)]

EVENTS = size(2_000, 20_000)
PARTITIONS = 2
POISON = (
    b"\xff\xfe\x00no text at all",
    b"",
    b"{",
    b"null",
    b'{"__class__": "EventLogEntry", "timestamp": "yesterday"}',
    b"[" * 100_000,
    b'{"run_id": {"$oid": 1}, "dagster_event": 7, "timestamp": 1e400}',
)


def _spoiled(made: list[Record]) -> tuple[list[Record], list[Record], int, int]:
    """Every tenth record a poisonous one, every hundredth event one on which a plugin raises: what goes into the
    topic, what of it is well, and how many there are of either kind."""
    mixture: list[Record] = []
    well: list[Record] = []
    poisonous = raising = 0
    for number, good in enumerate(made):
        if number % 9 == 8:
            mixture.append(Record(POISON[poisonous % len(POISON)], good.key, 0))
            poisonous += 1
        if number % 100 == 99:
            mixture.append(Record(b'{"chaos": "raise", ' + good.value[1:], good.key, good.storage_id))
            raising += 1
        else:
            mixture.append(good)
            well.append(good)
    return mixture, well, poisonous, raising


def test_poison_and_plugins_that_raise_and_hang_harm_what_they_touch_alone(
    scene: Callable[..., Scene], webhook: tuple[str, list[dict[str, Any]]]
) -> None:
    url, alerts = webhook
    here = scene("poison", url)
    path = os.pathsep.join(filter(None, (str(HERE / "plugins"), os.environ.get("PYTHONPATH"))))
    here.environment |= {"PYTHONPATH": path, "CHAOS_STUCK": str(here.folder / "stuck.jsonl")}
    here.configs.append(HERE / "plugins.yaml")
    here.sets |= {"service.shutdown_timeout": "3s"}
    mixture, well, poisonous, raising = _spoiled(mixed(EVENTS, int(time.time()) - recorded_at(), here.name, every=200))
    anyio.run(fill, here.backends["kafka"], here.name, mixture, PARTITIONS)
    anyio.run(fill, here.backends["kafka"], f"{here.name}-well", well, PARTITIONS)
    truth = Truth(well)

    began = time.monotonic()
    daemon = here.start()
    others = ("jaeger", "loki", "webhook")

    def done() -> bool:
        queues = here.figures("dagtel_exporter_queue_size")
        waiting = sum(queues.get(frozenset({("exporter", name)}), 1.0) for name in others)
        return here.lag(PARTITIONS) == 0 and not waiting and len(here.in_loki(truth)) >= truth.events

    here.wait("the others are served", done)
    took = time.monotonic() - began
    dead = sum(here.figures("dagtel_dead_letters_total").values())
    assert daemon.stop() == 0, here.log[-4000:]
    assert not (here.folder / "stuck.jsonl").exists(), "it hangs"
    here.sets |= {"exporters.stuck.hang": "false", "service.shutdown_timeout": "60s"}
    here.once()

    stuck = Counter(id for line in (here.folder / "stuck.jsonl").read_text().splitlines() for id in json.loads(line))
    # a step's begin may be among what was spoiled, and then the formula does not know of the attempt
    found = compared(here, truth, alerts, f"{here.name}-well", attempts=False)
    record(
        Row(
            order=3,
            fault="a poison record every tenth, a plugin that raises on every hundredth event, an exporter that hangs",
            times=poisonous + raising,
            events=len(mixture),
            lost=found.lost + truth.events - len(stuck),
            doubled=found.doubled + stuck.total() - len(stuck),
            recovery=f"none needed; all else through in {took:.1f} s",
            seen=f"{int(dead):,} dead letters; the hanging exporter got all of it at the next start",
        )
    )
    found.check()
    assert dead == poisonous + raising
    assert (len(stuck), stuck.total()) == (truth.events, truth.events)


LARGE = size(12, 60)
LARGE_BYTES = 10_000_000
LIMIT_MIB = 512


def test_messages_of_10_mb_pass_within_the_memory_that_the_limiter_gives(scene: Callable[..., Scene]) -> None:
    here = scene("large")
    later = int(time.time()) - recorded_at()
    made = list(records(LARGE * 100, later_s=later, salt=here.name))
    chance = random.Random(3)
    for number in range(LARGE):
        at = number * 100 + 50
        made[at] = _larger(made[at], chance)
    anyio.run(_fill_large, here, made)
    here.sets |= {"processors.memory_limiter.limit": f"{LIMIT_MIB}MiB", "service.telemetry.logs.level": "info"}
    daemon = here.start("--once")
    peak = 0
    deadline = time.monotonic() + 600
    while daemon.process.poll() is None and time.monotonic() < deadline:
        peak = max(peak, _peak_kib(daemon.process.pid))
        time.sleep(0.05)
    assert daemon.process.returncode == 0, here.log[-4000:]

    truth = Truth(made)
    lines = here.in_loki(truth)
    lost, doubled, worst = different(here.counters(), undisturbed(here))
    record(
        Row(
            order=3.5,
            fault="messages of 10 MB",
            times=LARGE,
            events=len(made),
            lost=lost + truth.events - len(lines),
            doubled=doubled + lines.total() - len(lines),
            recovery="none needed",
            seen=f"peak memory {peak // 1024} MiB, `memory_limiter.limit` {LIMIT_MIB} MiB",
        )
    )
    assert (lost, doubled, worst) == (0, 0, [])
    assert (len(lines), lines.total()) == (truth.events, truth.events)
    assert peak / 1024 < LIMIT_MIB


def _larger(small: Record, chance: random.Random) -> Record:
    """The same event, with a message of LARGE_BYTES."""
    event = json.loads(small.value)
    event["user_message"] = chance.randbytes(LARGE_BYTES // 2).hex()
    return Record(json.dumps(event).encode(), small.key, small.storage_id)


async def _fill_large(here: Scene, made: list[Record]) -> None:
    await make_topic(here.backends["kafka"], here.name, PARTITIONS, configs={"max.message.bytes": "16000000"})
    await write(here.backends["kafka"], here.name, made)


def _peak_kib(pid: int) -> int:
    """The most memory that a process has had, 0 when it is gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")), 0)
