"""What flows, drawn twice a second in a terminal; as plain lines where stdout is none."""

import time
from typing import Protocol

from rich.console import Console, Group, RenderableType
from rich.layout import Layout
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from demo.figures import total
from demo.seen import Seen
from demo.traces import latest_tree

SHOWN = (
    "asset_executions_total",
    "asset_execution_failures_total",
    "asset_materializations_total",
    "asset_row_count",
    "asset_check_evaluations_total",
    "dagster_runs_total",
    "dagster_step_retries_total",
)
STYLES = {"ERROR": "red", "CRITICAL": "red", "WARNING": "yellow", "DEBUG": "dim"}


class View(Protocol):
    """Shows what is there now."""

    def update(self, seen: Seen) -> None: ...

    def close(self) -> None: ...


def view(console: Console) -> View:
    """The one that fits where stdout goes."""
    return LiveView(console) if console.is_terminal else LineView()


class LineView:
    """A line for whatever is new, and the counts when they have changed, at most every three seconds."""

    def __init__(self) -> None:
        self._runs = self._alerts = 0
        self._counts, self._next = "", 0.0

    def update(self, seen: Seen) -> None:
        for run in seen.runs[self._runs :]:
            print(f"run {run.id} {'succeeded' if run.ok else 'FAILED'} ({run.weather})", flush=True)
        self._runs = len(seen.runs)
        finished = len(seen.alerts) - 1 if time.monotonic() < self._next else len(seen.alerts)
        for alert in seen.texts()[self._alerts : finished]:
            print("\n".join(f"  │ {line}" for line in alert), flush=True)
        self._alerts = max(self._alerts, finished)
        if time.monotonic() >= self._next:
            self._count(counts(seen))

    def _count(self, now: str) -> None:
        self._next = time.monotonic() + 3
        if now != self._counts:
            print(now, flush=True)
            self._counts = now

    def close(self) -> None:
        """Nothing to put back."""


class LiveView:
    """One screen: counts, the last trace, the last log lines, metrics, the last alert."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, screen=True, auto_refresh=False)
        self._live.start()

    def update(self, seen: Seen) -> None:
        self._live.update(self._layout(seen), refresh=True)

    def close(self) -> None:
        """Give the terminal back."""
        self._live.stop()

    def _layout(self, seen: Seen) -> Layout:
        height = max(5, (self._console.height - 4) // 2 - 2)
        page = Layout()
        page.split_column(Layout(name="head", size=4), Layout(name="top"), Layout(name="bottom"))
        page["head"].update(_head(seen))
        page["top"].split_row(
            Layout(_panel("traces: the last run", _trace(seen, height))),
            Layout(_panel("logs", _logs(seen, height))),
        )
        page["bottom"].split_row(
            Layout(_panel(f"metrics: http://{seen.metrics}/metrics", _metrics(seen))),
            Layout(_panel(f"alerts: {len(seen.alerts)}", _alerts(seen))),
        )
        return page


def counts(seen: Seen) -> str:
    """One line of what has come so far."""
    got = seen.received
    return (
        f"{len(seen.runs)} runs · {seen.events} events · {got.span_count} spans ({got.user_span_count} of user code)"
        f" · {got.line_count} log lines · {len(seen.series)} series · {len(seen.alerts)} alerts"
    )


def _panel(title: str, body: RenderableType) -> Panel:
    return Panel(body, title=title, title_align="left", border_style="dim")


def _head(seen: Seen) -> RenderableType:
    runs = Text.assemble(*[("✓ " if run.ok else "✗ ", "green" if run.ok else "red") for run in seen.runs[-40:]])
    also = f"  also to {', '.join(seen.also)}" if seen.also else ""
    return Group(Text(seen.way + also, "bold"), Text(counts(seen)), runs, Text("Ctrl-C ends it", "dim"))


def _trace(seen: Seen, height: int) -> RenderableType:
    lines = latest_tree(seen.received.all_spans())[:height]
    return Group(
        *[Text(line, "red" if line.endswith("✗") else "", no_wrap=True, overflow="ellipsis") for line in lines]
    )


def _logs(seen: Seen, height: int) -> RenderableType:
    told = [line for line in seen.received.last_lines(200) if line.get("level") != "DEBUG"]
    return Group(*[_log(line) for line in told[-height:]])


def _log(line: dict[str, object]) -> Text:
    clock = time.strftime("%H:%M:%S", time.localtime(int(str(line["at_ns"])) / 1e9))
    level = str(line.get("level", ""))
    about = line.get("asset_name") or line.get("step_key") or line.get("job_name") or ""
    first = str(line.get("message", "")).split("\n")[0]
    return Text(f"{clock} {level:7} {about}: {first}", STYLES.get(level, ""), no_wrap=True, overflow="ellipsis")


def _metrics(seen: Seen) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    for name in SHOWN:
        table.add_row(name, Text(f"{total(seen.series, name):,.0f}", justify="right"))
    return Group(table, Text(f"{len(seen.series)} series; the daemon's own: http://{seen.own_metrics}/metrics", "dim"))


def _alerts(seen: Seen) -> RenderableType:
    newest_first = ["\n".join(alert) for alert in reversed(seen.texts()[-5:])]
    return Text("\n\n".join(newest_first) if newest_first else "none yet", "" if newest_first else "dim")
