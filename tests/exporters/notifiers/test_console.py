"""Alerts on a terminal."""

import io
import sys

import pytest

from exporters.notifiers.console import SPEC, ConsoleAlertsConfig
from pipeline.batch import WHOLE, Batch
from pipeline.signals import Alert
from pipeline.testing.context import FakeContext

pytestmark = pytest.mark.anyio

ALERT = Alert("asset_failure", "firing", "ERROR", "p", 0, 0, 0, title="Asset Materialization Failed", asset="größe")


async def printed(config: ConsoleAlertsConfig) -> None:
    async with SPEC.build(config, FakeContext()) as exporter:
        for payload in exporter.build(Batch([ALERT], WHOLE, 0)):
            await exporter.send(payload)


async def test_an_alert_is_printed_where_it_was_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    await printed(ConsoleAlertsConfig(stream="stderr"))
    assert capsys.readouterr() == ("", "\n🔴 Asset Materialization Failed\n\nAsset: größe\n\n")


async def test_a_terminal_that_knows_no_symbols_shows_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    ascii_only = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", ascii_only)
    await printed(ConsoleAlertsConfig())
    ascii_only.seek(0)
    assert ascii_only.read() == "\n? Asset Materialization Failed\n\nAsset: gr??e\n\n"
