"""All that the demo knows while it runs: what the screen draws and what the summary counts."""

from dataclasses import dataclass, field

from demo.figures import Series, total
from demo.sink import Received

TITLES = ("🔴", "⚠", "ℹ", "✅")
"""What the first line of an alert begins with."""


@dataclass(frozen=True)
class Run:
    """A finished Dagster run."""

    weather: str
    ok: bool
    id: str


@dataclass
class Seen:
    """Filled by the readers of the processes and the sink; addresses are `host:port`."""

    way: str
    metrics: str
    own_metrics: str
    received: Received
    also: tuple[str, ...] = ()
    runs: list[Run] = field(default_factory=list)
    alerts: list[list[str]] = field(default_factory=list)
    series: Series = field(default_factory=dict)
    own_series: Series = field(default_factory=dict)

    def play_line(self, line: str) -> None:
        """A line of the Dagster project: `run WEATHER ok|failed ID`."""
        match line.split():
            case ["run", weather, ending, id]:
                self.runs.append(Run(weather, ending == "ok", id))

    def alert_line(self, line: str) -> None:
        """A line that the console notifier printed; a title begins another alert."""
        if line.startswith(TITLES):
            self.alerts.append([])
        if self.alerts:
            self.alerts[-1].append(line)

    def texts(self) -> list[list[str]]:
        """The alerts without the blank lines around them."""
        return ["\n".join(alert).strip().split("\n") for alert in self.alerts]

    @property
    def events(self) -> int:
        """Events that the daemon has taken in."""
        return int(total(self.own_series, "dagtel_receiver_accepted_events_total"))
