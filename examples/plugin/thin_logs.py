"""A dagtel processor that thins out log records of low levels."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import msgspec

from pipeline.batch import Batch
from pipeline.components import Context, ProcessorSpec, Table
from pipeline.signals import LogRecord, Signal


class ThinLogsConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Lets the first of every so many records of a job and event type pass, where their level is low."""

    every: int = 10
    """One record of so many passes."""
    levels: tuple[str, ...] = ("DEBUG",)
    """Levels that are thinned out; records of all others pass."""

    def problems(self) -> Iterator[tuple[str, str]]:
        """What is wrong with the options beyond their types: (option, message)."""
        if self.every < 1:
            yield "every", "must be at least 1"


class ThinLogs:
    """Counts records by job and event type; the counts are in a table, so they survive a restart."""

    def __init__(self, config: ThinLogsConfig, counts: Table[tuple[str, ...], int]) -> None:
        self._config, self._counts = config, counts

    async def process(self, batch: Batch[LogRecord], /) -> Batch[LogRecord]:
        """The records that pass, in their order."""
        return batch.carrying([record for record in batch.items if self._passes(record)])

    def _passes(self, record: LogRecord) -> bool:
        if record.level not in self._config.levels:
            return True
        key = (record.job_name, record.event)
        seen = self._counts.get(key) or 0
        self._counts.put(key, (seen + 1) % self._config.every)
        return seen == 0


@asynccontextmanager
async def build(config: ThinLogsConfig, context: Context) -> AsyncIterator[ThinLogs]:
    """Open the table. What is opened here is closed here, whatever happens."""
    yield ThinLogs(config, context.state.table("counts", tuple[str, ...], int, version=1))


SPEC = ProcessorSpec("thin_logs", ThinLogsConfig, build, takes=frozenset({Signal.LOGS}), resets_state=("every",))
