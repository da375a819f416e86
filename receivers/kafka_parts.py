"""The records in an answer of a broker's, where they lie, and not as a copy of megabytes.

aiokafka 0.14 reads an answer's fields one by one, the records of a partition among them as `bytes` of their own: of all
that is fetched a copy that is of no use, for an answer is kept as long as its records are read. There is no public way
around it; so the field for records in its schemas of answers is one that gives a `Part`. A version whose schemas are
others goes on as it does.
"""

from io import BytesIO
from typing import Any, Final

import msgspec
from aiokafka.protocol import fetch, types

FIELD: Final = "message_set"


class Part(msgspec.Struct, frozen=True, gc=False):
    """The bytes from `start` to before `stop`."""

    whole: bytes
    start: int
    stop: int

    def __bytes__(self) -> bytes:
        return self.whole[self.start : self.stop]

    def __len__(self) -> int:
        return self.stop - self.start


class _Parts(types.Bytes):  # type: ignore[misc]  # aiokafka has no types
    """aiokafka's nullable bytes, left where they are. `getvalue` of a stream that only reads gives its own bytes."""

    @classmethod
    def decode(cls, data: BytesIO) -> Part | None:
        length = types.Int32.decode(data)
        if length < 0:
            return None
        whole, start = data.getvalue(), data.tell()
        if start + length > len(whole):
            raise ValueError("Buffer underrun decoding Bytes")
        data.seek(length, 1)
        return Part(whole, start, start + length)

    @classmethod
    def repr(cls, value: Part | None) -> str:
        return "None" if value is None else f"<{len(value)} bytes>"


def leave_records_in_place(fetcher: Any, reads: type) -> None:
    """From now on all answers to fetches hold `Part`s, and aiokafka's module `fetcher` reads them with `reads`."""
    fetcher.MemoryRecords = reads
    for answer in vars(fetch).values():
        if isinstance(schema := getattr(answer, "SCHEMA", None), types.Schema):
            _mend(schema)


def _mend(schema: Any) -> None:
    fields = zip(schema.names, schema.fields, strict=True)
    schema.fields = tuple(_Parts if name == FIELD and kind is types.Bytes else kind for name, kind in fields)
    for kind in schema.fields:
        if isinstance(kind, types.Array) and isinstance(kind.array_of, types.Schema):
            _mend(kind.array_of)
