"""Alerts on the terminal, as plain text. What came from events has lost its control characters in `message`."""

import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Literal

import msgspec

from exporters.notifiers.message import Message, message
from exporters.notifiers.payloads import payloads
from pipeline.batch import Batch
from pipeline.components import Context, Exporter, ExporterSpec, Payload, Receipt
from pipeline.signals import Alert, Signal


class ConsoleAlertsConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Prints alerts for a person to read, whoever is meant by them."""

    stream: Literal["stdout", "stderr"] = "stdout"
    """Where to print."""


class ConsoleAlerts:
    """The exporter. A payload is the text of one alert."""

    def __init__(self, write: Callable[[str], object]) -> None:
        self._write = write

    def build(self, batch: Batch[Alert], /) -> Sequence[Payload]:
        """A text an alert."""
        return payloads(batch.items, None, _rendered)

    async def send(self, payload: Payload, /) -> Receipt | None:
        """Print it."""
        self._write(payload.body.decode())
        return None


def _rendered(alert: Alert) -> bytes:
    said = message(alert)
    assert said is not None
    return render(said).encode()


def render(said: Message) -> str:
    """The message as the seed draws it, with a blank line around it."""
    parts = [
        [said.heading],
        [f"{name}: {value}" for name, value in said.fields],
        list(said.text),
        _error(said),
        ["Problems:", *(f"  • {line}" for line in said.members)] if said.members else [],
        ["Downstream Impact:", *(f"  • {line}" for line in said.impact)] if said.impact else [],
        *([line] for line in said.ending),
        ["Quick Actions:", *(f"  [{action.label}] {action.url}" for action in said.actions)] if said.actions else [],
    ]
    return "\n" + "\n\n".join("\n".join(lines) for lines in parts if lines) + "\n\n"


def _error(said: Message) -> list[str]:
    if said.error is None:
        return []
    first, *rest = said.error.text.splitlines() or [""]
    lines = [f"{said.error.label}: {first}", *(f"  {line}" for line in rest)]
    if said.error.file:
        lines.append(f"  File: {said.error.file}")
    if said.error.line:
        lines.append(f"  Line: {said.error.line}")
    if said.error.rest:
        lines.append(f"  The whole text: {said.error.rest}")
    return lines


@asynccontextmanager
async def build(config: ConsoleAlertsConfig, context: Context) -> AsyncIterator[Exporter[Alert]]:
    stream = sys.stdout if config.stream == "stdout" else sys.stderr

    def write(text: str) -> None:
        encoding = stream.encoding or "utf-8"  # a terminal that knows no 🔴 shows a question mark
        stream.write(text.encode(encoding, "replace").decode(encoding))
        stream.flush()

    yield ConsoleAlerts(write)


SPEC = ExporterSpec(
    "console_alerts", ConsoleAlertsConfig, build, takes=frozenset({Signal.ALERTS}), serial=True, urgent=True
)
