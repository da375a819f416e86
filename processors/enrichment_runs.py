"""What is known of runs: from the bridge's header, from the run's first event, from Dagster's storage.

A row of state a run, so that a restart knows the same. Of runs that have ended, the last `ENDED` are remembered: little
is said of them, and mostly at once. Of those that go on `limit`, and the one seen first goes first. Both orders are
numbers in tables, so what is forgotten does not depend on batches, restarts or calls that are undone. The header is
parsed when a run is first seen and when its bytes differ from the last ones: launchers and Dagster add tags later.
"""

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from pipeline.components import State, Table
from pipeline.encoded_rows import EncodedRows, encoded
from pipeline.errors import DecodeError
from pipeline.events import Event, RunQueued
from pipeline.facts import RunFacts
from pipeline.run_rows import RunRow, decode_header

ENDS: Final = frozenset({"PIPELINE_SUCCESS", "PIPELINE_FAILURE", "PIPELINE_CANCELED"})
ENDED: Final = 1000
"""Runs that have ended, of which is known what it was; fewer where the limit is less."""
_NEWEST: Final = "newest"
_FIRST: Final = "first"
_LEFT: Final = "left"
_SLACK: Final = 1000


class KnownRun(msgspec.Struct, frozen=True, array_like=True):
    """One run. `header` is the one that `facts` come from, `wanted`: its row is to be asked for."""

    facts: RunFacts
    header: bytes
    wanted: bool


class KnownRuns:
    """The runs of one shard. `asks`: runs without a header are looked up in Dagster's storage."""

    def __init__(self, state: State, limit: int, *, asks: bool) -> None:
        self._runs = EncodedRows(state, "runs", KnownRun, 2, {1: encoded})  # in version 1 values were not encoded
        self._ages: Table[int, str] = state.table("ages", int, str, version=1)  # of runs that go on
        self._ended: Table[int, str] = state.table("ended", int, str, version=1)
        self._counts: Table[str, int] = state.table("counts", str, int, version=1)
        self._limit, self._asks = limit, asks
        self.forgotten = 0
        """How often a run was forgotten that this call had asked for."""
        self._asked: set[str] = set()
        self._numbers: dict[str, int] = {}
        """The number that each run got last. It goes on if that is still its own: who leaves is not taken out here."""
        self._renumber()
        # Only a hint of what to ask for: what an undone call left here is asked for in vain, and nothing else.
        self._wanted = dict.fromkeys(run_id for run_id, run in self._runs.items() if run.wanted)

    def begin(self) -> None:
        """A call begins."""
        self._asked.clear()
        if len(self._numbers) > 2 * len(self._ages) + _SLACK:
            self._renumber()

    def facts(self, event: Event, header: bytes) -> RunFacts | None:
        """What is known of the event's run; one object for all its events until something new is known. To be asked
        with each run's first event of a call, with each header that differs, and with the run's end."""
        self._asked.add(event.run_id)
        known = self._runs.get(event.run_id)
        if header and (known is None or known.header != header):
            known = self._put(event.run_id, _from_header(header, known), header, wanted=False)
        if isinstance(event.detail, RunQueued):
            known = self._queued(event.run_id, known, event.detail)
        if self._asks and not header and (known is None or event.type in ENDS):
            known = self._want(event.run_id, known)
        if event.type in ENDS:
            self._end(event.run_id)
        return None if known is None or known.facts == _NOTHING else known.facts

    def wanted(self, most: int) -> list[str]:
        """Runs to ask Dagster's storage for, the longest wanted first."""
        return [run_id for run_id, _ in zip(self._wanted, range(most), strict=False)]

    def answered(self, asked: Iterable[str], rows: Mapping[str, RunRow]) -> None:
        """The storage's answer; a run without a row is not asked for again."""
        for run_id in asked:
            self._wanted.pop(run_id, None)
            known = self._runs.get(run_id)
            if known is not None and known.wanted:
                row = rows.get(run_id)
                facts = known.facts if row is None else _joined(row.facts(), known.facts)
                self._put(run_id, facts, known.header, wanted=False)

    def _queued(self, run_id: str, known: KnownRun | None, told: RunQueued) -> KnownRun | None:
        if not told.code_location and told.partition is None:
            return known  # before Dagster 1.10 the event says nothing
        before = known.facts if known else RunFacts()
        facts = _joined(before, RunFacts(code_location=told.code_location, partition=told.partition))
        if facts == before:
            return known
        return self._put(run_id, facts, known.header if known else b"", wanted=bool(known and known.wanted))

    def _want(self, run_id: str, known: KnownRun | None) -> KnownRun:
        self._wanted[run_id] = None
        return self._put(run_id, known.facts if known else _NOTHING, known.header if known else b"", wanted=True)

    def _put(self, run_id: str, facts: RunFacts, header: bytes, *, wanted: bool) -> KnownRun:
        if run_id not in self._runs:
            self._number(run_id)
        known = KnownRun(facts, header, wanted)
        self._runs.put(run_id, known)
        return known

    def _number(self, run_id: str) -> None:
        """Give a new run its number, and forget the run that has to make room for it."""
        number = self._numbers[run_id] = self._next(_NEWEST)
        self._ages.put(number, run_id)
        while len(self._ages) > self._limit:
            first = self._first()
            self._forget(self._ages.get(first))
            self._ages.delete(first)
            self._go_on_from(first)

    def _end(self, run_id: str) -> None:
        """It goes on no more, and is forgotten when so many others have ended."""
        number = self._numbers.get(run_id)
        if number is None or self._ages.get(number) != run_id:
            return
        first = self._first()
        self._ages.delete(number)
        if number == first:
            self._go_on_from(first)
        left = self._next(_LEFT)
        self._ended.put(left, run_id)
        while (count := len(self._ended)) > min(self._limit, ENDED):
            longest_ago = left - count + 1
            self._forget(self._ended.get(longest_ago))
            self._ended.delete(longest_ago)

    def _first(self) -> int:
        """The number of the run that was seen first, of those that go on."""
        first = self._counts.get(_FIRST)
        if first is None:  # an older version did not keep it
            first = min((number for number, _ in self._ages.items()), default=1)
            self._counts.put(_FIRST, first)
        return first

    def _go_on_from(self, first: int) -> None:
        """That run is not there any more: the next one is the first."""
        newest = self._counts.get(_NEWEST) or 0
        while first <= newest and self._ages.get(first) is None:
            first += 1
        self._counts.put(_FIRST, first)

    def _next(self, name: str) -> int:
        number = (self._counts.get(name) or 0) + 1
        self._counts.put(name, number)
        return number

    def _renumber(self) -> None:
        self._numbers = {run_id: number for number, run_id in self._ages.items()}

    def _forget(self, run_id: str | None) -> None:
        if run_id is not None:
            self._runs.delete(run_id)
            self._wanted.pop(run_id, None)
            self.forgotten += run_id in self._asked


_NOTHING: Final = RunFacts()


def _from_header(header: bytes, known: KnownRun | None) -> RunFacts:
    """The header's facts; where it does not say, or is none, what was known holds."""
    before = known.facts if known else RunFacts()
    try:
        return _joined(decode_header(header).facts(), before)
    except DecodeError:
        return before


def _joined(first: RunFacts, second: RunFacts) -> RunFacts:
    """`first`, and what only `second` says."""
    return RunFacts(
        tags=first.tags or second.tags,
        code_location=first.code_location or second.code_location,
        partition=second.partition if first.partition is None else first.partition,
        backfill=first.backfill or second.backfill,
        parent_run_id=first.parent_run_id or second.parent_run_id,
        root_run_id=first.root_run_id or second.root_run_id,
    )
