"""What scrapes see of a daemon that ends between them: each series begins with 0, and none goes back."""

from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.end_to_end.daemon import Daemon, append, lines, text_of, until
from tests.ports import free_address

Figures = dict[tuple[str, tuple[tuple[str, str], ...]], float]
EVENTS = 400


def figures(text: str) -> Figures:
    """Those that count."""
    families = [family for family in text_string_to_metric_families(text) if family.type in ("counter", "histogram")]
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for family in families for s in family.samples}


def killed(daemon: Daemon) -> None:
    daemon.process.kill()
    daemon.process.wait()


def stopped(daemon: Daemon) -> None:
    assert daemon.stop() == 0


@pytest.mark.parametrize("end", [killed, stopped])
def test_each_series_begins_with_0_and_never_goes_back_to_it(tmp_path: Path, end: Callable[[Daemon], None]) -> None:
    daemon, address = Daemon(tmp_path), free_address()
    daemon.config["exporters"]["prometheus"] |= {"address": address, "hold": "60s"}
    textfile = daemon.out / "metrics.prom"

    def scrape() -> Figures:
        return figures(text_of(f"{address}/metrics"))

    daemon.start()
    append(daemon, lines(EVENTS))
    until("all is read and published", lambda: len(set(daemon.originals())) == EVENTS and figures(textfile.read_text()))
    end(daemon)
    daemon.start()
    count = len(figures(textfile.read_text()))
    first = until("all series are shown", lambda: len(found := scrape()) == count and found)
    assert set(first.values()) == {0}, "no scrape had seen any of them"
    true = figures(textfile.read_text())
    until("their values are shown", lambda: scrape() == true)
    end(daemon)
    daemon.start()
    assert until("a scrape", scrape) == true, "they were seen, and to show 0 would be a reset"
    assert daemon.stop() == 0
