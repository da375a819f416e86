"""Any signal → the terminal, for a first look and for finding out. Text from events is made inert first."""

import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Literal, TextIO

import msgspec
from anyio import to_thread

from exporters.console_lines import details, line, summary
from exporters.json_lines import Item, without_edges
from pipeline.batch import Batch
from pipeline.components import Context, ExporterSpec, Payload, Receipt
from pipeline.delivery import Delivery
from pipeline.errors import RetryableError
from pipeline.options import Duration
from pipeline.signals import Edges, Signal


class ConsoleConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Any signal to the terminal. Control characters, colours and bidi tricks in texts show as escapes."""

    verbosity: Literal["basic", "normal", "detailed"] = "normal"
    """`basic`: how many items came; `normal`: a line an item; `detailed`: that and the whole item as JSON."""
    output: Literal["stdout", "stderr"] = "stdout"
    """Where it is printed."""


class Console:
    """The exporter."""

    def __init__(self, config: ConsoleConfig) -> None:
        self._config = config

    def build(self, batch: Batch[Item | Edges]) -> Sequence[Payload]:
        """The text to print."""
        items: list[Item] = without_edges(batch.items)
        if not items:
            return ()
        text = "\n".join(self._lines(items)) + "\n"
        return (Payload(text.encode(), len(items)),)

    def _lines(self, items: list[Item]) -> list[str]:
        if self._config.verbosity == "basic":
            return [summary(items)]
        if self._config.verbosity == "normal":
            return [line(item) for item in items]
        return [text for item in items for text in (line(item), f"    {details(item)}")]

    async def send(self, payload: Payload) -> Receipt | None:
        """Print it. Raises RetryableError when the terminal is gone."""
        try:
            await to_thread.run_sync(_print, payload.body.decode(), self._stream())
        except OSError as error:
            raise RetryableError(f"cannot print: {error.strerror or error}") from error
        return None

    def _stream(self) -> TextIO:
        return sys.stdout if self._config.output == "stdout" else sys.stderr


def _print(text: str, stream: TextIO) -> None:
    """A terminal that knows no such character gets an escape instead."""
    encoding = stream.encoding or "utf-8"
    print(text.encode(encoding, "backslashreplace").decode(encoding), end="", file=stream, flush=True)


@asynccontextmanager
async def build(config: ConsoleConfig, context: Context) -> AsyncIterator[Console]:
    yield Console(config)


SPEC = ExporterSpec(
    "console", ConsoleConfig, build, frozenset(Signal), serial=True, delivery=Delivery(timeout=Duration(0))
)
