"""A file that is read again when it has changed."""

from collections.abc import Callable
from pathlib import Path

import anyio.to_thread

from pipeline.errors import ConfigError, DecodeError, RetryableError
from processors.lineage_told import Told


class WatchedFile:
    """Gives what the file says; the same object while its time and size stay. Reading and parsing are off the loop."""

    def __init__(self, path: str, read: Callable[[Path], Told]) -> None:
        self._path, self._read = Path(path), read
        self._seen: tuple[int, int] | None = None
        self._told = Told()

    async def fetch(self) -> Told:
        """What it says now. Raises RetryableError while it is missing or broken: what it said before stands."""
        return await anyio.to_thread.run_sync(self._fetch)

    def _fetch(self) -> Told:
        try:
            status = self._path.stat()
            seen = (status.st_mtime_ns, status.st_size)
            if seen != self._seen:
                self._told = self._read(self._path)
                self._seen = seen
        except OSError as error:
            raise RetryableError(f"{self._path} cannot be read: {error.strerror}") from error
        except (ConfigError, DecodeError) as error:
            raise RetryableError(f"{self._path}: {error}") from error
        return self._told
