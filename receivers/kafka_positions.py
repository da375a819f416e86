"""Whether a partition is still the one that was read, and where reading goes on. Pure: no broker, no clock.

A stored position names the record that was read last: offset, timestamp and a CRC of key and value. Three things can
have happened since, and none may pass silently:

- lost: the oldest record there is younger than the next one wanted, so some were never read;
- made anew: the partition ends before the position, or the last record is still there and is another one;
- nothing: the last record is the same, or expired or compacted away, which is fine.

The last record is normally at `next - 1`; where transaction markers or compacted records follow it, its offset stands
in the position's note.
"""

from zlib import crc32

import msgspec

from pipeline.components import Position
from pipeline.errors import PermanentError
from receivers.kafka_options import OnLost, OnRecreated


class Start(msgspec.Struct, frozen=True):
    """Where to go on: `position` is in force, and reading begins at `fetch`.

    `check` is the offset of the record read last where it is to be compared (then `fetch` is the same), else None.
    """

    position: Position
    fetch: int
    check: int | None = None


def begin_at(offset: int) -> Start:
    """Reading begins at `offset`; there is nothing to compare."""
    return Start(Position(offset), offset)


def fingerprint(key: bytes | None, value: bytes | None) -> int:
    """CRC-32 of a record's key and value."""
    return crc32(value or b"", crc32(key or b""))


def position_after(next_offset: int, last_offset: int, at_ns: int, crc: int) -> Position:
    """The position behind the record at `last_offset`."""
    note = b"" if last_offset == next_offset - 1 else str(last_offset).encode()
    return Position(next_offset, at_ns, crc, note)


def moved(position: Position, next_offset: int) -> Position:
    """The position once markers up to before `next_offset` were skipped; the record read last stays the same."""
    last = last_offset(position)
    return Position(next_offset) if last is None else position_after(next_offset, last, position.at_ns, position.crc)


def last_offset(position: Position) -> int | None:
    """The offset of the record read last; None where none was read."""
    if position.note:
        return int(position.note)
    return position.next - 1 if position.crc or position.at_ns else None


def go_on(source: str, stored: Position, begin: int, end: int, on_lost: OnLost) -> Start:
    """Where to go on in a partition that holds the offsets from `begin` to before `end`.

    An end before the position is not believed yet: the answer to a fetch tells it for sure (see `Partition`), and
    Tansu 0.6 gives the last batch's first offset for an end. Raises PermanentError when records are lost.
    """
    if begin > stored.next:
        return _lost(source, stored, begin, end, on_lost)
    last = last_offset(stored)
    if last is None or last < begin:
        return Start(stored, stored.next)
    return Start(stored, last, last)


def overtaken(
    source: str, position: Position, begin: int, end: int, on_lost: OnLost, on_recreated: OnRecreated
) -> Start:
    """Where to go on once a fetch was told that there is no such offset. Raises PermanentError."""
    if end < position.next:
        return shorter(source, position, begin, end, on_recreated)
    return go_on(source, position, begin, end, on_lost)


def shorter(source: str, position: Position, begin: int, end: int, on_recreated: OnRecreated) -> Start:
    """The partition ends before the position: it is another one. Raises PermanentError unless that is accepted."""
    return anew(source, f"it ends at offset {end}, and {position.next} is the next to be read", begin, on_recreated)


def anew(source: str, why: str, begin: int, on_recreated: OnRecreated) -> Start:
    """The beginning of a partition that was made anew, if that is accepted. Raises PermanentError if not."""
    if on_recreated == "fail":
        raise PermanentError(
            f"{source} is not the partition that was read: {why}. The topic was deleted and made anew, or the broker "
            "lost its end. Set `on_recreated: accept` to read what is there now from its beginning."
        )
    return begin_at(begin)


def _lost(source: str, stored: Position, begin: int, end: int, on_lost: OnLost) -> Start:
    if on_lost == "fail":
        raise PermanentError(
            f"{source} has lost records that were not read yet: {stored.next} is the next, {begin} is the oldest left "
            f"({begin - stored.next} are gone). Set `on_lost: earliest` to go on with the oldest, or `on_lost: latest` "
            "to go on with what comes; and keep records longer (`retention.ms`)."
        )
    return begin_at(begin if on_lost == "earliest" else end)
