"""The daemon's own log for as long as it runs, with settings that a reload may change."""

import logging
from contextlib import AbstractContextManager, ExitStack
from types import TracebackType

from pipeline.config.model import LogsTelemetry
from pipeline.runtime.telemetry import own_log

_ROOT = logging.getLogger("dagtel")


class OwnLog(AbstractContextManager["OwnLog"]):
    """Writes as it is told to; `follow` changes that without losing a line."""

    def __init__(self, settings: LogsTelemetry, worker: str = "") -> None:
        """`worker` stands in each line, where several processes write to one terminal."""
        self._settings, self._worker = settings, worker
        self._before = _ROOT.level, _ROOT.propagate
        self._open = ExitStack()

    def __enter__(self) -> "OwnLog":
        self._open.enter_context(_opened(self._settings, self._worker))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()
        _ROOT.setLevel(self._before[0])
        _ROOT.propagate = self._before[1]

    def follow(self, settings: LogsTelemetry) -> None:
        """Write so from now on. Blocks for what still waits for Loki."""
        if settings != self._settings:
            before, self._open = self._open, ExitStack()
            self._open.enter_context(_opened(settings, self._worker))
            now = _ROOT.level, _ROOT.propagate
            before.close()  # it leaves the level as it found it
            _ROOT.setLevel(now[0])
            _ROOT.propagate = now[1]
            self._settings = settings


def _opened(settings: LogsTelemetry, worker: str) -> AbstractContextManager[None]:
    loki = settings.loki
    return own_log(settings.level, settings.format, loki.url if loki else "", loki.labels if loki else None, worker)
