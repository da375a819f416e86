"""The only place that understands how a run unfolds: `ledger/` decides, this carries it through the pipeline.

It sets `attempt`, `assets` and `outcomes` of every event. A run of which nothing is heard for `run_timeout`, or that
is still going on at the end of `--once`, is closed as unfinished: then there is no event to carry the outcomes, so
one of our own is made, of type RUN_UNFINISHED and with `raw == b""`. It is no event of Dagster's log: whoever counts
or writes those (logs, a Kafka exporter) leaves out events without `raw`.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import msgspec

from pipeline.batch import Batch
from pipeline.components import Context, ProcessorSpec
from pipeline.events import Event
from pipeline.options import Duration
from pipeline.signals import Signal
from processors.ledger.book import Book
from processors.ledger.ledger import Ledger


class RunLedgerConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Follows each run and says what came of it: step attempts, assets made and failed, checks, the run's end.

    Spans, metrics, alerts and the store read these outcomes, so every events pipeline has it, behind `redelivery` and
    before all else. State is bounded by the three limits below.
    """

    run_timeout: Duration = Duration("24h")
    """A run of which nothing is heard for so long is closed as unfinished. Its true end, if it comes, is told as a
    late one: in logs and metrics, without a second span."""
    tombstones: int = 100_000
    """Ended runs that are remembered, so that late events and repeats are not taken for a new run; some 70 bytes
    each."""
    keep_ended: int = 256
    """Of these, failed and cancelled runs that are remembered whole, because their worker may still say more."""
    max_open_runs: int = 100_000
    """Runs going on at the same time; beyond, the one heard of longest ago is closed as unfinished."""

    def __post_init__(self) -> None:
        if self.run_timeout <= 0:
            raise ValueError("run_timeout must be more than 0")
        for name in ("tombstones", "keep_ended", "max_open_runs"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")


class RunLedger:
    """The processor, one instance a shard. Runs do not span shards: the topic's key is the run id."""

    def __init__(self, config: RunLedgerConfig, context: Context) -> None:
        self._config, self._shard = config, context.shard
        self._book = Book(context.state, config.keep_ended, config.tombstones)
        self._ledger = Ledger(self._book)
        self._timeout_ns = config.run_timeout.ns
        self.lead_ns = self._timeout_ns

    async def process(self, batch: Batch[Event]) -> Batch[Event]:
        """The same events, annotated; among them those of our own that close runs for which there is no room."""
        self._book.begin()
        take, runs = self._ledger.take, self._book.runs
        room = self._config.max_open_runs
        closed: list[tuple[int, Event]] = []

        def rest(place: int, event: Event) -> None:
            take(event)
            if len(runs) > room:
                closed.extend((place, carrier) for carrier in self._close_quietest(event.now_ns))

        twin = self._ledger.twin
        if twin is not None and len(runs) <= room:  # it opens no run for which there is no room
            twin.take_all(batch.items, room, rest)
        else:
            for place, event in enumerate(batch.items, 1):
                rest(place, event)
        self._book.done()
        return batch.carrying(_merged(batch.items, closed)) if closed else batch

    def due(self) -> int | None:
        """When the run heard of longest ago will have been silent for too long."""
        self._book.check()
        first = self._book.quietest()
        return first[0] + self._timeout_ns if first is not None else None

    async def on_time(self, now_ns: int) -> Sequence[Event]:
        """Close the runs that have been silent for too long."""
        self._book.begin()
        closed: list[Event] = []
        why = f"nothing heard of this run for {self._config.run_timeout}: closed as unfinished"
        while (first := self._book.quietest()) is not None and first[0] + self._timeout_ns <= now_ns:
            closed += _one(self._ledger.close(first[1], now_ns, why, self._shard))
        self._book.done()
        return closed

    async def finish(self, now_ns: int) -> Sequence[Event]:
        """Close the runs that are still going on."""
        self._book.begin()
        closed: list[Event] = []
        why = "the input ended while this run was still going on: closed as unfinished"
        for run_id in sorted(run_id for run_id, _ in self._book.recent.items()):
            closed += _one(self._ledger.close_left_open(run_id, now_ns, why, self._shard))
        while (first := self._book.quietest()) is not None:
            closed += _one(self._ledger.close(first[1], now_ns, why, self._shard))
        self._book.done()
        return closed

    def _close_quietest(self, now_ns: int) -> list[Event]:
        first = self._book.quietest()
        why = "more runs are going on than max_open_runs: closed as unfinished"
        return _one(self._ledger.close(first[1], now_ns, why, self._shard)) if first is not None else []


def _merged(items: Sequence[Event], closed: Sequence[tuple[int, Event]]) -> list[Event]:
    """The items with each carrier behind the item at whose turn it was made."""
    merged: list[Event] = []
    done = 0
    for place, carrier in closed:
        merged += items[done:place]
        merged.append(carrier)
        done = place
    return [*merged, *items[done:]]


def _one(event: Event | None) -> list[Event]:
    return [] if event is None else [event]


@asynccontextmanager
async def build(config: RunLedgerConfig, context: Context) -> AsyncIterator[RunLedger]:
    yield RunLedger(config, context)


SPEC = ProcessorSpec("run_ledger", RunLedgerConfig, build, frozenset({Signal.EVENTS}))
