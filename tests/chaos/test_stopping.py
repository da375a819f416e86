"""SIGTERM at full load, also when a backend takes nothing: the end comes in time, and the next start goes on."""

import random
import signal
import time
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from tests.chaos.events import Truth, fill, mixed, recorded_at
from tests.chaos.faulty import faulty
from tests.chaos.scene import LONG, Scene, size
from tests.chaos.scraping import watched
from tests.chaos.table import Row, record, seconds
from tests.chaos.verdict import compared

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(1800)]

EVENTS = size(20_000, 200_000)
STOPS = size(3, 10)
PARTITIONS = 2
DEADLINE_S = 5.0
SLACK_S = 5.0 if LONG else 90.0
"""What closing the components and leaving the interpreter may take on top; the short form runs beside anything."""


def test_sigterm_at_full_load_ends_in_time_with_0_and_the_next_start_goes_on(
    scene: Callable[..., Scene], webhook: tuple[str, list[dict[str, Any]]]
) -> None:
    url, alerts = webhook
    here = scene("stops", url)
    made = mixed(EVENTS, int(time.time()) - recorded_at(), here.name)
    anyio.run(fill, here.backends["kafka"], here.name, made, PARTITIONS)
    here.sets |= {"service.shutdown_timeout": f"{DEADLINE_S}s", "receivers.kafka.max_poll_records": "500"}
    here.sets |= {"service.intake.max_bytes": "1MB"}
    chance = random.Random(5)
    share = len(made) // (STOPS + 1)
    took: list[float] = []
    with watched(here) as scraped, faulty(here.backends["loki"], takes_pages=True) as loki:
        here.environment["DAGTEL_LOKI_ENDPOINT"] = loki.url
        for number in range(STOPS):
            loki.fault = "dead" if number % 2 else None
            daemon = here.start()
            here.wait_for_lag(len(made) - share * number - chance.randrange(1, share), PARTITIONS)
            told = time.monotonic()
            daemon.process.send_signal(signal.SIGTERM)
            code = daemon.process.wait(DEADLINE_S + SLACK_S)
            took.append(time.monotonic() - told)
            assert code == 0, here.log[-4000:]
        loki.fault = None
        here.sets["service.shutdown_timeout"] = "60s"
        daemon = here.start()
        here.idle(PARTITIONS)
        scraped.judge()
        assert daemon.stop() == 0
        here.once()

    found = compared(here, Truth(made), alerts)
    record(
        Row(
            order=4,
            fault="SIGTERM at full load, every other time with Loki dead",
            times=STOPS,
            events=len(made),
            lost=found.lost,
            doubled=found.doubled,
            recovery=f"{seconds(took)} to exit 0",
            seen=f"`shutdown_timeout` {DEADLINE_S:.0f} s; what Loki did not take waited in the outbox{scraped.seen}",
        )
    )
    found.check()
