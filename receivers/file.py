"""The `file` receiver: events from JSON lines, packed or not, to the end or on and on."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio

from pipeline.components import Context, Intake, Receiver, ReceiverSpec
from pipeline.errors import PermanentError
from pipeline.events import Event
from receivers.dagster_wire import decode, redecode
from receivers.file_options import FileReceiverConfig
from receivers.file_reading import Decode, FileReading, source_name


class FileReceiver:
    """Reads the files of its configuration."""

    def __init__(self, config: FileReceiverConfig, log: logging.LoggerAdapter[logging.Logger], decode: Decode) -> None:
        self._config, self._log, self._decode = config, log, decode

    async def run(self, intake: Intake[object]) -> None:
        """See `pipeline.components.Receiver`. Without `follow` it returns at the end of the last file."""
        paths = self._config.paths
        stored = await intake.assign([source_name(path) for path in paths])
        readings = {path: FileReading(path, self._config, intake, self._decode, self._log) for path in paths}
        if intake.once or not self._config.follow:
            for path, reading in readings.items():
                await reading.run(stored.get(source_name(path)))
            return
        try:
            async with anyio.create_task_group() as tasks:
                for path, reading in readings.items():
                    tasks.start_soon(reading.run, stored.get(source_name(path)))
        except* PermanentError as group:
            raise group.exceptions[0] from None  # the first file that cannot be read ends all


@asynccontextmanager
async def build(config: FileReceiverConfig, context: Context) -> AsyncIterator[Receiver[Event]]:
    yield FileReceiver(config, context.log, decode)


SPEC = ReceiverSpec("file", FileReceiverConfig, build, redecode=redecode)
