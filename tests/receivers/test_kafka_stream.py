"""A stream's reader gives the same bytes, whatever it keeps them in."""

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receivers.kafka_stream import Pieces

STEPS = st.lists(st.binary(min_size=1, max_size=9) | st.integers(0, 12), max_size=30)


async def played(steps: list[bytes | int], buffer: Any) -> list[bytes]:
    """What a reader gives that is fed the bytes and asked for so many; at its end for more than there is."""
    reader = asyncio.StreamReader(limit=4)
    if buffer is not None:
        reader._buffer = buffer  # type: ignore[attr-defined]
    given: list[bytes] = []
    waiting = 0
    for step in steps:
        if isinstance(step, bytes):
            reader.feed_data(step)
            waiting += len(step)
        elif step <= waiting:
            given.append(await reader.readexactly(step))
            waiting -= step
    asked = asyncio.ensure_future(reader.readexactly(waiting + 5))
    for piece in (b"ab", b"cde"):
        await asyncio.sleep(0)
        reader.feed_data(piece)
    given.append(await asked)
    reader.feed_data(b"xyz")
    reader.feed_eof()
    with pytest.raises(asyncio.IncompleteReadError) as error:
        await reader.readexactly(4)
    assert reader.at_eof()
    return [*given, error.value.partial]


@given(STEPS)
def test_a_reader_with_pieces_gives_what_a_reader_gives(steps: list[bytes | int]) -> None:
    assert asyncio.run(played(steps, Pieces())) == asyncio.run(played(steps, None))


def test_only_the_first_bytes_are_asked_for() -> None:
    pieces = Pieces()
    pieces.extend(b"abc")
    with pytest.raises(NotImplementedError, match="first"):
        pieces[1:2]
