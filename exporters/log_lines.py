"""Log records as JSON lines: the one place that knows the line's shape, for Loki, files and the console.

A line holds the fields of `LogRecord` in their order, without those that are "" or None, and the record's extra fields
after ours at the top level; never its time and code location, which each backend has a place of its own for.

How: a record is encoded whole, `at_ns` first and `code_location` and `extra` last, and what does not belong to the
line is cut off by length: 0.7 µs a record. A second, smaller Struct or a dict a record cost two to five times as much,
`encode_lines` and a split of its megabyte more than the calls that it spares.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

import msgspec

from exporters.valid_text import valid_item
from pipeline.signals import LogRecord

OURS: Final = frozenset(LogRecord.__struct_fields__) | {"time"}
"""Names that an extra field never takes."""

_encode: Final = msgspec.json.Encoder().encode
_TIME: Final = len('{"at_ns":')


def json_lines(records: Sequence[LogRecord]) -> list[str]:
    """One JSON object a record, without a line break. Text that is no Unicode (lone surrogates) is made so."""
    try:
        return _lines(records)
    except UnicodeEncodeError:
        return _lines([valid_item(record) for record in records])


def _lines(records: Sequence[LogRecord]) -> list[str]:
    lines: list[str] = []
    for record in records:  # a call for each line takes a tenth of it all
        line = _encode(record)
        start = line.index(b",", _TIME) + 1
        if record.extra:
            lines.append(_with_extra(record, line, start))
        elif record.code_location:
            lines.append(f"{{{line[start : -_tail(record.code_location)].decode()}}}")
        else:
            lines.append(f"{{{line[start:].decode()}")
    return lines


def _with_extra(record: LogRecord, line: bytes, start: int) -> str:
    extra = _encode(record.extra)
    own = line[start : -_tail(record.code_location) - len(',"extra":') - len(extra)].decode()
    if not OURS.isdisjoint(record.extra):
        extra = _encode({key: value for key, value in record.extra.items() if key not in OURS})
    return f"{{{own},{extra[1:].decode()}" if extra != b"{}" else f"{{{own}}}"


@lru_cache(maxsize=1024)
def _tail(code_location: str) -> int:
    """Bytes at a line's end that say the code location, and the bracket."""
    return len(_encode(code_location)) + len(',"code_location":}') if code_location else len("}")


_FIRST: Final = int(datetime(1, 1, 1, tzinfo=UTC).timestamp())
_LAST: Final = int(datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC).timestamp())


def rfc3339(at_ns: int) -> str:
    """`2026-11-23T06:48:00.123456789Z`; times before year 1 or after 9999 stand at that end."""
    second, rest = divmod(at_ns, 1_000_000_000)
    return f"{_to_the_second(min(max(second, _FIRST), _LAST))}.{rest:09d}Z"


@lru_cache(maxsize=4096)
def _to_the_second(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).isoformat()[:19]  # strftime does not pad the year
