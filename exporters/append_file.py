"""An append-only file that can be cut back to where it was: the mechanism of the `file` exporter. Blocking I/O.

A `Mark` says how far what was written counts: the file's generation (how many files were rotated away before it) and
its length. Rotation moves `x.jsonl` of generation 3 to `x.jsonl.3` (or `.3.gz`) and begins generation 4, so everything
written after a mark can be found and undone: later generations are deleted, the marked one gets its name back and is
cut to the marked length. Every append begins with that (for nothing, as a rule), so an append that failed half way,
was cancelled, or belongs to a payload that a crash left unacknowledged, leaves no line behind.
"""

import gzip
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

_PART: Final = ".part"


class Mark(msgspec.Struct, frozen=True, gc=False):
    """What is written up to here counts."""

    generation: int
    length: int


class AppendFile:
    """One path and its rotated files. Sizes in bytes; `max_size` 0: never rotate, `max_files` 0: keep all."""

    def __init__(self, path: Path, max_size: int = 0, max_files: int = 0, compress: bool = False) -> None:
        self.path, self._max_size, self._max_files, self._compress = path, max_size, max_files, compress

    def open(self) -> Mark:
        """Make folder and file where they are missing; where the file ends now."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab") as file:
            length = file.seek(0, os.SEEK_END)
        return Mark(max((g for g, _ in self._rotated()), default=0) + 1, length)

    def restore(self, mark: Mark) -> bool:
        """Undo what was written after `mark`. False: the file is shorter than that, or gone; it stays as it is."""
        later = [(g, p) for g, p in self._rotated() if g >= mark.generation]
        if later:
            self._unrotate(mark, later)
        length = self.path.stat().st_size if self.path.exists() else -1
        if length > mark.length:
            os.truncate(self.path, mark.length)
        return length >= mark.length

    def append(self, mark: Mark, body: bytes, sync: bool) -> Mark:
        """Write `body` behind `mark`, into the next file where this one would grow too long. Raises OSError."""
        if not self.restore(mark):
            mark = self.open()
        if self._max_size and mark.length and mark.length + len(body) > self._max_size:
            mark = self._rotate(mark)
        with self.path.open("ab") as file:
            file.write(body)
            file.flush()
            if sync:
                os.fsync(file.fileno())
        return Mark(mark.generation, mark.length + len(body))

    def _rotate(self, mark: Mark) -> Mark:
        away = self.path.with_name(f"{self.path.name}.{mark.generation}")
        self.path.rename(away)
        self.path.touch()
        if self._compress:
            part = away.with_name(f"{away.name}.gz{_PART}")
            with away.open("rb") as source, gzip.open(part, "wb", compresslevel=6) as target:
                shutil.copyfileobj(source, target, 2**20)
            part.rename(away.with_name(f"{away.name}.gz"))
            away.unlink()
        if self._max_files:
            for generation, path in self._rotated():
                if generation <= mark.generation - self._max_files:
                    path.unlink(missing_ok=True)
        return Mark(mark.generation + 1, 0)

    def _unrotate(self, mark: Mark, later: list[tuple[int, Path]]) -> None:
        self.path.unlink(missing_ok=True)
        marked = sorted((p for g, p in later if g == mark.generation), key=lambda p: p.suffix == ".gz")
        if marked and marked[0].suffix != ".gz":
            marked[0].rename(self.path)
        elif marked:
            self._unzip(marked[0])
        for _, path in later:
            path.unlink(missing_ok=True)
        self.path.touch()

    def _unzip(self, zipped: Path) -> None:
        part = self.path.with_name(self.path.name + _PART)
        with gzip.open(zipped, "rb") as source, part.open("wb") as target:
            shutil.copyfileobj(source, target, 2**20)
        part.rename(self.path)

    def _rotated(self) -> Iterator[tuple[int, Path]]:
        """The rotated files with their generations, in no order."""
        name = re.compile(re.escape(self.path.name) + r"\.(\d+)(\.gz)?")
        for path in self.path.parent.iterdir():
            if match := name.fullmatch(path.name):
                yield int(match[1]), path
