"""kill -9 of the daemon, again and again, while events flow."""

import random
import time
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from tests.chaos.events import Truth, fill, mixed, recorded_at
from tests.chaos.scene import Scene, figures_of, size
from tests.chaos.scraping import watched
from tests.chaos.table import Row, record, seconds
from tests.chaos.verdict import compared

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(1800)]

EVENTS = size(20_000, 200_000)
KILLS = size(4, 25)
PARTITIONS = 2


def test_kill_9_at_random_moments_loses_nothing_and_counts_nothing_twice(
    scene: Callable[..., Scene], webhook: tuple[str, list[dict[str, Any]]]
) -> None:
    url, alerts = webhook
    here = scene("kills", url)
    # Loki asks its memory for what is young, and its disk for what is old
    made = mixed(EVENTS, int(time.time()) - recorded_at(), here.name)
    anyio.run(fill, here.backends["kafka"], here.name, made, PARTITIONS)
    here.sets |= {"receivers.kafka.max_poll_records": "500", "service.checkpoint_interval": "100ms"}
    here.sets |= {"service.intake.max_bytes": "1MB"}
    with watched(here) as scraped:
        starts = _killed(here, len(made))
        daemon = here.start()
        here.idle(PARTITIONS)
        scraped.judge()
        assert daemon.stop() == 0
    here.once()

    truth = Truth(made)
    assert figures_of(here.counters()) == (truth.materializations, truth.checks, truth.runs_ended)
    found = compared(here, truth, alerts)
    notifications, twice = found.notifications
    record(
        Row(
            order=1,
            fault="kill -9 of the daemon",
            times=KILLS,
            events=len(made),
            lost=found.lost,
            doubled=found.doubled,
            recovery=f"{seconds(starts)} from start to the first event",
            seen=f"{len(truth.runs):,} traces whole; {notifications} notifications, {twice} of them twice: "
            f"the call was cut off, or its answer not yet stored{scraped.seen}",
        )
    )
    found.check(repeats=KILLS)


def _killed(here: Scene, records: int) -> list[float]:
    """Kill it KILLS times, each time when a little more is read; how long each start took to its first event."""
    chance = random.Random(11)
    share = records // (KILLS + 1)
    starts = []
    for number in range(KILLS):
        left = records - share * number - chance.randrange(share)
        daemon = here.start()
        starts.append(here.first_event())
        here.wait_for_lag(left, PARTITIONS)
        daemon.kill()
    return starts
