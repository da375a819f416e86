"""Events with their outcomes as bytes, and back: what the workers of a cluster tell the owner of `whole`.

A record holds events of some hundred, in order. Of an event goes along what components behind `run_ledger` and
`enrichment` read: outcomes, times, level, run facts; not Dagster's bytes, nor what only traces and logs show (texts,
details, `InnerEnded`). What came of it counts as read from where the event was read first (`source`, `offset`).

Events without outcomes are log records to be counted: they travel as type, level and time, behind the others. Each
event gets an id made of the record's bytes and its place in them, in the headers that the `redelivery` processor
reads: a record that was sent again is the same bytes.
"""

from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b
from typing import Any, Final

import msgspec

from pipeline.errors import DecodeError
from pipeline.events import CheckResult, Event
from pipeline.facts import RunFacts
from pipeline.log_levels import waited_in_vain
from pipeline.outcomes import InnerEnded, Outcome

VERSION: Final = 1
MOST_EVENTS: Final = 250
MOST_BYTES: Final = 256 << 10
"""A record is closed when it has so many events or so many bytes."""
LARGE_EVENT: Final = 512 << 10
"""An event that takes more has its longest texts cut."""
CUT_TO: Final = 4096
CUT: Final = " [cut]"
INSTANCE: Final = ("dagtel-instance", b"outcomes")
STORAGE_ID: Final = "dagtel-storage-id"


class _Full(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An event with outcomes. `source` and `run` are places in the record's tables, -1: none."""

    type: str
    run_id: str
    at_ns: int
    now_ns: int
    level: int
    job: str
    step_key: str
    source: int
    offset: int
    attempt: int
    assets: tuple[str, ...]
    outcomes: tuple[Outcome, ...]
    run: int
    ours: bool
    check: CheckResult | None


class _Thin(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An event without outcomes. `message` only where the level depends on it."""

    type: str
    level: int
    now_ns: int
    message: str


class _Record(msgspec.Struct, frozen=True, array_like=True):
    version: int
    sources: tuple[str, ...]
    runs: tuple[RunFacts, ...]
    full: tuple[_Full, ...]
    thin: tuple[_Thin, ...]


class _Version(msgspec.Struct, frozen=True, array_like=True):
    version: int


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Record).decode
_version = msgspec.msgpack.Decoder(_Version).decode


def encode_events(events: Iterable[Event]) -> Iterator[tuple[bytes, int]]:
    """Records, and the time of the last event in each (Unix ns). Pure: the same events give the same bytes."""
    sheet = _Sheet()
    for event in events:
        sheet.add(event)
        if sheet.count >= MOST_EVENTS or sheet.size >= MOST_BYTES:
            yield sheet.record(), sheet.now_ns
            sheet = _Sheet()
    if sheet.count:
        yield sheet.record(), sheet.now_ns


class _Sheet:
    """One record in the making."""

    def __init__(self) -> None:
        self.count = self.size = self.now_ns = 0
        self._sources: dict[str, int] = {}
        self._runs: list[RunFacts] = []
        self._places: dict[int, int] = {}
        self._full: list[msgspec.Raw] = []
        self._thin: list[_Thin] = []

    def add(self, event: Event) -> None:
        self.count += 1
        self.now_ns = max(self.now_ns, event.now_ns)
        outcomes = event.outcomes
        if outcomes and InnerEnded in map(type, outcomes):
            outcomes = tuple(outcome for outcome in outcomes if not isinstance(outcome, InnerEnded))
        if not outcomes and event.raw and event.detail.__class__ is not CheckResult:
            message = event.message[:CUT_TO] if event.level == 40 and waited_in_vain(event) else ""
            self._thin.append(_Thin(event.type, event.level, event.now_ns, message))
            self.size += 32 + len(message)
            return
        data = _encode(self._filled(event, outcomes))
        if len(data) > LARGE_EVENT:
            data = _encode(shortened(msgspec.msgpack.decode(data)))
        self._full.append(msgspec.Raw(data))
        self.size += len(data)

    def _filled(self, event: Event, outcomes: tuple[Outcome, ...]) -> _Full:
        check = event.detail if isinstance(event.detail, CheckResult) else None
        return _Full(
            event.type,
            event.run_id,
            event.at_ns,
            event.now_ns,
            event.level,
            event.job,
            event.step_key,
            self._sources.setdefault(event.source, len(self._sources)),
            event.offset,
            event.attempt,
            event.assets,
            outcomes,
            self._run(event.run),
            not event.raw,
            msgspec.structs.replace(check, metadata={}, description=None) if check else None,
        )

    def _run(self, run: RunFacts | None) -> int:
        """The run's place in the table: one object a run, as `enrichment` gives it."""
        if run is None:
            return -1
        place = self._places.get(id(run))
        if place is None:
            place = self._places[id(run)] = len(self._runs)
            self._runs.append(run)
            self.size += sum(len(k) + len(v) for k, v in run.tags.items())
        return place

    def record(self) -> bytes:
        return _encode((VERSION, list(self._sources), self._runs, self._full, self._thin))


def decode_events(data: bytes) -> list[Event]:
    """A record's events, those with outcomes first. Raises DecodeError."""
    try:
        record = _decode(data)
    except msgspec.MsgspecError as error:
        raise DecodeError(_refused(data, error)) from error
    if record.version != VERSION:
        raise DecodeError(_refused(data, None))
    first = int.from_bytes(blake2b(data, digest_size=8).digest(), "little") >> 3  # room for the places behind it
    try:
        events = [_event(wire, record) for wire in record.full]
    except IndexError as error:
        raise DecodeError("no record of outcomes: it names a run or source that is not in it") from error
    events += [_log(wire) for wire in record.thin]
    for id, event in enumerate(events, first):
        event.headers = ((STORAGE_ID, b"%d" % id), INSTANCE)
    return events


def _refused(data: bytes, error: msgspec.MsgspecError | None) -> str:
    try:
        version = _version(data).version
    except msgspec.MsgspecError:
        version = VERSION
    if version != VERSION:
        return (
            f"a record of outcomes of version {version}, this program reads {VERSION}: update all daemons of the group"
        )
    return f"no record of outcomes: {error}"


def _event(wire: _Full, record: _Record) -> Event:
    return Event(
        raw=b"" if wire.ours else b"{}",
        type=wire.type,
        run_id=wire.run_id,
        at_ns=wire.at_ns,
        level=wire.level,
        job=wire.job,
        step_key=wire.step_key,
        message="",
        detail=wire.check,
        source=record.sources[wire.source],
        offset=wire.offset,
        record_ns=wire.now_ns,
        attempt=wire.attempt,
        assets=wire.assets,
        outcomes=wire.outcomes,
        run=record.runs[wire.run] if wire.run >= 0 else None,
    )


def _log(wire: _Thin) -> Event:
    return Event(
        raw=b"{}",
        type=wire.type,
        run_id="",
        at_ns=wire.now_ns,
        level=wire.level,
        job="",
        step_key="",
        message=wire.message,
        record_ns=wire.now_ns,
    )


# Plain data of any shape (`Any`): what msgpack gives without a type.
def shortened(value: Any) -> Any:
    """Plain data with its long texts cut, and long lists (tables, frames) too."""
    if isinstance(value, str):
        return value if len(value) <= CUT_TO else value[:CUT_TO] + CUT
    if isinstance(value, dict):
        return {key: shortened(inner) for key, inner in list(value.items())[:1000]}
    if isinstance(value, Sequence) and not isinstance(value, bytes):
        return [shortened(inner) for inner in value[:1000]]
    return value
