"""Starts everything, shows what flows, and leaves nothing behind: `make demo`, or `make demo ONCE=1` for one round.

Dagster project ─ SQLite ─► bridge ─► broker ─► daemon ─► traces and logs (to us), metrics (scraped by us), alerts
"""

import os
import signal
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console

from demo import broker, road, summary
from demo.children import Child, ChildDied, Children
from demo.figures import scrape
from demo.screen import LineView, View, counts, view
from demo.seen import Seen
from demo.sink import Sink

ROUND_S = 75.0
TICK_S = 0.5
SETTLED_TICKS = 4  # a round is whole, and nothing more comes


def main(once: bool) -> int:
    """0: the round was whole, or a demo without end was stopped by hand. 1: something is missing; it is said what."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    try:
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dagtel-demo-")))
            sink = stack.enter_context(Sink())
            children = stack.enter_context(Children(folder))
            seen, project, others = _start(folder, sink, children, once)
            return _one_round(seen, project, others) if once else _endless(seen, [project, *others])
    except (ChildDied, TimeoutError, OSError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 1 if once else 0


def _interrupt(number: int, frame: object) -> None:
    # A second Ctrl-C must not cut the teardown short: it is bounded.
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, signal.SIG_IGN)
    raise KeyboardInterrupt


def _start(folder: Path, sink: Sink, children: Children, once: bool) -> tuple[Seen, Child, list[Child]]:
    """Broker, bridge, daemon and the Dagster project; what is seen of them, the project, and the others."""
    binary = broker.binary()
    place = road.Place(folder, sink.url, broker.start(children, binary) if binary else None)
    way = "Dagster ─► bridge ─► broker ─► daemon" if binary else "Dagster ─► daemon (no broker for this platform)"
    also = tuple(os.environ[name] for name in (road.JAEGER, road.LOKI) if os.environ.get(name))
    seen = Seen(way, place.metrics, place.own_metrics, sink.received, also)
    road.make_home(place)
    project = road.start_project(place, seen, children, once)
    others = [road.start_daemon(place, seen, children)]
    if binary:
        others.append(road.start_bridge(place, children))
    return seen, project, others


def _one_round(seen: Seen, project: Child, others: list[Child]) -> int:
    """Wait for the project to end and for all of its round to arrive, then say what came."""
    shown = LineView()
    until = time.monotonic() + ROUND_S
    before, still = "", 0
    while still < SETTLED_TICKS and time.monotonic() < until:
        for child in others:
            child.check()
        if project.code():
            project.check()
        _tick(seen, shown)
        now = counts(seen)
        whole = project.code() is not None and not summary.missing(seen)
        before, still = now, still + 1 if whole and now == before else 0
    missing = summary.missing(seen)
    print(summary.text(seen))
    for name in missing:
        print(f"demo: missing after {ROUND_S:.0f} s: {name}", file=sys.stderr)
    return 1 if missing else 0


def _endless(seen: Seen, children: list[Child]) -> int:
    shown = view(Console())
    try:
        while True:
            for child in children:
                child.check()
            _tick(seen, shown)
    finally:
        shown.close()
        print(summary.one_line(seen))


def _tick(seen: Seen, shown: View) -> None:
    seen.series = scrape(seen.metrics) or seen.series
    seen.own_series = scrape(seen.own_metrics) or seen.own_series
    shown.update(seen)
    time.sleep(TICK_S)


if __name__ == "__main__":
    sys.exit(main("--once" in sys.argv[1:]))
