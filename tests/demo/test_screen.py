"""What the demo shows: drawn in a terminal, said in lines where there is none."""

import io

import pytest
from rich.console import Console

from demo.screen import LineView, LiveView, view
from demo.seen import Seen
from demo.sink import Received, Span


def seen() -> Seen:
    received = Received()
    received.add_spans([Span("t", "a", "", "RUN job", "glucose", 0, 9_000_000, False)])
    received.add_lines([{"message": "api_fetch_success\nmore", "level": "INFO", "asset_name": "dlt", "at_ns": 0}])
    now = Seen("dagster ─► broker", "127.0.0.1:1", "127.0.0.1:2", received)
    now.play_line("run down failed 41c6fc5a")
    now.alert_line("🔴 Asset Materialization Failed")
    now.series = {("dagster_runs_total", ()): 1234.0}
    return now


def test_a_terminal_shows_all_signals_at_once() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=140, height=40)
    live = view(console)
    assert isinstance(live, LiveView)
    live.update(seen())
    with console.capture() as drawn:
        console.print(live._layout(seen()))
    live.close()
    page = drawn.get()
    for part in ("RUN job [0ms – 9ms]", "dlt: api_fetch_success", "1,234", "http://127.0.0.1:1/metrics", "🔴 Asset"):
        assert part in page


def test_without_a_terminal_what_is_new_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    lines = view(Console(file=io.StringIO(), force_terminal=False))
    assert isinstance(lines, LineView)
    now = seen()
    for _ in range(3):
        lines.update(now)
    said = capsys.readouterr().out
    assert said.count("run 41c6fc5a FAILED (down)") == 1
    assert said.count("│ 🔴 Asset Materialization Failed") == 1
    assert said.count("1 runs · 0 events · 1 spans (1 of user code) · 1 log lines · 1 series · 1 alerts") == 1
