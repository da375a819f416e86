"""A valve before an exporter: closed, no call begins; `still` once all that began are over and acknowledged.

That is how an exporter changes hands without a call that is cut off: a call whose answer nobody waited for would have
to be made again, and a notifier would tell people twice. See `pipeline.runtime.exporting`.
"""

from collections.abc import Awaitable, Callable
from typing import Any

import anyio

from pipeline.components import Exporter, Payload, Receipt
from pipeline.store.state import Ack


class Valve:
    """Stands before an exporter's calls and the acknowledging of its payloads."""

    def __init__(self, exporter: Exporter[Any], ack: Callable[[Ack, bool], Awaitable[None]]) -> None:
        self._exporter, self._ack = exporter, ack
        self._under_way = 0
        self._open, self._still = anyio.Event(), anyio.Event()
        self._open.set()

    async def send(self, payload: Payload, /) -> Receipt | None:
        """The exporter's, once the valve is open."""
        while not self._open.is_set():
            await self._open.wait()
        self._begin()
        try:
            return await self._exporter.send(payload)
        finally:
            self._end()

    async def ack(self, ack: Ack, now: bool) -> None:
        """What the senders call once a payload needs no more sending."""
        # No turn of the loop lies between the end of a call and this, so nobody sees it still in between.
        self._begin()
        try:
            await self._ack(ack, now)
        finally:
            self._end()

    def close(self) -> None:
        """Let no further call begin."""
        if self._open.is_set():
            self._open = anyio.Event()

    def open(self) -> None:
        """Let calls begin again."""
        self._open.set()

    async def still(self) -> None:
        """Wait until nothing is under way."""
        while self._under_way:
            await self._still.wait()

    def _begin(self) -> None:
        if not self._under_way:
            self._still = anyio.Event()
        self._under_way += 1

    def _end(self) -> None:
        self._under_way -= 1
        if not self._under_way:
            self._still.set()
