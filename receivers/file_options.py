"""The options of the `file` receiver."""

from typing import Literal

import msgspec

from pipeline.options import Duration, Size


class FileReceiverConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Reads stored events from files with one JSON object a line, or from standard input.

    gzip and zstd are known by their first bytes. Each path is a source (`file:PATH`); an event's offset is its line
    number, from 1. Blank lines are skipped. Where it reads on is kept in dagtel's state, so a restart neither repeats
    nor skips a line; standard input has no place to go back to, and is read from where it stands.
    """

    path: str | tuple[str, ...]
    """The file; `-` is standard input. Several are read one after another, or, when followed, side by side."""
    follow: bool = False
    """Wait for more at the end, also when the file is rotated (renamed and made anew) or truncated, and for one that
    is not there yet. Else the end is the end. With `--once` nothing is followed."""
    on_changed: Literal["fail", "reread"] = "fail"
    """What to do when the file is not the one that was read before a restart: `fail` stops the start, `reread` reads
    what is there now from its beginning."""
    max_line: Size = Size("32MiB")
    """A longer line is rejected: its first 64 KiB go to the dead letters."""
    max_items: int = 5000
    """Lines handed over at once at most."""
    poll_interval: Duration = Duration("250ms")
    """How often a followed file is looked at."""

    def __post_init__(self) -> None:
        if not self.path or "" in self.paths:
            raise ValueError("`path` is empty; name a file, or `-` for standard input")
        if len(set(self.paths)) < len(self.paths):
            raise ValueError("`path` names a file twice")
        if self.max_line < 64 * 1024:
            raise ValueError("`max_line` must be at least 64KiB")
        if self.max_items < 1:
            raise ValueError("`max_items` must be at least 1")

    @property
    def paths(self) -> tuple[str, ...]:
        """All files, in order."""
        return (self.path,) if isinstance(self.path, str) else self.path
