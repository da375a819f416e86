"""Plugins that misbehave; found through the folder beside, once this one is on PYTHONPATH."""

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import msgspec

from pipeline.batch import Batch
from pipeline.components import Context, ExporterSpec, Payload, Receipt
from pipeline.events import Event
from pipeline.signals import LogRecord, Signal

MARK = b'"chaos": "raise"'


def raises_on_marked(event: Event) -> Event | None:
    """Raises on events that carry the mark."""
    if MARK in event.raw:
        raise ValueError("chaos: this event is too much for this plugin")
    return event


class StuckConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Never comes back from a call while `hang` is on; else writes event ids to a file."""

    hang: bool = True
    """Whether it hangs."""
    path: str
    """The file."""


class Stuck:
    def __init__(self, config: StuckConfig) -> None:
        self._config = config

    def build(self, batch: Batch[LogRecord], /) -> Sequence[Payload]:
        ids = [record.event_id for record in batch.items if not record.derived]
        return [Payload(json.dumps(ids).encode(), len(ids))] if ids else []

    async def send(self, payload: Payload, /) -> Receipt | None:
        if self._config.hang:
            await anyio.sleep_forever()
        with Path(self._config.path).open("ab") as file:
            file.write(payload.body + b"\n")
        return None


@asynccontextmanager
async def build(config: StuckConfig, context: Context) -> AsyncIterator[Stuck]:
    yield Stuck(config)


STUCK = ExporterSpec("stuck", StuckConfig, build, frozenset({Signal.LOGS}))
