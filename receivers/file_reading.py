"""Reading one file from where it was left to its end, or on and on.

A position is the byte offset of the next line (of a packed file: the number of lines read), and names the last line by
its CRC, so that a restart neither repeats nor skips, and notices when the file is another one. A file that was rotated
while we were away is looked for beside its path, by its inode, and read to its end first.
"""

import logging
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar
from zlib import crc32

import anyio
import anyio.to_thread
import msgspec

from pipeline.components import Intake, Position, Read, Rejected
from pipeline.errors import DecodeError, PermanentError
from pipeline.events import Event
from receivers.file_lines import HEAD, Line, Lines
from receivers.file_options import FileReceiverConfig
from receivers.file_source import STDIN, Source, renamed

T = TypeVar("T")
BOM = b"\xef\xbb\xbf"


class Decode(Protocol):
    """Bytes to an event; raises DecodeError. See `receivers.dagster_wire.decode`."""

    def __call__(self, raw: bytes, *, source: str, offset: int) -> Event: ...


class Place(msgspec.Struct, frozen=True, array_like=True):
    """A position's note: number and first byte of the last line, and the file's inode."""

    line: int
    start: int
    inode: int


_encode = msgspec.msgpack.Encoder().encode
_place = msgspec.msgpack.Decoder(Place).decode


class Changed(Exception):
    """The file is not the one that was read. Its text says how that shows."""


class FileReading:
    """One path. `run` returns at the end, or never when it follows."""

    def __init__(
        self,
        path: str,
        config: FileReceiverConfig,
        intake: Intake[object],
        decode: Decode,
        log: logging.LoggerAdapter[logging.Logger],
    ) -> None:
        self._path, self._source_name, self._config, self._intake = path, source_name(path), config, intake
        self._decode, self._log = decode, log
        self._follows = config.follow and not intake.once and path != STDIN
        self._position = Position(0)
        self._lines = Lines(config.max_line)
        self._skip: Place | None = None  # lines of a packed file up to here were read before
        self._limit: int | None = None
        self._behind = True

    async def run(self, stored: Position | None) -> None:
        """Raises PermanentError: the file is missing (and not followed), damaged, or another one."""
        while True:
            try:
                await self._run_one(stored)
            except Changed as changed:
                self._accept(changed)
            else:
                if not self._follows:
                    return
            stored = None

    async def _run_one(self, stored: Position | None) -> None:
        source = await self._open(stored)
        try:
            await self._read_to_end(source)
        finally:
            source.close()

    # --- opening -----------------------------------------------------------------------------------------------------

    async def _open(self, stored: Position | None) -> Source:
        """The file, at the stored position. Raises Changed."""
        self._position, self._lines = Position(0), Lines(self._config.max_line)
        self._skip, self._limit = None, None
        source = await self._existing()
        if self._intake.once and self._path != STDIN:
            await _blocking(source.sniff)
            self._limit = source.size() if source.is_plain else None
        if stored is not None and stored.note and source.inode and self._path != STDIN:
            source = await self._resume(source, stored)
        return source

    def _accept(self, changed: Changed) -> None:
        if self._config.on_changed == "fail":
            raise PermanentError(
                f"{self._path} is not the file that was read: {changed}. Set `on_changed: reread` to read what is "
                "there now from its beginning, or give back the file that was there."
            ) from changed
        self._log.warning("The file is another one; reading it from its beginning.", extra={"path": self._path})

    async def _existing(self) -> Source:
        waiting = False
        while True:
            try:
                return await _blocking(lambda: Source(self._path))
            except FileNotFoundError as error:
                if not self._follows:
                    raise PermanentError(f"{self._path}: there is no such file") from error
            except OSError as error:
                raise PermanentError(f"{self._path}: {error.strerror or error}") from error
            if not waiting:
                self._log.info("Waiting for the file to appear.", extra={"path": self._path})
            waiting = True
            await anyio.sleep(self._config.poll_interval)

    async def _resume(self, source: Source, stored: Position) -> Source:
        place = _place(stored.note)
        if self._follows and place.inode != source.inode:
            older = await _blocking(lambda: renamed(self._path, place.inode))
            if older is not None:
                source.close()
                source = await _blocking(lambda: Source(older))
        await _blocking(source.sniff)
        if source.is_plain:
            try:
                number = await _blocking(lambda: _checked(source, stored, place))
            except Changed:
                source.close()
                raise
            source.seek(stored.next)
            self._lines = Lines(self._config.max_line, stored.next, number)
        else:
            self._skip = place
        self._position = stored
        return source

    # --- reading -----------------------------------------------------------------------------------------------------

    async def _read_to_end(self, source: Source) -> None:
        """Returns at the end, which for one that follows is a file that took its place."""
        replaced = False
        while True:
            chunk = await _blocking(source.read)
            if chunk:
                self._behind = True
                await self._put(self._lines.feed(chunk), source)
                if self._limit is not None and self._lines.start >= self._limit:
                    return await self._caught_up()
                continue
            if chunk is None:
                await self._caught_up()
                continue
            if not self._follows or replaced:
                return await self._end(source)
            await self._caught_up()
            # What the writer still wrote before it turned to the new file is read before we do.
            replaced = await _blocking(lambda: source.is_replaced_at(self._path))
            if not replaced:
                await self._wait_for_more(source)

    async def _end(self, source: Source) -> None:
        await self._put(self._lines.finish(), source)
        if self._skip is not None:
            raise Changed(f"it has {self._lines.count} lines, and {self._skip.line} were read")
        if source.is_cut_off:
            raise PermanentError(f"{self._path} is cut off: its compressed data ends in the middle")
        await self._caught_up()

    async def _wait_for_more(self, source: Source) -> None:
        if source.is_plain and await _blocking(source.size) < source.offset:
            self._log.warning("The file was truncated; reading it from its beginning.", extra={"path": self._path})
            await self._put(self._lines.finish(), source)
            source.seek(0)
            self._lines = Lines(self._config.max_line)
        else:
            await anyio.sleep(self._config.poll_interval)

    # --- putting -----------------------------------------------------------------------------------------------------

    async def _caught_up(self) -> None:
        """Say that no more is known to be there."""
        if self._behind:
            self._behind = False
            await self._intake.put(Read(self._source_name, (), self._position))

    async def _put(self, lines: list[Line], source: Source) -> None:
        if self._skip is not None:
            lines = self._unread(lines)
        if self._limit is not None:
            lines = [line for line in lines if line.start < self._limit]
        for first in range(0, len(lines), self._config.max_items):
            await self._put_batch(lines[first : first + self._config.max_items], source)

    async def _put_batch(self, lines: Sequence[Line], source: Source) -> None:
        items, rejected = self._decoded(lines)
        last = lines[-1]
        self._position = Position(
            last.end if source.is_plain else last.number,
            items[-1].at_ns if items else self._position.at_ns,
            crc32(last.raw[:HEAD]),
            _encode(Place(last.number, last.start, source.inode)),
        )
        size = last.end - lines[0].start
        await self._intake.put(Read(self._source_name, items, self._position, rejected, True, size))

    def _decoded(self, lines: Sequence[Line]) -> tuple[list[Event], list[Rejected]]:
        items: list[Event] = []
        rejected: list[Rejected] = []
        name, decode = self._source_name, self._decode
        for line in lines:
            raw = line.raw if line.number > 1 else line.raw.removeprefix(BOM)
            if not raw or raw.isspace():
                continue
            try:
                if line.too_long:
                    raise DecodeError(
                        f"the line has {line.end - line.start} bytes, `max_line` is {self._config.max_line}"
                    )
                items.append(decode(raw, source=name, offset=line.number))
            except DecodeError as error:
                rejected.append(Rejected(raw, str(error), f"{name}@{line.number}", name, line.number))
        return items, rejected

    def _unread(self, lines: Sequence[Line]) -> list[Line]:
        """Without those that were read before a restart. Raises Changed when the last of them is another one."""
        place = self._skip
        assert place is not None
        for line in lines:
            if line.number == place.line:
                if crc32(line.raw[:HEAD]) != self._position.crc:
                    raise Changed(f"line {line.number} is another one")
                self._skip = None
        return [line for line in lines if line.number > place.line]


def source_name(path: str) -> str:
    """The name of a file as a source: "file:/data/events.jsonl"."""
    return f"file:{path}"


def _checked(source: Source, stored: Position, place: Place) -> int:
    """How many lines of a plain file were read, once its last line is seen to be the same. Raises Changed."""
    if source.size() < stored.next:
        raise Changed(f"it has {source.size()} bytes, and {stored.next} were read")
    length = stored.next - place.start
    data = source.look(place.start, min(length, HEAD + 1))
    ended = source.look(stored.next - 1, 1) == b"\n"
    raw = data[:-1] if ended and len(data) == length else data
    if crc32(raw[:HEAD]) != stored.crc:
        raise Changed(f"line {place.line} is another one")
    return place.line if ended else place.line - 1  # what follows an unfinished line is the rest of that line


async def _blocking(call: Callable[[], T]) -> T:
    """Run it off the loop's thread. A read that is waited for in vain ends by itself, so none is abandoned."""
    return await anyio.to_thread.run_sync(call)
