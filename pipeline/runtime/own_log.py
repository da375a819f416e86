"""The daemon's own log for as long as it runs, with settings that a reload may change."""

from contextlib import AbstractContextManager, ExitStack
from types import TracebackType

from pipeline.config.model import LogsTelemetry
from pipeline.runtime.telemetry import own_log


class OwnLog(AbstractContextManager["OwnLog"]):
    """Writes as it is told to; `follow` changes that without losing a line."""

    def __init__(self, settings: LogsTelemetry) -> None:
        self._settings = settings
        self._open = ExitStack()

    def __enter__(self) -> "OwnLog":
        self._open.enter_context(_opened(self._settings))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def follow(self, settings: LogsTelemetry) -> None:
        """Write so from now on. Blocks for what still waits for Loki."""
        if settings != self._settings:
            before, self._open = self._open, ExitStack()
            self._open.enter_context(_opened(settings))
            before.close()
            self._settings = settings


def _opened(settings: LogsTelemetry) -> AbstractContextManager[None]:
    loki = settings.loki
    return own_log(settings.level, settings.format, loki.url if loki else "", loki.labels if loki else None)
