"""What a broker sends, kept in the pieces in which it comes until all of an answer is there.

asyncio's `StreamReader` puts what comes into one `bytearray`. That grows by an eighth at a time, and is copied as it
grows: a quarter of what fetching takes. There is no public way to give it another buffer, nor a way to give aiokafka
another reader; so its protocol does. Where either is made otherwise, all stays as it is.
"""

import asyncio
from collections import deque
from typing import Any, Final

from aiokafka import conn

LIMIT: Final = 2**20
"""Bytes; asyncio halts reading while more than twice as many wait. aiokafka's 64 KiB halt it at every piece."""


class Pieces:
    """Bytes in the pieces in which they came; of `bytearray` what `StreamReader.readexactly` and its feeding use."""

    __slots__ = ("_length", "_pieces")

    def __init__(self) -> None:
        self._pieces: deque[bytes | memoryview] = deque()
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def __bytes__(self) -> bytes:
        return b"".join(self._pieces)

    def extend(self, piece: bytes) -> None:
        """Add it at the end."""
        self._pieces.append(piece)
        self._length += len(piece)

    def clear(self) -> None:
        """Take all of it away."""
        self._pieces.clear()
        self._length = 0

    def __getitem__(self, first: slice) -> bytes:
        """The first bytes, `[:n]`."""
        wanted, found = self._wanted(first), list[bytes | memoryview]()
        for piece in self._pieces:
            if wanted <= 0:
                break
            found.append(memoryview(piece)[:wanted])
            wanted -= len(piece)
        return b"".join(found)

    def __delitem__(self, first: slice) -> None:
        """Take the first bytes away, `[:n]`."""
        left = self._wanted(first)
        self._length -= left
        while left:
            piece = self._pieces.popleft()
            if len(piece) > left:
                self._pieces.appendleft(memoryview(piece)[left:])
            left = max(0, left - len(piece))

    def _wanted(self, first: slice) -> int:
        if first.start is not None or first.step is not None:
            raise NotImplementedError("only the first bytes")
        return min(int(first.stop), self._length)


class _Protocol(conn.AIOKafkaProtocol):  # type: ignore[misc]  # aiokafka has no types
    """aiokafka's, whose reader keeps pieces."""

    def __init__(self, closed: object, reader: Any, *args: Any, **named: Any) -> None:
        if type(reader) is asyncio.StreamReader and getattr(reader, "_buffer", None) == bytearray():
            reader.__dict__.update(_buffer=Pieces(), _limit=LIMIT)
        super().__init__(closed, reader, *args, **named)


def read_in_pieces() -> None:
    """From now on connections to brokers keep pieces."""
    if not issubclass(conn.AIOKafkaProtocol, _Protocol):
        conn.AIOKafkaProtocol = _Protocol
