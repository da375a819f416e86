"""Bytes in chunks become lines. Pure; holds no more than one line, and no more than `max_line` bytes of it."""

from typing import NamedTuple

HEAD = 64 * 1024
"""What is kept of a line that is too long (no more than `max_line`)."""


class Line(NamedTuple):
    """One line: `raw` is without its newline, of a line that is too long only the HEAD. `number` counts from 1.

    It stands from byte `start` to before byte `end` (with its newline) of the unpacked file.
    """

    number: int
    start: int
    end: int
    raw: bytes
    too_long: bool = False


class Lines:
    """Splits chunks, whatever their borders: `feed(a) + feed(b)` gives what `feed(a + b)` gives."""

    def __init__(self, max_line: int, offset: int = 0, number: int = 0) -> None:
        self._max, self._start, self._number = max_line, offset, number
        self._rest: list[bytes] = []
        self._size = 0  # of the line in progress
        self._head: bytes | None = None  # once it is too long

    @property
    def is_between(self) -> bool:
        """No line is in progress."""
        return not self._size

    @property
    def start(self) -> int:
        """Where the next line, or the one in progress, begins."""
        return self._start

    @property
    def count(self) -> int:
        """The number of the last line."""
        return self._number

    def feed(self, chunk: bytes) -> list[Line]:
        """The lines that end in this chunk."""
        first, *more = chunk.split(b"\n")
        self._keep(first)
        lines: list[Line] = []
        for part in more:
            lines.append(self._close(1))
            self._keep(part)
        return lines

    def finish(self) -> list[Line]:
        """The line in progress, as the last one without a newline."""
        return [] if self.is_between else [self._close(0)]

    def _keep(self, part: bytes) -> None:
        if not part:
            return
        self._size += len(part)
        if self._head is None:
            self._rest.append(part)
            if self._size > self._max:
                self._head = b"".join(self._rest)[: min(HEAD, self._max)]
                self._rest.clear()

    def _close(self, newline: int) -> Line:
        raw = self._head if self._head is not None else b"".join(self._rest)
        start, self._start = self._start, self._start + self._size + newline
        self._number += 1
        line = Line(self._number, start, self._start, raw, self._head is not None)
        self._rest.clear()
        self._size, self._head = 0, None
        return line
