"""One file, or standard input, as unpacked chunks of bytes. Its methods block: they are called off the loop's thread.

gzip and zstd are known by their first bytes, whatever the file is called, and may be several streams one after another.
"""

import os
import select
import stat
import zlib
from pathlib import Path
from typing import Final, Protocol

import zstandard

from pipeline.errors import PermanentError

STDIN = "-"
CHUNK = 1 << 20
PACKED_CHUNK = 64 * 1024  # unpacks to a few MiB of JSON lines
WAIT_S = 0.25
_GZIP: Final = b"\x1f\x8b"
_ZSTD: Final = b"\x28\xb5\x2f\xfd"


class Unpack(Protocol):
    """Unpacks as far as the bytes go. Raises its library's error on bytes that are damaged."""

    def feed(self, data: bytes) -> bytes: ...

    @property
    def is_between(self) -> bool:
        """No stream is in progress: an end here is an end."""
        ...


class _Plain:
    is_between = True

    def feed(self, data: bytes) -> bytes:
        return data


class _Gzip:
    def __init__(self) -> None:
        self._stream = zlib.decompressobj(31)
        self.is_between = True

    def feed(self, data: bytes) -> bytes:
        out = []
        while data:
            if self._stream.eof:
                data = data.lstrip(b"\0")  # padding, as gzip itself skips it
                if not data:
                    break
                self._stream = zlib.decompressobj(31)
            out.append(self._stream.decompress(data))
            data = self._stream.unused_data
            self.is_between = self._stream.eof
        return b"".join(out)


class _Zstd:
    def __init__(self) -> None:
        self._stream = zstandard.ZstdDecompressor().decompressobj()
        self.is_between = True

    def feed(self, data: bytes) -> bytes:
        out = []
        while data:
            if self._stream.eof:
                self._stream = zstandard.ZstdDecompressor().decompressobj()
            out.append(self._stream.decompress(data))
            data = self._stream.unused_data
            self.is_between = self._stream.eof
        return b"".join(out)


class Source:
    """An open file. `offset` counts its own bytes, packed as they are; `inode` tells it from another of its name.

    `read` raises PermanentError on damaged data.
    """

    def __init__(self, path: str) -> None:
        """Open it. Raises FileNotFoundError, other OSError."""
        self._path = path
        self._fd = os.dup(0) if path == STDIN else os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        found = os.fstat(self._fd)
        if stat.S_ISDIR(found.st_mode):
            os.close(self._fd)
            raise IsADirectoryError(f"{path} is a directory")
        self.inode = found.st_ino if stat.S_ISREG(found.st_mode) else 0
        self.offset = 0
        self._first = b""
        self._unpack: Unpack | None = None

    @property
    def is_plain(self) -> bool:
        """Neither packed nor a pipe: its bytes can be sought. Known once something was read or it was sought."""
        return self.inode != 0 and (self._unpack is None or isinstance(self._unpack, _Plain))

    @property
    def is_cut_off(self) -> bool:
        """At its end: a packed stream is not complete."""
        return self._unpack is not None and not self._unpack.is_between

    def sniff(self) -> None:
        """See what it is, without reading on. For regular files."""
        if self.inode:
            self._unpack = _unpack_for(os.pread(self._fd, 4, 0))

    def size(self) -> int:
        """Bytes there are now; of a pipe 0."""
        return os.fstat(self._fd).st_size if self.inode else 0

    def seek(self, offset: int) -> None:
        os.lseek(self._fd, offset, os.SEEK_SET)
        self.offset = offset

    def look(self, offset: int, size: int) -> bytes:
        """The bytes there, without reading on."""
        return os.pread(self._fd, size, offset)

    def read(self) -> bytes | None:
        """More of it, unpacked; b"" at the end, None where nothing comes from a pipe for WAIT_S (then ask again)."""
        while True:
            if not self.inode and not select.select([self._fd], [], [], WAIT_S)[0]:
                return None
            packed = self._unpack is not None and not isinstance(self._unpack, _Plain)
            data = os.read(self._fd, PACKED_CHUNK if packed or self._unpack is None else CHUNK)
            self.offset += len(data)
            if self._unpack is None:
                data = self._first + data
                if len(data) > len(self._first) and (_GZIP.startswith(data) or _ZSTD.startswith(data)):
                    self._first = data  # too little to know what it is
                    continue
                self._unpack = _unpack_for(data)
            if not data:
                return b""
            try:
                out = self._unpack.feed(data)
            except (zlib.error, zstandard.ZstdError) as error:
                raise PermanentError(f"{self._path}: its compressed data is damaged: {error}") from error
            if out:
                return out

    def is_replaced_at(self, path: str) -> bool:
        """Another file has the path now. One that is missing is not replaced yet."""
        try:
            return Path(path).stat().st_ino != self.inode
        except FileNotFoundError:
            return False

    def close(self) -> None:
        os.close(self._fd)


def _unpack_for(first: bytes) -> Unpack:
    if first.startswith(_GZIP):
        return _Gzip()
    return _Zstd() if first.startswith(_ZSTD) else _Plain()


def renamed(path: str, inode: int) -> str | None:
    """The file beside `path` that has this inode: what a rotation made of it."""
    for found in Path(path).parent.iterdir():
        if found.is_file() and found.stat().st_ino == inode:
            return str(found)
    return None
