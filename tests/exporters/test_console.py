"""What the console shows of each item, and that nothing from an event can do something to a terminal."""

import io
import json
import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporters.console import SPEC, Console, ConsoleConfig
from exporters.console_lines import line
from exporters.inert_text import inert
from exporters.json_lines import Item
from pipeline.batch import WHOLE, Batch
from pipeline.events import Event
from pipeline.facts import ErrorInfo
from pipeline.lineage import Impact
from pipeline.signals import Alert, HistogramValue, LogRecord, Sample, Span
from pipeline.testing.context import FakeContext

pytestmark = pytest.mark.anyio

T0 = 1_795_403_982_610_659_072
RUN = "0af76519-16cd-43dd-8448-eb211c80319c"

SPAN = Span("0" * 32, "1" * 16, "", "load", T0, T0 + 152 * 10**6, {"cicd.pipeline.run.id": RUN}, (), ok=True)
RECORD = LogRecord(T0, "WARNING", "LOG", "2 rows left", "r:1", asset_name="raw/x", error_type="E", error_message="m")
ALERT = Alert(
    "asset_failure", "firing", "ERROR", "f", T0, T0, T0, asset="raw/x", count=12,
    error=ErrorInfo("TimeoutError", "after 30s"), impact=Impact({"a": 1, "b": 2}),
)  # fmt: skip


async def printed(*items: Item, capsys: pytest.CaptureFixture[str], config: ConsoleConfig | None = None) -> str:
    async with SPEC.build(config or ConsoleConfig(), FakeContext()) as console:
        for payload in console.build(Batch(items, WHOLE, 0)):
            await console.send(payload)
    out, err = capsys.readouterr()
    return err if config and config.output == "stderr" else out


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        (SPAN, "03:19:42.762 span  ✓ load 152ms (run 0af76519)"),
        (RECORD, "03:19:42.610 log   WARNING  raw/x: 2 rows left (E: m)"),
        (ALERT, "03:19:42.610 alert FIRING ERROR raw/x ×12: TimeoutError: after 30s · 2 assets downstream"),
        (
            Sample("rows_total", "counter", (("asset_name", "raw/x"),), 5.0),
            "--:--:--.--- metric rows_total{asset_name=raw/x} = 5",
        ),
        (
            Sample("s", "histogram", (), HistogramValue((), (), 3, 4.5), T0),
            "03:19:42.610 metric s{} = 3 times, 4.5 in all",
        ),
        (Sample("s", "gauge", (), None, T0), "03:19:42.610 metric s{} = gone"),
        (
            Event(b"{}", "STEP_START", RUN, T0, 10, "daily", "load", "go"),
            "03:19:42.610 event STEP_START load (run 0af76519): go",
        ),
    ],
)
async def test_an_item_is_one_calm_line(item: Item, expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert await printed(item, capsys=capsys) == expected + "\n"


async def test_a_failed_span_says_why() -> None:
    failed = Span("0" * 32, "1" * 16, "", "load", T0, T0 + 90 * 10**9, {}, (), error="TimeoutError: after 30s")
    assert line(failed) == "03:21:12.610 span  ✗ load 90.0s: TimeoutError: after 30s"


async def test_basic_says_how_many_came(capsys: pytest.CaptureFixture[str]) -> None:
    config = ConsoleConfig(verbosity="basic")
    assert await printed(SPAN, SPAN, capsys=capsys, config=config) == "2 spans\n"
    assert await printed(RECORD, capsys=capsys, config=config) == "1 log record\n"


async def test_detailed_shows_the_whole_item_too(capsys: pytest.CaptureFixture[str]) -> None:
    first, second = (await printed(RECORD, capsys=capsys, config=ConsoleConfig(verbosity="detailed"))).splitlines()
    assert first == line(RECORD)
    assert json.loads(second)["event_id"] == "r:1"


async def test_it_can_print_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    assert await printed(SPAN, capsys=capsys, config=ConsoleConfig(output="stderr")) != ""


async def test_an_empty_batch_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert await printed(capsys=capsys) == ""


async def test_a_terminal_that_knows_no_such_character_gets_an_escape(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, "ascii"))
    async with SPEC.build(ConsoleConfig(), FakeContext()) as console:
        for payload in console.build(Batch([SPAN], WHOLE, 0)):
            await console.send(payload)
    assert raw.getvalue().startswith(b"03:19:42.762 span  \\u2713 load")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2J\x1b]0;title\x07", "\\x1b[2J\\x1b]0;title\\x07"),
        ("\x9b31m", "\\x9b31m"),
        ("safe\u202egnp.exe", "safe\\u202egnp.exe"),
        ("one\ntwo\r\tthree", "one\\ntwo\\r\\tthree"),
        ("a\u2028b\u200bc\ufeff", "a\\u2028b\\u200bc\\ufeff"),
        ("größte 注文明細 🛒", "größte 注文明細 🛒"),
    ],
)
def test_hostile_text_is_shown_and_not_done(text: str, shown: str) -> None:
    assert inert(text) == shown


@given(st.text(st.characters(codec=None)), st.sampled_from(["normal", "detailed"]))
def test_no_text_moves_the_cursor_or_breaks_the_line(text: str, verbosity: str) -> None:
    record = LogRecord(T0, text or "INFO", text, text, text, asset_name=text, error_type=text, extra={text: text})
    (payload,) = Console(ConsoleConfig(verbosity=verbosity)).build(Batch([record], WHOLE, 0))  # type: ignore[arg-type]
    shown = payload.body.decode()
    assert shown.count("\n") == (1 if verbosity == "normal" else 2)
    hostile = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
    for char in shown.replace("\n", ""):
        assert unicodedata.category(char) not in {"Cc", "Cs", "Zl", "Zp"}
        assert unicodedata.bidirectional(char) not in hostile


def test_a_long_line_is_cut() -> None:
    assert len(line(LogRecord(T0, "INFO", "LOG", "x" * 10_000, "r:1"))) == 240
