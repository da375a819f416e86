"""A stream's reader gives the same bytes, whatever it keeps them in, and whoever cuts them into frames."""

import asyncio
from typing import Any

import pytest
from aiokafka import conn
from hypothesis import given
from hypothesis import strategies as st

from receivers import kafka_stream
from receivers.kafka_stream import Frames, Pieces, receive_frames

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


SMALL, MOST = 10, 30
CUTS = st.lists(st.integers(1, 25), min_size=1, max_size=20)


def behind_their_lengths(frames: list[bytes]) -> list[bytes]:
    return [part for frame in frames for part in (len(frame).to_bytes(4, "big"), frame)]


def cut(stream: bytes, cuts: list[int]) -> list[bytes]:
    """What is fed of a stream that comes in such pieces."""
    given: list[bytes] = []
    frames = Frames(given.append, SMALL, MOST)
    while stream:
        for most in cuts:
            room = frames.room()
            assert len(room) > 0
            came, stream = stream[: min(most, len(room))], stream[min(most, len(room)) :]
            room[: len(came)] = came
            frames.came(len(came))
    return given


@given(st.lists(st.binary(max_size=MOST), max_size=8), CUTS)
def test_each_frame_is_fed_whole_behind_its_length(frames: list[bytes], cuts: list[int]) -> None:
    parts = behind_their_lengths(frames)
    assert [part for part in cut(b"".join(parts), cuts) if part] == [part for part in parts if part]


@given(st.lists(st.binary(max_size=3 * MOST), max_size=8), CUTS)
def test_frames_that_are_too_large_are_fed_as_they_come(frames: list[bytes], cuts: list[int]) -> None:
    parts = behind_their_lengths(frames)
    fed = cut(b"".join(parts), cuts)
    assert b"".join(fed) == b"".join(parts)
    assert all(part in fed for part in parts if 0 < len(part) <= MOST)


@given(st.lists(st.binary(max_size=MOST), max_size=3), st.binary(min_size=3, max_size=99), CUTS)
def test_behind_what_is_no_length_all_is_fed_as_it_comes(frames: list[bytes], rest: bytes, cuts: list[int]) -> None:
    stream = b"".join(behind_their_lengths(frames)) + b"\xff" + rest
    assert b"".join(cut(stream, cuts)) == stream


def test_a_frame_is_whole_though_somebody_holds_the_room_that_it_came_in() -> None:
    given: list[bytes] = []
    frames = Frames(given.append, SMALL, MOST)
    frames.room()[:6] = b"\0\0\0\x14ab"
    frames.came(6)
    held = memoryview(frames.room())
    held[:9] = b"cdefghijk"
    frames.came(9)
    room = memoryview(frames.room())
    room[:] = b"lmnopqrst"
    frames.came(9)
    assert given == [b"\0\0\0\x14", b"abcdefghijklmnopqrst"]


async def connected(frames: list[bytes], lazy_s: float) -> tuple[list[bytes], int]:
    """What aiokafka's protocol has its reader give of such frames; how many bytes waited for one who came late."""

    async def send(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"".join(behind_their_lengths(frames)))
        await writer.drain()
        writer.close()

    receive_frames()
    loop = asyncio.get_running_loop()
    async with await asyncio.start_server(send, "127.0.0.1", 0) as server:
        reader = asyncio.StreamReader(loop=loop)
        protocol = conn.AIOKafkaProtocol(loop.create_future(), reader, loop=loop)
        transport, _ = await loop.create_connection(lambda: protocol, *server.sockets[0].getsockname())
        await asyncio.sleep(lazy_s)
        waited = len(reader._buffer)  # type: ignore[attr-defined]
        found = [await reader.readexactly(int.from_bytes(await reader.readexactly(4), "big")) for _ in frames]
        with pytest.raises(asyncio.IncompleteReadError):
            await reader.readexactly(4)
        transport.close()
    return found, waited


def test_aiokafkas_protocol_receives_frames() -> None:
    frames = [b"", b"a", bytes(range(256)) * 4000, b"b" * 17_000, b"c"]
    assert asyncio.run(connected(frames, 0))[0] == frames


def test_one_who_does_not_read_holds_the_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka_stream, "LIMIT", 100_000)
    frames = [bytes([at]) * 60_000 for at in range(100)]
    found, waited = asyncio.run(connected(frames, 0.2))
    assert found == frames
    assert 200_000 < waited < 300_000
