"""The disk under the state file is full: no input is taken, everybody is told, and it goes on by itself."""

import os
import subprocess
from collections import Counter
from pathlib import Path

from tests.end_to_end.daemon import DAGTEL, ROOT, Daemon, append, counters, lines, until


def fill(folder: Path) -> Path:
    """Leave no room."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file:
        block = 2**16
        while block:
            try:
                file.write(b"x" * block)
            except OSError:
                block //= 2
    return filler


def test_a_full_disk_stops_the_intake_and_nothing_else_and_nothing_is_lost(daemon: Daemon, small_disk: Path) -> None:
    daemon.config["service"]["state"]["path"] = str(small_disk / "state.db")
    daemon.config["service"]["intake"] = {"max_bytes": "64KiB"}
    events = lines(2100)
    daemon.start()
    append(daemon, events[:500])
    until("the first events", lambda: len(daemon.originals()) == 500)
    for turn in range(3):
        filler = fill(small_disk)
        append(daemon, events[500 * (turn + 1) : 500 * (turn + 2)])
        until("not ready", lambda: not daemon.ready["ready"])
        assert "state.db cannot be written: database or disk is full" in daemon.ready["blocked"]
        assert daemon.log.read_text().count("The state store cannot be written: taking no more input.") == turn + 1
        before = len(daemon.originals())
        daemon.reload("refused")
        assert len(daemon.originals()) == before < 500 * (turn + 2), "nothing is told before it is committed"
        filler.unlink()
        until("ready again", lambda: daemon.ready["ready"])
        wanted = min(500 * (turn + 2), len(events))
        until("the rest", lambda wanted=wanted: len(daemon.originals()) == wanted)
    assert "The state store can be written again." in daemon.log.read_text()
    assert daemon.stop() == 0
    assert list(Counter(daemon.originals()).values()) == [1] * 2000
    assert figures(daemon.out) == truth(daemon)


def test_killed_while_the_disk_is_full_and_started_again_with_room_nothing_is_lost(
    daemon: Daemon, small_disk: Path
) -> None:
    daemon.config["service"]["state"]["path"] = str(small_disk / "state.db")
    events = lines(1000)
    daemon.start()
    append(daemon, events[:500])
    until("the first events", lambda: len(daemon.originals()) == 500)
    filler = fill(small_disk)
    append(daemon, events[500:])
    until("not ready", lambda: not daemon.ready["ready"])
    daemon.process.kill()
    daemon.process.wait()
    with daemon.log.open("ab") as log:
        command = [DAGTEL, "run", "--config", str(daemon.file)]
        refused = subprocess.run(command, stdout=log, stderr=log, timeout=30, check=False)
    assert refused.returncode == 1
    assert "state.db cannot be written" in daemon.log.read_text().splitlines()[-1]
    filler.unlink()
    daemon.start()
    until("all", lambda: len(daemon.originals()) == 1000)
    assert daemon.stop() == 0
    assert list(Counter(daemon.originals()).values()) == [1] * 1000
    assert figures(daemon.out) == truth(daemon)


def test_a_stop_while_the_disk_is_full_comes_in_time_and_the_next_start_goes_on(
    daemon: Daemon, small_disk: Path
) -> None:
    daemon.config["service"]["state"]["path"] = str(small_disk / "state.db")
    daemon.config["service"]["shutdown_timeout"] = "2s"
    daemon.start()
    filler = fill(small_disk)
    append(daemon, lines(500))
    until("not ready", lambda: not daemon.ready["ready"])
    assert daemon.stop() == 0
    filler.unlink()
    daemon.start()
    until("all", lambda: len(daemon.originals()) == 500)
    assert daemon.stop() == 0
    assert list(Counter(daemon.originals()).values()) == [1] * 500


def truth(daemon: Daemon) -> Counter[str]:
    """The counters of a run of the same events without any trouble."""
    whole = daemon.folder / "whole"
    environment = {**os.environ, "DAGTEL_INPUT": str(daemon.events), "DAGTEL_OUT": str(whole)}
    command = [DAGTEL, "run", "--once", "--config", str(ROOT / "configs" / "file.yaml")]
    subprocess.run(command, env=environment, check=True, capture_output=True, timeout=60)
    return figures(whole)


def figures(out: Path) -> Counter[str]:
    """Counters of what has happened; a run to the end of its input also closes what is still going on."""
    return Counter(line for line in counters(out / "metrics.prom") if not line.startswith("dagster_runs_total"))
