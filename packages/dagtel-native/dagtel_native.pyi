"""Compiled twins of dagtel's hottest functions; each says `None` to what it leaves to its Python function."""

from collections.abc import Callable, Mapping, Sequence, Set
from types import ModuleType

from pipeline.events import Detail, Event
from pipeline.facts import Metadata, RunFacts
from pipeline.outcomes import AssetMaterialized
from pipeline.signals import LogRecord

VERSION: str

class EventDecoder:
    def __init__(
        self,
        kinds: ModuleType,
        known: Mapping[str, tuple[str, bool, str, Callable[..., Detail | None] | None]],
        payloads: Mapping[str, str],
        read: Callable[[Callable[..., Detail | None], bytes], Detail | None],
        log: Callable[[str, bytes], tuple[str, Detail | None]],
        value: Callable[[bytes], object],
        mark: str,
    ) -> None: ...
    def decode(
        self, raw: bytes, source: str, offset: int, record_ns: int, headers: tuple[tuple[str, bytes], ...]
    ) -> Event | None: ...

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
        is_slow: Callable[[AssetMaterialized], bool],
        learn: Callable[[AssetMaterialized], None],
    ) -> None: ...
    def process(self, events: Sequence[Event], rest: Callable[[Event, list[LogRecord]], None]) -> list[LogRecord]: ...

class Needles:
    def __init__(
        self, record: type[LogRecord], exact: Sequence[str], folded: Sequence[str], names: Set[str]
    ) -> None: ...
    def suspicious(self, text: str) -> bool: ...
    def suspects(self, records: Sequence[object]) -> list[int] | None: ...
