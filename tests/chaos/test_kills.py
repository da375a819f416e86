"""kill -9 of the daemon, again and again, while events flow."""

import random
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from tests.chaos.events import Truth, fill, mixed, recorded_at
from tests.chaos.scene import Scene, different, figures_of, size, undisturbed, whole
from tests.chaos.table import Row, record, seconds

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(900)]

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
    starts = _killed(here, len(made))
    here.once()

    truth = Truth(made)
    lost, doubled, worst = different(here.counters(), undisturbed(here))
    by_formula = figures_of(here.counters())
    assert by_formula == (truth.materializations, truth.checks, truth.runs_ended)
    lines = here.in_loki(truth)
    lost_lines, doubled_lines = truth.events - len(lines), sum(lines.values()) - len(lines)
    broken = {run: wrong for run in truth.runs if (wrong := whole(here.spans(run), truth.attempts[run]))}
    fired = [alert for alert in alerts if alert["state"] == "firing"]
    told = Counter(alert["job"] for alert in fired if alert["job"] in truth.alarms)
    repeats = Counter((alert["key"], alert["state"], alert["last_at"]) for alert in alerts)
    twice = sum(count - 1 for count in repeats.values())
    record(
        Row(
            order=1,
            fault="kill -9 of the daemon",
            times=KILLS,
            events=len(made),
            lost=lost + lost_lines + len(broken) + len(truth.alarms - told.keys()),
            doubled=doubled + doubled_lines,
            recovery=f"{seconds(starts)} from start to the first event",
            seen=f"{len(truth.runs):,} traces whole; {len(repeats)} notifications, {twice} of them twice: "
            "the call was cut off, or its answer not yet stored",
        )
    )
    assert (lost, doubled, worst) == (0, 0, [])
    assert (lost_lines, doubled_lines) == (0, 0)
    assert broken == {}
    assert told.keys() == truth.alarms
    assert twice <= KILLS, "only a call that a kill cut off may come twice"


def _killed(here: Scene, records: int) -> list[float]:
    """Kill it KILLS times, each time when a little more is read; how long each start took to its first event."""
    chance = random.Random(11)
    share = records // (KILLS + 1)
    starts = []
    for number in range(KILLS):
        left = records - share * number - chance.randrange(share)
        began = time.monotonic()
        daemon = here.start()
        starts.append(here.first_event(began))
        here.wait_for_lag(left, PARTITIONS)
        daemon.kill()
    return starts
