"""Recorded logs, as the twins' tests feed them."""

from pathlib import Path

from pipeline.batch import Batch
from pipeline.events import Event
from pipeline.testing.context import FakeContext
from processors.run_ledger import RunLedger, RunLedgerConfig
from receivers.dagster_wire import decode

DATA = Path(__file__).parents[1] / "data"
RECORDED = sorted(path.name for path in DATA.glob("*-1.*.jsonl"))


async def annotated(name: str) -> Batch[Event]:
    """The events of a recorded log as one batch, behind the ledger."""
    lines = (DATA / name).read_bytes().splitlines()
    events = [decode(line, source="file", offset=place) for place, line in enumerate(lines, 1)]
    now_ns = 0
    for event in events:
        event.now_ns = now_ns = max(now_ns, event.at_ns)
    return await RunLedger(RunLedgerConfig(), FakeContext()).process(Batch(events, "file", now_ns))
