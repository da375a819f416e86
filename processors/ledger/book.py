"""The runs that the ledger knows: going on, ended lately, long over. Bounded, and the same after a restart.

A run that succeeded shrinks to a tombstone at once. One that failed, was cancelled or was closed as unfinished is kept
whole for a while, as one row with its steps if they are few: its worker may still be alive and say more. Tombstones
tell a repeat, or a late word, from a new run; old ones lie many in a row (`PackedRows`).

Rows are cached for one call and the orders in memory follow the tables; when the runtime undoes a call, the tables go
back and these must too. So each call first leaves a number in a table: if it is not found again, everything is rebuilt.
New steps, and runs that are kept whole, are put at the end of a call: what is long over by then never is.
"""

from collections.abc import Iterator
from functools import lru_cache
from hashlib import blake2b

import msgspec

from pipeline.components import State, Table
from pipeline.encoded_rows import EncodedRows, encoded
from pipeline.events import Event
from pipeline.outcomes import RunStatus
from pipeline.packed_rows import TOGETHER, PackedRows
from processors.ledger.ages import Ages
from processors.ledger.assets import assets_of
from processors.ledger.order import Oldest
from processors.ledger.states import KeptRun, RunState, StepState, Tombstone

_DIGEST = 4
_FEW = 256
"""Steps that a row takes: each time its run is heard of again, all of them are read and written."""
_TO_BE_PUT = b""
"""Stands in `recent` for a run until the call's end."""
_APART = 1024
"""Tombstones that are rows of their own, those of the runs that ended last: what is still said of a run comes soon."""


class _Head(msgspec.Struct, array_like=True):
    """The first of what `KeptRun` holds."""

    tombstone: Tombstone
    apart: bool


_decode = msgspec.msgpack.Decoder(KeptRun).decode
_decode_head = msgspec.msgpack.Decoder(_Head).decode


class Rows:
    """A run and the steps of it that the present call has touched, all to be changed in place.

    `opened`: by this call, so that no step of it was known before. `new`: steps that are not in the table yet.
    `together`: the run is over and its steps, all in `steps`, are of its row.
    """

    __slots__ = ("new", "opened", "run", "steps", "together")

    def __init__(self, run: RunState, opened: bool) -> None:
        self.run, self.opened = run, opened
        self.steps: dict[str, StepState] = {}
        self.new: dict[str, StepState] = {}
        self.together = False


class Book:
    """Tables `runs`, `recent`, `ended`, `graves`, `steps`, `calls`."""

    def __init__(self, state: State, keep_ended: int, tombstones: int) -> None:
        self._keep_ended = keep_ended
        self.runs: Table[str, RunState] = state.table("runs", str, RunState, version=1)
        # Of version 1 a row was the run, and its steps were always apart: thirteen rows of a run of a dozen steps.
        self.recent: Table[str, bytes] = state.table("recent", str, bytes, 2, {1: _second_recent})
        # Of version 1 a row was the tombstone, not its encoding: 450 bytes of memory with its key, and 250 now.
        self.ended = EncodedRows(state, "ended", Tombstone, 2, {1: _second_tombstone}, at_hand=256)
        self._steps: Table[str, StepState] = state.table("steps", str, StepState, version=1)
        self._calls: Table[str, int] = state.table("calls", str, int, version=1)
        self._calls_made = self._calls.get("made") or 0
        self._quiet = Oldest(self.runs, _seen)
        self._ending = Ages(self._endings())
        self._buried = Ages(self._ages())
        packed = max(0, tombstones - _APART - TOGETHER) // TOGETHER
        self._graves = PackedRows(state, "graves", packed)
        self._packs = packed > 0
        self._apart = _APART + TOGETHER - 1 if packed else tombstones
        self.rows: dict[str, Rows] = {}

    def parts(self) -> tuple[object, ...]:
        """What the twin changes as the methods here do, and calls; the same objects always."""
        tables = (self.runs, self.recent, self._steps, self.ended.parts())
        calls = (self._keep_whole, self._put_whole, self._graves.__contains__, self._make_room, digest)
        return (tables, (self._quiet.parts(), self._buried), self.rows, self._apart, calls)

    def begin(self) -> None:
        """A call begins. What it does may be undone, so nothing cached by the last one is used any more."""
        self.check()
        self._calls_made += 1
        self._calls.put("made", self._calls_made)
        self.rows.clear()

    def done(self) -> None:
        """A call ends: all it did is in the tables from now on."""
        for run_id, rows in self.rows.items():
            if rows.run.status:
                self._put_whole(run_id, rows)
            elif rows.new:
                self._put_new(run_id, rows)

    def _put_new(self, run_id: str, rows: Rows) -> None:
        for key, step in rows.new.items():
            self._steps.put(f"{run_id}\0{key}", step)
        rows.new.clear()

    def check(self) -> None:
        """Rebuild the orders if a call was undone."""
        if (self._calls.get("made") or 0) != self._calls_made:
            self._calls_made = self._calls.get("made") or 0
            self._quiet.rebuild()
            self._ending.rebuild(self._endings())
            self._buried.rebuild(self._ages())

    # --- runs ---

    def known(self, run_id: str) -> Rows | None:
        """The run, to be changed; None when it is not known or long over."""
        rows = self.rows.get(run_id)
        if rows is None:
            run = self.runs.edit(run_id)
            if run is not None:
                rows = self.rows[run_id] = Rows(run, opened=False)
            elif (row := self.recent.get(run_id)) is not None:
                kept = _decode(row)
                rows = self.rows[run_id] = Rows(kept.run, opened=False)
                rows.steps, rows.together = kept.steps, not kept.apart
        return rows

    def open(self, event: Event) -> Rows:
        """A run not heard of before."""
        run = RunState(event.job, event.at_ns, event.at_ns, event.now_ns)
        self.runs.put(event.run_id, run)
        self._quiet.add(event.run_id, run)
        rows = self.rows[event.run_id] = Rows(run, opened=True)
        return rows

    def quietest(self) -> tuple[int, str] | None:
        """Of the runs going on, the one heard of longest ago: when (domain time), and its id."""
        return self._quiet.first()

    def forget(self, run_id: str) -> None:
        """A run that never was one."""
        rows = self.known(run_id)
        if rows is not None:
            self._drop(run_id, rows.run)
            self.runs.delete(run_id)

    def end(self, run_id: str, run: RunState, status: RunStatus, now_ns: int) -> None:
        """The run is over, or is taken to be."""
        run.status, run.seen_ns = status, now_ns
        self.runs.delete(run_id)
        if status == "success":
            self._drop(run_id, run)
            self._bury(run_id, _tombstone(run))
        else:
            self._keep_whole(run_id)

    def _keep_whole(self, run_id: str) -> None:
        """A run that is over, and whose worker may say more. If its steps are few they leave their table."""
        rows = self.rows[run_id]
        if len(rows.run.steps) <= _FEW:
            self._take_steps(run_id, rows)
        self.recent.put(run_id, _TO_BE_PUT)
        self._ending.add(rows.run.seen_ns, run_id)
        while len(self.recent) > self._keep_ended and (oldest := self._ending.take()) is not None:
            self._shrink(oldest)

    def _take_steps(self, run_id: str, rows: Rows) -> None:
        for key in rows.run.steps:
            if key not in rows.new:
                step = self._steps.edit(f"{run_id}\0{key}")  # and not `get`: it may yet be changed, and the call undone
                if step is not None:
                    rows.steps[key] = step
                    self._steps.delete(f"{run_id}\0{key}")
        rows.new.clear()
        rows.together = True

    def _put_whole(self, run_id: str, rows: Rows) -> None:
        """Put a run that is over, and not long over, and its steps."""
        kept = KeptRun(_tombstone(rows.run), not rows.together, rows.run)
        if rows.together:
            rows.new.clear()
            kept.steps = {key: rows.steps[key] for key in rows.run.steps if key in rows.steps}
        else:
            self._put_new(run_id, rows)
        row = encoded(kept)
        if row != self.recent.get(run_id):
            self.recent.put(run_id, row)

    def _shrink(self, run_id: str) -> None:
        row = self.recent.get(run_id)
        if row is None:
            return
        self.recent.delete(run_id)
        rows = self.rows.get(run_id)
        if rows is not None:
            tombstone, apart, run = _tombstone(rows.run), not rows.together, rows.run
        else:
            head = _decode_head(row)
            tombstone, apart, run = head.tombstone, head.apart, None
        if apart:
            self._drop(run_id, run or _decode(row).run)
        self.rows.pop(run_id, None)
        self._bury(run_id, tombstone)

    def _bury(self, run_id: str, tombstone: Tombstone) -> None:
        self.ended.put(run_id, tombstone)
        self._buried.add(tombstone.ended_ns, run_id)
        if len(self.ended) > self._apart:
            self._make_room()

    def _make_room(self) -> None:
        """Of the tombstones apart, the oldest are forgotten, or put together where there may be many."""
        while len(self.ended) > self._apart:
            count = TOGETHER if self._packs else 1
            oldest = [run_id for _ in range(count) if (run_id := self._buried.take()) is not None]
            rows = {run_id: row for run_id in oldest if (row := self.ended.take(run_id)) is not None}
            if self._packs and rows:
                self._graves.add(rows)
            if not oldest:
                break
        self._graves.trim()

    def tombstone(self, run_id: str) -> Tombstone | None:
        """What is left of a run that is long over."""
        known = self.ended.get(run_id)
        if known is None and (row := self._graves.get(run_id)) is not None:
            return self.ended.read(row)
        return known

    def rebury(self, run_id: str, tombstone: Tombstone) -> None:
        """More is known of a run that is long over."""
        if run_id in self.ended:
            self.ended.put(run_id, tombstone)
        else:
            self._bury(run_id, tombstone)

    def _endings(self) -> Iterator[tuple[int, str]]:
        return ((_decode_head(row).tombstone.ended_ns, run_id) for run_id, row in self.recent.items())

    def _ages(self) -> Iterator[tuple[int, str]]:
        return ((tombstone.ended_ns, run_id) for run_id, tombstone in self.ended.items())

    # --- steps ---

    def step(self, run_id: str, rows: Rows, key: str) -> StepState:
        """The step, to be changed; made if it is new."""
        step = rows.steps.get(key)
        if step is None:
            step = None if rows.opened else self._steps.edit(f"{run_id}\0{key}")
            if step is None:
                step = StepState(assets=assets_of(rows.run, key))
                rows.run.steps.append(key)
                rows.new[key] = step
            rows.steps[key] = step
        return step

    def begun(self, run_id: str, key: str) -> bool:
        """Whether an attempt of the step has begun."""
        rows = self.rows.get(run_id)
        step = rows.steps.get(key) if rows is not None else None
        if step is None:
            step = self._steps.get(f"{run_id}\0{key}")
        return step is not None and step.attempt > 0

    def open_steps(self, run_id: str, rows: Rows) -> list[tuple[str, StepState]]:
        """Steps of the run with an attempt under way, to be changed."""
        at_hand, found = rows.steps, []
        for key in rows.run.steps:
            step = at_hand[key] if key in at_hand else self._steps.get(f"{run_id}\0{key}")
            if step is not None and step.open:
                found.append((key, self.step(run_id, rows, key)))
        return found

    def replan(self, run_id: str, rows: Rows) -> None:
        """Something was planned after steps had been heard of."""
        for key in rows.run.steps:
            step = self.step(run_id, rows, key)
            step.assets = tuple(dict.fromkeys((*step.assets, *assets_of(rows.run, key))))

    def _drop(self, run_id: str, run: RunState) -> None:
        rows = self.rows.pop(run_id, None)
        stored = run.steps if rows is None or not rows.new else [key for key in run.steps if key not in rows.new]
        for key in stored:
            self._steps.delete(f"{run_id}\0{key}")


@lru_cache(maxsize=4096)
def digest(asset: str) -> bytes:
    """Four bytes that stand for an asset key in a tombstone."""
    return blake2b(asset.encode(), digest_size=_DIGEST).digest()


def _tombstone(run: RunState) -> Tombstone:
    counted = b"".join([digest(asset) for asset, state in run.assets.items() if state.made or state.failed])
    started_ns = run.first_ns if run.started_ns is None else run.started_ns
    return Tombstone(
        run.status or "unfinished", run.job, run.seen_ns, started_ns,
        run.enqueued_ns, run.starting_ns, run.raised, counted,
    )  # fmt: skip


def was_counted(tombstone: Tombstone, asset: str) -> bool:
    """Whether the asset counts as executed in that run already."""
    wanted, counted = digest(asset), tombstone.counted
    at = counted.find(wanted)
    while at >= 0 and at % _DIGEST:
        at = counted.find(wanted, at + 1)
    return at >= 0


def _seen(run: RunState) -> int:
    return run.seen_ns


def _second_recent(plain: object) -> object:
    """Version 1 was the run alone."""
    run = msgspec.convert(plain, RunState)
    return encoded(KeptRun(_tombstone(run), True, run))


def _second_tombstone(plain: object) -> object:
    """Version 1 had names, and left out what was as usual."""
    if not isinstance(plain, dict):
        return plain
    values = {"raised": False, "counted": b"", **plain}
    return encoded(msgspec.convert([values.get(name) for name in Tombstone.__struct_fields__], Tombstone))
