"""Watches the files of a configuration and says when one of them is another.

What counts is content: editors replace files, Kubernetes swaps a symbolic link above them, and a state file beside
them changes all the time. So their folders are watched, and at each sign of life the files are read and compared; now
and then without one too, for file systems that do not tell.
"""

import logging
from collections.abc import Callable, Iterable, Mapping
from hashlib import sha256
from pathlib import Path

import anyio
import anyio.to_thread

log = logging.getLogger("dagtel.watch")

LOOK_S = 5.0
"""A change that nobody told us of is found within this."""
DEBOUNCE_MS = 400
"""Signs that come so close together are one: a file is often written in several steps."""

Fingerprint = Mapping[str, bytes]
"""A digest of each file by its path; b"" for one that is not there or cannot be read."""


def fingerprint(files: Iterable[str]) -> Fingerprint:
    """What the files hold now. Blocks."""
    return {file: _digest(Path(file)) for file in files}


async def watch(known: Callable[[], Fingerprint], changed: Callable[[], None]) -> None:
    """Call `changed` whenever the files of `known()` no longer hold what it says, once for each new content."""
    told: Fingerprint = {}
    while True:
        expected = known()
        found = await anyio.to_thread.run_sync(fingerprint, expected)
        if found != expected and found != told:
            told = found
            changed()
        await _sign_of_life(_folders(expected))


async def _sign_of_life(folders: list[Path]) -> None:
    """Return when something stirs in one of the folders, after LOOK_S at the latest."""
    from watchfiles import awatch  # its own thread pool and a library in Rust: only who watches pays

    if not folders:
        await anyio.sleep(LOOK_S)
        return
    try:
        with anyio.move_on_after(LOOK_S):
            async for _ in awatch(*folders, debounce=DEBOUNCE_MS, step=50, recursive=False, watch_filter=None):
                return
    except (OSError, RuntimeError) as error:  # no more inotify watches; a folder that went away
        log.debug("A folder cannot be watched, looking now and then.", extra={"error": str(error)})
        await anyio.sleep(LOOK_S)


def _folders(files: Iterable[str]) -> list[Path]:
    """Where the files lie, and where their symbolic links point to; only folders that are there."""
    found = {folder for file in files for path in (Path(file),) for folder in (path.parent, path.resolve().parent)}
    return sorted(folder.absolute() for folder in found if folder.is_dir())


def _digest(file: Path) -> bytes:
    try:
        return sha256(file.read_bytes()).digest()
    except OSError:
        return b""
