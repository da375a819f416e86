"""The state file has no room, or has come to harm: no input is taken, everybody is told, and nothing is lost."""

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import anyio
import pytest

from benchmarks.load import Record
from tests.chaos.events import Truth, chunks, fill, make_topic, mixed, recorded_at, write
from tests.chaos.scene import Scene, size
from tests.chaos.scraping import watched
from tests.chaos.table import Row, record, seconds
from tests.chaos.verdict import compared
from tests.small_disk import fill as fill_up
from tests.small_disk import small
from tests.store.damage import DAMAGE, PARTS

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(1800)]

PARTITIONS = 2
FULL = size(2, 10)
"""Times that the disk is full."""
EACH = size(700, 1_500)
"""Events that come before, and each time while it is full."""
DISK = 48 * 2**20
STOPPED = "The state store cannot be written: taking no more input."


def test_a_full_disk_stops_the_intake_and_it_goes_on_when_there_is_room(
    scene: Callable[..., Scene], webhook: tuple[str, list[dict[str, Any]]], tmp_path: Path
) -> None:
    url, alerts = webhook
    here = scene("disk", url)
    parts = chunks(mixed(EACH * FULL * 20, int(time.time()) - recorded_at(), here.name, every=200), EACH)
    made: list[Record] = []

    def more() -> None:
        part = next(parts)
        made.extend(part)
        anyio.run(write, here.backends["kafka"], here.name, part)

    anyio.run(make_topic, here.backends["kafka"], here.name, PARTITIONS)
    back: list[float] = []
    with small(tmp_path / "small", DISK) as disk, watched(here) as scraped:
        here.environment["DAGTEL_STATE"] = str(disk / "state.db")
        here.sets |= {"service.intake.max_bytes": "64KiB", "receivers.kafka.max_poll_records": "50"}
        daemon = here.start()
        more()
        here.wait("the first events are read", lambda: here.accepted() == len(made))
        for number in range(FULL):
            filler = fill_up(disk)
            read = len(made)
            while read == len(made) or "database or disk is full" not in _blocked(here):  # its files have room within
                more()
                read = here.wait("nothing more is read", lambda: _standing_still(here))
            assert here.log.count(STOPPED) > number  # more often, where a smaller commit found room
            filler.unlink()
            freed = time.monotonic()
            here.wait("it reads on", lambda read=read: here.accepted() > read)
            back.append(time.monotonic() - freed)
            here.wait("it is ready again", here.ready)
            here.wait("all is read", lambda: here.accepted() == len(made), 600)
        here.idle(PARTITIONS)
        scraped.judge()
        assert daemon.stop() == 0
        here.once()
    assert here.log.count("The state store can be written again.") == here.log.count(STOPPED)

    found = compared(here, Truth(made), alerts)
    record(
        Row(
            order=3.7,
            fault="the disk under the state file is full",
            times=FULL,
            events=len(made),
            lost=found.lost,
            doubled=found.doubled,
            recovery=f"{seconds(back)} from room to the next event",
            seen=f"no input taken, `/readyz` and the log say why{scraped.seen}",
        )
    )
    found.check()


def _blocked(here: Scene) -> str:
    """Why /readyz says that no input is taken; "" where it does not."""
    try:
        with urlopen(f"http://{here.health}/readyz", timeout=5):
            return ""
    except HTTPError as answer:
        return str(json.load(answer).get("blocked", ""))


def _standing_still(here: Scene) -> int:
    """How many events have been read, once that has not changed for a second; 0 until then. (The lag does not tell:
    whoever does not ask for more does not hear of more.)"""
    before = here.accepted()
    time.sleep(1)
    return before if before == here.accepted() else 0


EVENTS = size(3_000, 30_000)


def test_a_state_file_that_was_cut_overwritten_or_lost_is_refused_and_what_to_do_is_said(
    scene: Callable[..., Scene], webhook: tuple[str, list[dict[str, Any]]]
) -> None:
    url, alerts = webhook
    here = scene("damage", url)
    made = mixed(EVENTS, int(time.time()) - recorded_at(), here.name, every=200)
    anyio.run(fill, here.backends["kafka"], here.name, made, PARTITIONS)
    here.sets |= {"receivers.kafka.max_poll_records": "200", "service.checkpoint_interval": "100ms"}
    here.sets |= {"service.intake.max_bytes": "100KB"}
    daemon = here.start()
    here.wait_for_lag(2 * len(made) // 3, PARTITIONS)
    assert daemon.stop() == 0
    daemon = here.start()
    here.wait_for_lag(len(made) // 3, PARTITIONS)
    daemon.kill()  # so there is a file that was closed once, and a log that was not
    state = Path(here.environment["DAGTEL_STATE"])
    image = here.folder / "image"
    image.mkdir()
    _copied(state.parent, image)

    told, figures = len(alerts), (here.folder / "metrics.prom").read_text()
    harms = DAMAGE if size(0, 1) else dict(list(DAMAGE.items())[::3])
    for what, harm in harms.items():
        _copied(image, state.parent)
        harm(state)
        harmed = _contents(state.parent)
        daemon = here.start()
        assert daemon.process.wait(60) == 1, f"{what}\n{here.log[-4000:]}"
        daemon.kill()
        said = here.log.rstrip().splitlines()[-1]
        assert "nothing was changed. Restore it from a backup" in said, what
        assert "to start anew" in said, what
        assert _contents(state.parent) == harmed, what
    assert (len(alerts), (here.folder / "metrics.prom").read_text()) == (told, figures), "nothing was begun anew"
    _copied(image, state.parent)
    daemon = here.start()
    back = here.first_event()
    here.wait_for_lag(0, PARTITIONS)
    assert daemon.stop() == 0
    here.once()

    found = compared(here, Truth(made), alerts)
    record(
        Row(
            order=3.8,
            fault="the state file cut, overwritten, emptied or lost",
            times=len(harms),
            events=len(made),
            lost=found.lost,
            doubled=found.doubled,
            recovery=f"{back:.2f} s to the first event, once restored",
            seen="refused each time with what to do; nothing changed, nothing begun anew",
        )
    )
    found.check(repeats=1)


def _copied(source: Path, target: Path) -> None:
    """The state store's files, and none that the target had of them."""
    for part in PARTS:
        (target / f"state.db{part}").unlink(missing_ok=True)
        if (source / f"state.db{part}").exists():
            shutil.copy(source / f"state.db{part}", target / f"state.db{part}")


def _contents(folder: Path) -> dict[str, bytes]:
    """The bytes of the state store's files that matter: its index of the log is made anew by whoever looks."""
    return {
        part: (folder / f"state.db{part}").read_bytes()
        for part in ("", "-wal")
        if (folder / f"state.db{part}").exists()
    }
