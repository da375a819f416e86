"""The contract that every processor keeps, and what this one is for."""

import anyio
from thin_logs import SPEC, ThinLogsConfig

from pipeline.signals import LogRecord
from pipeline.testing.contracts import ProcessorContract
from pipeline.testing.rig import rig


class TestThinLogsKeepsTheContract(ProcessorContract):
    spec = SPEC

    def options(self) -> ThinLogsConfig:
        return ThinLogsConfig(every=3, levels=("DEBUG", "INFO"))


def record(number: int, level: str = "DEBUG") -> LogRecord:
    return LogRecord(number, level, "LOG", "", str(number), job_name="nightly")


def test_one_record_of_three_passes_and_every_error() -> None:
    async def run() -> list[str]:
        async with rig(SPEC, ThinLogsConfig(every=3)) as thin:
            await thin.push([record(n) for n in range(7)] + [record(7, "ERROR")])
            return [passed.event_id for passed in thin.given]

    assert anyio.run(run) == ["0", "3", "6", "7"]
