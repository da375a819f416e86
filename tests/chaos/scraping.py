"""A real Prometheus beside a scene, scraping each second, and what it has seen of every counter.

`increase()` extrapolates to the edges of its range, so it is compared by what it is made of: the raw samples. Of each
series the sum of all steps up, a step down counting as a reset with all that follows it, from the first sample to the
last; that must be the truth, and there must be no step down. What a series shows in its very first sample is no
increase for anybody: it is 0, but for what is read long after it happened (docs/metrics.md).
"""

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

import msgspec

from tests.chaos.scene import LONG, Counters, Scene
from tests.integration.conftest import ROOT
from tests.ports import free_port

SCRAPED_S = 120.0
ASKED_S = 180.0
"""All samples of a long run are a hundred megabytes of answer."""


class Growth(msgspec.Struct, frozen=True):
    """How all series grew: by how much less and more than they should have, steps down, and how many began above 0."""

    series: int
    lost: int
    doubled: int
    down: int
    born_above: int


class Scraped:
    """What the Prometheus at `url` knows of a scene's figures."""

    def __init__(self, here: Scene, url: str) -> None:
        self._here, self._url = here, url

    def settled(self, wanted: Callable[[], Counters]) -> Counters:
        """What is wanted, once those are the figures that were scraped last."""
        told: list[Counters] = []

        def same() -> bool:
            told[:] = [{key: value for key, value in wanted().items() if value}]
            return told[0].items() <= self._last().items()

        try:
            self._here.wait("the last figures are scraped", same, SCRAPED_S)
        except AssertionError as error:
            last = self._last()
            others = [(*key, value, last.get(key)) for key, value in told[0].items() if last.get(key) != value]
            raise AssertionError(f"{len(others)} of {len(told[0])} figures differ: {others[:5]}") from error
        return told[0]

    def growth(self, wanted: Counters, live: bool) -> Growth:
        """How the series grew to these figures. What one showed in its first sample is lost with `live`, when events
        came as they happened; else it may be history, and is no increase."""
        seen = self._samples()
        lost = doubled = down = born_above = 0
        for key, value in wanted.items():
            values = [value for _, value in seen[key]]
            down += sum(after < before for before, after in pairwise(values))
            grown = sum(after if after < before else after - before for before, after in pairwise(values))
            born_above += values[0] != 0
            known = 0 if live else values[0]
            lost, doubled = lost + int(max(0, value - known - grown)), doubled + int(max(0, grown - value))
        return Growth(len(wanted), lost, doubled, down, born_above)

    def _samples(self) -> dict[Any, list[tuple[float, float]]]:
        """All raw samples of each series: time and value."""
        return {
            key: [(float(at), float(value)) for at, value in found["values"]]
            for key, found in self._asked(f'{{job="dagtel", instance="{self._here.metrics}"}}[1h]')
        }

    def _last(self) -> Counters:
        """The newest sample of each series."""
        return {key: float(found["value"][1]) for key, found in self._asked(f'{{instance="{self._here.metrics}"}}')}

    def _asked(self, query: str) -> Iterator[tuple[tuple[str, frozenset[tuple[str, str]]], dict[str, Any]]]:
        with urlopen(f"{self._url}/api/v1/query?{urlencode({'query': query})}", timeout=ASKED_S) as answer:
            results = json.load(answer)["data"]["result"]
        for found in results:
            labels = {k: v for k, v in found["metric"].items() if k not in ("job", "instance", "__name__")}
            if labels.get("le", "+Inf") != "+Inf":
                labels["le"] = str(float(labels["le"]))  # Prometheus writes 1 for the text's 1.0
            yield (found["metric"]["__name__"], frozenset(labels.items())), found


class Watched:
    """A Prometheus beside a scene that is about something else; None: there is none in the short form."""

    def __init__(self, here: Scene, scraped: Scraped | None) -> None:
        self._here, self._scraped = here, scraped
        self.growth: Growth | None = None

    def judge(self) -> None:
        """Compare, while the daemon runs and has nothing to do."""
        if self._scraped is None:
            return
        self.growth = growth = self._scraped.growth(self._scraped.settled(self._here.counters), live=False)
        assert (growth.down, growth.lost, growth.doubled) == (0, 0, 0), growth

    @property
    def seen(self) -> str:
        """For the table."""
        return f"; Prometheus: {self.growth.series:,} series, {self.growth.down} steps down" if self.growth else ""


@contextmanager
def watched(here: Scene) -> Iterator[Watched]:
    """In the long form a Prometheus scrapes the scene for as long as the block."""
    if not LONG:
        yield Watched(here, None)
        return
    with prometheus(here) as scraped:
        yield Watched(here, scraped)


@contextmanager
def prometheus(here: Scene) -> Iterator[Scraped]:
    """A Prometheus of the scene's own, scraping each second."""
    config = here.folder / "prometheus.yml"
    config.write_text(
        "global: {scrape_interval: 1s, scrape_timeout: 1s}\n"
        f"scrape_configs: [{{job_name: dagtel, static_configs: [{{targets: ['{here.metrics}']}}]}}]\n"
    )
    environment = {
        **os.environ,
        "BACKENDS_RUN": str(here.folder / "backends"),
        "PROM_PORT": str(free_port()),
        "PROM_FROM": here.backends["prometheus"],
        "PROM_CONFIG": str(config),
    }
    script = ROOT / "tests" / "backends" / "prometheus"
    up = subprocess.run([script, "up"], env=environment, stdout=subprocess.PIPE, text=True, timeout=60, check=True)
    try:
        yield Scraped(here, up.stdout.strip().splitlines()[-1])
    finally:
        subprocess.run([script, "wipe"], env=environment, capture_output=True, check=False)
