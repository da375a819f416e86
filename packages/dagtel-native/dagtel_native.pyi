"""Compiled twins of dagtel's hottest functions; each says `None` to what it leaves to its Python function."""

from collections.abc import Callable, Mapping, Sequence, Set
from types import ModuleType
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from pipeline.components import Table
from pipeline.events import CheckResult, Detail, Event
from pipeline.facts import Metadata, RunFacts
from pipeline.lineage import AssetFacts, Catalog
from pipeline.outcomes import AssetMaterialized, CheckEvaluated, Outcome
from pipeline.signals import Labels, LogRecord, Span

T = TypeVar("T")
R = TypeVar("R")
K = TypeVar("K")
V = TypeVar("V")

VERSION: str

def arenas_in_huge_pages() -> bool: ...

class Filling:
    def __init__(self, size: int) -> None: ...
    def __len__(self) -> int: ...
    def taken(self) -> bytes: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...

class RecordBytes:
    def __init__(self, raw: bytes, headers: tuple[tuple[str, bytes], ...]) -> None: ...
    @property
    def raw(self) -> bytes: ...
    @property
    def headers(self) -> tuple[tuple[str, bytes], ...]: ...

class KeptBytes:
    def __init__(self, event: type[Event]) -> None: ...
    def take_out(self, events: list[Any]) -> int: ...

class RecordReader(Generic[T]):
    def __init__(self, kind: type[T]) -> None: ...
    def is_whole(self, answer: bytes, start: int) -> bool | None: ...
    def records(self, answer: bytes, start: int) -> Records[T] | None: ...

class Records(Sequence[T]):
    def __len__(self) -> int: ...
    def __getitem__(self, at: int) -> T: ...  # type: ignore[override]
    def ends(self) -> tuple[int, int] | None: ...
    @staticmethod
    def pieces(all: Sequence[Records[T]], most: int) -> list[Records[T]] | None: ...

class EventDecoder:
    def __init__(
        self,
        record: type[Any],
        kinds: ModuleType,
        known: Mapping[str, tuple[str, bool, str, Callable[..., Detail | None] | None]],
        payloads: Mapping[str, str],
        read: Callable[[Callable[..., Detail | None], bytes], Detail | None],
        log: Callable[[str, bytes], tuple[str, Detail | None]],
        value: Callable[[bytes], object],
        frame: Callable[[str], tuple[str, int, str, bool] | None],
        mark: str,
    ) -> None: ...
    def decode(
        self, raw: bytes, source: str, offset: int, record_ns: int, headers: tuple[tuple[str, bytes], ...]
    ) -> Event | None: ...
    def decode_all(self, records: Sequence[Any], source: str) -> tuple[list[Event | None], int, int] | None: ...

class EventIds:
    def __init__(
        self,
        event: type[Event],
        stored: str,
        instance: str,
        digits: int,
        digest: Callable[[bytes, str], int],
        most: int,
    ) -> None: ...
    def of(self, events: Sequence[Event], rest: Callable[[Event], int]) -> list[int]: ...

class IdChunks:
    def __init__(self, most: int, largest: int, stored: Mapping[int, bytes]) -> None: ...
    def __len__(self) -> int: ...
    def take_new(self, ids: Sequence[int]) -> bool: ...
    def take(self, ids: Sequence[int]) -> set[int]: ...
    def take_changed(self) -> list[tuple[int, bytes]]: ...
    def strike_beyond(self, least: int) -> list[int]: ...

class KnownRuns(Protocol):
    forgotten: int
    def facts(self, event: Event, header: bytes) -> RunFacts | None: ...

class Enricher:
    def __init__(self, kinds: ModuleType, header: str, ends: Sequence[str]) -> None: ...
    def enrich(self, events: Sequence[Event], catalog: Catalog | None, runs: KnownRuns, headers: bool) -> int: ...

class Stamps:
    def __init__(self, event: type[Event]) -> None: ...
    def stamp(self, items: Sequence[object], now_ns: int, ahead_ns: int, by_event: bool) -> tuple[int, int]: ...

class TableRows(Generic[K, V]):
    marks: ClassVar[tuple[object, object, Callable[[object], bytes], type[Any]]]
    _rows: dict[K, V]
    _dirty: dict[K, object]
    _born: set[K]
    _undo: dict[K, object]
    def __init__(self) -> None: ...
    def put(self, key: K, value: V, /) -> None: ...
    def edit(self, key: K, /) -> V | None: ...
    def delete(self, key: K, /) -> None: ...
    def __contains__(self, key: object, /) -> bool: ...
    def __len__(self) -> int: ...

class LedgerTwin:
    def __init__(
        self,
        events: ModuleType,
        outcomes: ModuleType,
        states: ModuleType,
        rows: type[R],
        in_run: Set[str],
        in_step: Set[str],
        heralds: Set[str],
        idle: Set[str],
        book: tuple[object, ...],
    ) -> None: ...
    def take_all(self, events: Sequence[Event], room: int, rest: Callable[[int, Event], None]) -> int: ...

class OtlpSpans:
    def __init__(self, kinds: ModuleType, scope: str) -> None: ...
    def request(self, spans: Sequence[Span]) -> bytes | None: ...

class EndedRuns(Protocol):
    def __contains__(self, run: object, /) -> bool: ...
    def __len__(self) -> int: ...

class SpanMaker:
    def __init__(
        self,
        event: type[Event],
        asset: type[AssetFacts],
        shapes: ModuleType,
        silent: Sequence[type[Outcome]],
        waiting: type[Any],
        open_run: type[Any],
        runs: Table[str, Any],
        ended: EndedRuns,
        resource: Callable[[str], Labels],
        trace_id: Callable[[str], str],
        run_url: str,
        run_tags: bool,
        most_events: int,
        most_inner: int,
        most_stack: int,
    ) -> None: ...
    def process(
        self,
        events: Sequence[Event],
        rest: Callable[[Outcome, Event, list[Span]], None],
        bury: Callable[[str, int], None],
    ) -> list[Span]: ...

class LokiPush:
    def __init__(
        self, record: type[LogRecord], labels: Sequence[str], metadata: Sequence[str], max_line: int, max_body: int
    ) -> None: ...
    def build(
        self,
        records: Sequence[LogRecord],
        late_ns: int,
        line: Callable[[LogRecord], str],
        head: Callable[[LogRecord, bool], bytes],
    ) -> list[tuple[bytes, int]] | None: ...

class SlowTwin:
    def __init__(
        self,
        outcomes: ModuleType,
        get: Callable[[str], tuple[float, ...] | None],
        put: Callable[[str, tuple[float, ...]], None],
        is_slow: Callable[[AssetMaterialized], bool],
        learn: Callable[[AssetMaterialized], None],
        factor: float,
        excess_ns: int,
        at_least: int,
        history: int,
    ) -> None: ...

class LogRecords:
    def __init__(
        self,
        events: ModuleType,
        outcomes: ModuleType,
        record: type[LogRecord],
        run: type[RunFacts],
        statuses: Mapping[str, str],
        levels: Mapping[str, str],
        no_extra: Metadata,
        place: str,
        ids: Callable[[str, str, int], tuple[str, str]],
        most_ids: int,
        slow: SlowTwin,
    ) -> None: ...
    def process(self, events: Sequence[Event], rest: Callable[[Event, list[LogRecord]], None]) -> list[LogRecord]: ...

class Needles:
    def __init__(
        self, record: type[LogRecord], exact: Sequence[str], folded: Sequence[str], names: Set[str]
    ) -> None: ...
    def suspicious(self, text: str) -> bool: ...
    def suspects(self, records: Sequence[object]) -> list[int] | None: ...

class AlertSelection:
    def __init__(self, events: ModuleType, facts: ModuleType, outcomes: ModuleType) -> None: ...
    def process(
        self,
        events: Sequence[Event],
        failing: Table[str, int],
        parts: Table[tuple[str, str], Any] | None,
        waiting: Table[str, Any],
        edges: Table[str, tuple[str, ...]] | None,
        said: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]],
        fresh: dict[str, int],
        rest: Callable[[Event, list[Any]], None],
    ) -> list[Any]: ...

class MetricTally:
    def __init__(
        self,
        events: ModuleType,
        outcomes: ModuleType,
        latest: type[Any],
        rows: Sequence[tuple[str, Sequence[str]]],
        written: Sequence[str],
        values: Sequence[str],
        checks: Sequence[str],
        label: Callable[[str], str],
        rate: Callable[[CheckEvaluated], float],
    ) -> None: ...
    def take(self, events: Sequence[Event], tally: Any, rest: Callable[[Event], Any]) -> None: ...

class LevelCounter:
    def __init__(
        self, event: type[Event], check: type[CheckResult], by_type: Mapping[str, str], level: Callable[[Event], str]
    ) -> None: ...
    def count(self, events: Sequence[Event]) -> list[tuple[str, int]]: ...
