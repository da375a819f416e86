"""The `file` receiver: real files, a fake intake."""

import gzip
import os
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
import zstandard

from pipeline.components import Position
from pipeline.errors import DecodeError, PermanentError
from pipeline.events import Event
from pipeline.options import Duration
from pipeline.testing.context import FakeContext
from pipeline.testing.intake import FakeIntake
from receivers.file import SPEC, FileReceiver
from receivers.file_options import FileReceiverConfig

pytestmark = pytest.mark.anyio
DATA = Path(__file__).parents[1] / "data"


def decode(raw: bytes, *, source: str, offset: int) -> Event:
    if raw.startswith(b"bad"):
        raise DecodeError("it is bad")
    return Event(raw, "LOG", "", offset * 10, 20, "", "", "", source=source, offset=offset, record_ns=offset * 10)


def receiver(path: Path | str, **options: Any) -> FileReceiver:
    config = FileReceiverConfig(path=str(path), poll_interval=Duration("5ms"), **options)
    return FileReceiver(config, FakeContext("file").log, decode)


async def read_once(path: Path | str, stored: Mapping[str, Position] | None = None, **options: Any) -> FakeIntake:
    intake = FakeIntake(stored, once=True)
    with anyio.fail_after(10):
        await receiver(path, **options).run(intake)
    return intake


@asynccontextmanager
async def following(path: Path, intake: FakeIntake, **options: Any) -> AsyncIterator[None]:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(receiver(path, follow=True, **options).run, intake)
        yield
        tasks.cancel_scope.cancel()


def events(intake: FakeIntake) -> list[Event]:
    return [item for item in intake.items if isinstance(item, Event)]


def raws(intake: FakeIntake) -> list[bytes]:
    return [event.raw for event in events(intake)]


def numbers(intake: FakeIntake) -> list[int]:
    return [event.offset for event in events(intake)]


async def has(intake: FakeIntake, *expected: bytes) -> None:
    await intake.until(lambda: len(raws(intake)) >= len(expected), 10)
    assert raws(intake) == list(expected)


# --- to the end ------------------------------------------------------------------------------------------------------


async def test_lines_become_events_with_their_numbers(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"a\n\n  \nb\nc")
    intake = await read_once(path)
    assert raws(intake) == [b"a", b"b", b"c"]
    assert numbers(intake) == [1, 4, 5]
    assert {event.source for event in events(intake)} == {f"file:{path}"}
    position = intake.stored[f"file:{path}"]
    assert (position.next, position.at_ns) == (9, 50)
    assert [read.behind for read in intake.reads] == [True, True, False]


async def test_a_line_that_is_no_event_is_rejected_with_its_origin(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"a\nbad one\nb\n")
    intake = await read_once(path)
    assert raws(intake) == [b"a", b"b"]
    (rejected,) = [r for read in intake.reads for r in read.rejected]
    assert (rejected.body, rejected.reason, rejected.origin) == (b"bad one", "it is bad", f"file:{path}@2")


async def test_a_line_that_is_too_long_is_rejected_and_the_next_is_read(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"a\n" + b"x" * 3_000_000 + b"\nb\n")
    intake = await read_once(path, max_line=1_000_000)
    assert raws(intake) == [b"a", b"b"]
    (rejected,) = [r for read in intake.reads for r in read.rejected]
    assert "3000001 bytes" in rejected.reason and "max_line" in rejected.reason
    assert len(rejected.body) == 65536


async def test_a_byte_order_mark_is_no_part_of_the_first_event(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"\xef\xbb\xbfa\nb\n")
    assert raws(await read_once(path)) == [b"a", b"b"]


async def test_batches_are_no_larger_than_asked(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"a\n" * 10)
    intake = await read_once(path, max_items=4)
    assert [len(read.items) for read in intake.reads] == [4, 4, 2, 0]
    assert [read.position.next for read in intake.reads] == [8, 16, 20, 20]


async def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(PermanentError, match=r"nowhere\.jsonl: there is no such file"):
        await read_once(tmp_path / "nowhere.jsonl")


async def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(PermanentError, match="directory"):
        await read_once(tmp_path)


async def test_an_empty_file_ends_at_once(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.touch()
    intake = await read_once(path)
    assert [(read.items, read.behind) for read in intake.reads] == [((), False)]


async def test_several_files_are_read_in_order(tmp_path: Path) -> None:
    paths = tuple(str(tmp_path / name) for name in ("one", "two"))
    for path in paths:
        Path(path).write_bytes(path[-3:].encode() + b"\n")
    intake = FakeIntake(once=True)
    await FileReceiver(FileReceiverConfig(path=paths), FakeContext("file").log, decode).run(intake)
    assert raws(intake) == [b"one", b"two"]


async def test_what_is_written_after_the_start_is_not_read_by_once(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"a\nb\n")
    intake = FakeIntake(once=True)
    grows = path.open("ab")
    intake.on_put = lambda read: (grows.write(b"more\n"), grows.flush())  # type: ignore[assignment, return-value]
    await receiver(path, max_items=1).run(intake)
    grows.close()
    assert raws(intake) == [b"a", b"b"]


@pytest.mark.parametrize(
    "pack", [gzip.compress, zstandard.compress, lambda data: gzip.compress(data[:9]) + gzip.compress(data[9:])]
)
async def test_packed_files_are_known_by_their_first_bytes(tmp_path: Path, pack: Any) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(pack(b"".join(b"event %d\n" % n for n in range(50_000))))
    intake = await read_once(path)
    assert raws(intake) == [b"event %d" % n for n in range(50_000)]
    assert numbers(intake)[-1] == 50_000


async def test_a_packed_file_that_is_cut_off_gives_what_there_is_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl.gz"
    path.write_bytes(gzip.compress(os.urandom(10_000).hex().encode() + b"\nlast\n")[:-20])
    with pytest.raises(PermanentError, match=r"events\.jsonl\.gz is cut off"):
        await read_once(path)


async def test_damaged_packing_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl.gz"
    packed = bytearray(gzip.compress(b"a\n" * 1000))
    packed[12] ^= 0xFF
    path.write_bytes(packed)
    with pytest.raises(PermanentError, match=r"events\.jsonl\.gz: its compressed data is damaged"):
        await read_once(path)


@contextmanager
def stdin(file: int) -> Iterator[None]:
    before = os.dup(0)
    os.dup2(file, 0)
    try:
        yield
    finally:
        os.dup2(before, 0)
        os.close(before)


async def test_standard_input_is_read_as_it_comes_packed_or_not() -> None:
    out, into = os.pipe()
    with stdin(out):
        os.close(out)
        intake = FakeIntake()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(receiver("-").run, intake)
            os.write(into, b"a\nb")
            await intake.until(lambda: raws(intake) == [b"a"], 10)
            os.write(into, b"b\n")
            os.close(into)
    assert raws(intake) == [b"a", b"bb"]
    assert not intake.reads[-1].behind


# --- going on --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstandard.compress])
async def test_a_restart_at_any_point_gives_the_same_events(tmp_path: Path, pack: Any) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(pack(b"a\n\nbad\nb\nc\nlast"))
    whole = await read_once(path, max_items=1)
    for stop in range(len(whole.reads)):
        before = [item for read in whole.reads[: stop + 1] for item in read.items]
        after = await read_once(path, {f"file:{path}": whole.reads[stop].position})
        assert before + after.items == whole.items


async def test_what_was_appended_since_is_read(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"a\nb")
    first = await read_once(path)
    with path.open("ab") as file:
        file.write(b"\nc\n")
    second = await read_once(path, first.stored)
    assert raws(second) == [b"c"]
    assert numbers(second) == [3]


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize("now", [b"a\nX\nc\n", b"a\n"])
async def test_another_file_stops_the_start_and_the_option_accepts_it(tmp_path: Path, now: bytes, pack: Any) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(pack(b"a\nb\n"))
    first = await read_once(path)
    path.write_bytes(pack(now))
    with pytest.raises(PermanentError, match=r"is not the file that was read: .*on_changed: reread"):
        await read_once(path, first.stored)
    again = await read_once(path, first.stored, on_changed="reread")
    assert raws(again) == now.split()


# --- following -------------------------------------------------------------------------------------------------------


def append(path: Path, *lines: bytes) -> None:
    with path.open("ab") as file:
        file.writelines(lines)


async def test_it_waits_for_more_and_for_the_end_of_a_line(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"a\nhalf")
    async with following(path, intake := FakeIntake()):
        await has(intake, b"a")
        await intake.until(lambda: not intake.reads[-1].behind)
        append(path, b" a line\n")
        await has(intake, b"a", b"half a line")
    assert numbers(intake) == [1, 2]


async def test_it_waits_for_the_file(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    async with following(path, intake := FakeIntake()):
        await intake.until(lambda: bool(intake.assigned))
        append(path, b"a\n")
        await has(intake, b"a")


async def test_a_rotated_file_is_read_to_its_end_before_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"a\n")
    async with following(path, intake := FakeIntake()):
        await has(intake, b"a")
        older = path.rename(tmp_path / "events.jsonl.1")
        append(older, b"b\n", b"no newline")
        append(path, b"c\n")
        await has(intake, b"a", b"b", b"no newline", b"c")
    assert numbers(intake) == [1, 2, 3, 1]


async def test_a_truncated_file_is_read_from_its_beginning(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"a long line\n")
    async with following(path, intake := FakeIntake()):
        await has(intake, b"a long line")
        await intake.until(lambda: not intake.reads[-1].behind)
        path.write_bytes(b"b\n")
        await has(intake, b"a long line", b"b")


async def test_a_file_that_was_rotated_while_away_is_found_and_finished(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"a\nb\n")
    async with following(path, first := FakeIntake()):
        await has(first, b"a", b"b")
    append(path, b"c\n")
    path.rename(tmp_path / "events.jsonl.1")
    append(path, b"d\n")
    async with following(path, second := FakeIntake(first.stored)):
        await has(second, b"c", b"d")


async def test_one_of_several_followed_files_that_is_another_one_ends_all(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"a\nb\n")
    first = await read_once(path)
    path.write_bytes(b"x\n")
    config = FileReceiverConfig(path=(str(path), str(tmp_path / "other")), follow=True)
    with pytest.raises(PermanentError, match="on_changed"):
        await FileReceiver(config, FakeContext("file").log, decode).run(FakeIntake(first.stored))


# --- the real decoder ------------------------------------------------------------------------------------------------


async def test_the_corpus_is_read_whole() -> None:
    path = DATA / "dagster-1.13.jsonl"
    intake = FakeIntake(once=True)
    async with SPEC.build(FileReceiverConfig(path=str(path)), FakeContext("file")) as built:
        await built.run(intake)
    assert raws(intake) == path.read_bytes().splitlines()
    assert [r for read in intake.reads for r in read.rejected] == []


@pytest.mark.parametrize("paths", ["", (), ("a", "a"), ("a", "")])
def test_paths_that_make_no_sense_are_refused(paths: Any) -> None:
    with pytest.raises(ValueError, match="path"):
        FileReceiverConfig(path=paths)
