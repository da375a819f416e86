"""What a broker sends, received where it is read: an answer of megabytes is copied once, out of the socket.

asyncio's `StreamReader` puts what comes into one `bytearray`, which grows by an eighth at a time and is copied as it
grows, and gives a copy of that: a third of what fetching takes. There is no public way to give it another buffer, nor a
way to give aiokafka another reader; so its protocol does. All that Kafka sends is frames, each behind its length; so
the protocol knows where an answer ends when it begins, and the reader has it when it is whole. Where either is made
otherwise, all stays as it is.

Source: the framing of Kafka's protocol, https://kafka.apache.org/protocol#protocol_common.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from aiokafka import conn

from pipeline.native import HAS_NATIVE, native

LIMIT: Final = 2**25
"""Bytes; asyncio halts reading while more than twice as many wait. aiokafka's 64 KiB would halt it at every answer."""
SMALL: Final = 2**14
"""Bytes of a frame that is received with its neighbours; what is larger has room of its own."""
MOST: Final = 2**28
"""Bytes of a frame for which there is room at once: a length above it is rather no length."""
_PREFIX: Final = 4


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
        """The first bytes, `[:n]`; the piece itself where it is just these."""
        wanted, found = self._wanted(first), list[bytes | memoryview]()
        for piece in self._pieces:
            if wanted <= 0:
                break
            found.append(piece if len(piece) <= wanted else memoryview(piece)[:wanted])
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


class Frames:
    """Gives `feed` what comes, in order: the length of a frame and the frame, each in one piece where it is no larger
    than `most`, and when all of it has come.
    """

    def __init__(self, feed: Callable[[bytes], None], small: int = SMALL, most: int = MOST) -> None:
        self._feed, self._small, self._most = feed, memoryview(bytearray(small)), most
        self._begun = b""
        self._large: _Large | None = None
        self._passing = 0
        """Bytes of a frame that is too large to wait for; below 0: all that comes."""

    def room(self) -> memoryview:
        """Where the next bytes go, one at least; until `came` is told of them."""
        return self._small if self._large is None else self._large.room()

    def came(self, count: int) -> None:
        """So many bytes were put into the room."""
        if self._large is None:
            self._split(bytes(self._small[:count]))
        elif (whole := self._large.whole(count)) is not None:
            self._large = None
            self._feed(whole)

    def _split(self, came: bytes) -> None:
        """Feed the frames that are whole, and have room made for one that is not."""
        if self._passing:
            came = self._passed(came)
        came, at = self._begun + came, 0
        while len(came) - at >= _PREFIX:
            start = at + _PREFIX
            size = int.from_bytes(came[at:start], "big", signed=True)
            end = start + size
            if start <= end <= len(came):
                self._feed(came[at:start])
                self._feed(came[start:end])
                at = end
            elif 0 <= size <= len(self._small):
                break
            else:
                self._feed(came[at:start])
                self._begin(size, came[start:])
                at = len(came)
        self._begun = came[at:]

    def _begin(self, size: int, came: bytes) -> None:
        if 0 <= size <= self._most:
            self._large = _Large(size, came)
        else:
            self._passing = size if size > 0 else -1
            self._passed(came)

    def _passed(self, came: bytes) -> bytes:
        """Feed what belongs to the frame; gives what does not."""
        mine = came if self._passing < 0 else came[: self._passing]
        self._passing -= len(mine) if self._passing > 0 else 0
        self._feed(mine)
        return came[len(mine) :]


class _Large:
    """A frame that is filled where it stands, and not copied with the twin."""

    def __init__(self, size: int, came: bytes) -> None:
        self._bytes: Any = native.Filling(size) if HAS_NATIVE else bytearray(size)
        self._view, self._at = memoryview(self._bytes), len(came)
        self._view[: self._at] = came
        self._room = self._view[self._at :]

    def room(self) -> memoryview:
        """Where the next bytes go."""
        return self._room

    def whole(self, count: int) -> bytes | None:
        """So many more came; the frame, if they were the last."""
        self._at += count
        try:
            self._room.release()
            if self._at == len(self._view):
                self._view.release()
                return self._bytes.taken() if HAS_NATIVE else bytes(self._bytes)
        except BufferError:  # whoever wrote into it holds it still
            if self._at == len(self._bytes):
                return bytes(memoryview(self._bytes))
        self._room = self._view[self._at :]
        return None


class _Protocol(conn.AIOKafkaProtocol, asyncio.BufferedProtocol):  # type: ignore[misc]  # aiokafka has no types
    """aiokafka's, whose reader keeps pieces, and which receives by frames."""

    def __init__(self, closed: object, reader: Any, *args: Any, **named: Any) -> None:
        if type(reader) is asyncio.StreamReader and getattr(reader, "_buffer", None) == bytearray():
            reader.__dict__.update(_buffer=Pieces(), _limit=LIMIT)
        super().__init__(closed, reader, *args, **named)
        self._frames = Frames(self.data_received)

    def get_buffer(self, sizehint: int) -> memoryview:
        """See `asyncio.BufferedProtocol`."""
        return self._frames.room()

    def buffer_updated(self, nbytes: int) -> None:
        """See `asyncio.BufferedProtocol`."""
        self._frames.came(nbytes)


def receive_frames() -> None:
    """From now on connections to brokers receive by frames."""
    if not issubclass(conn.AIOKafkaProtocol, _Protocol):
        conn.AIOKafkaProtocol = _Protocol
