"""Chunks become lines, wherever the chunks are cut."""

from hypothesis import given
from hypothesis import strategies as st

from receivers.file_lines import HEAD, Line, Lines


def split(chunks: list[bytes], max_line: int = 1000) -> list[Line]:
    lines = Lines(max_line)
    found = [line for chunk in chunks for line in lines.feed(chunk)]
    return found + lines.finish()


texts = st.binary(max_size=40).map(lambda b: b.replace(b"a", b"\n"))


@given(st.lists(texts, max_size=8), st.integers(1, 20))
def test_where_the_chunks_are_cut_does_not_matter(chunks: list[bytes], max_line: int) -> None:
    assert split(chunks, max_line) == split([b"".join(chunks)], max_line)


@given(texts)
def test_lines_and_their_newlines_are_the_file(data: bytes) -> None:
    lines = split([data])
    assert b"".join(data[line.start : line.end] for line in lines) == data
    assert [line.number for line in lines] == list(range(1, len(lines) + 1))
    assert [line.raw for line in lines] == data.removesuffix(b"\n").split(b"\n")[: len(lines)]


def test_the_last_line_needs_no_newline_once_the_end_is_reached() -> None:
    lines = Lines(100)
    assert lines.feed(b"a\nb") == [Line(1, 0, 2, b"a")]
    assert lines.finish() == [Line(2, 2, 3, b"b")]
    assert lines.finish() == []


def test_a_line_that_is_too_long_keeps_its_head_and_its_length_and_no_more() -> None:
    lines = Lines(2 * HEAD)
    for _ in range(100):
        assert lines.feed(b"x" * HEAD) == []
        assert sum(map(len, lines._rest)) <= 3 * HEAD
    assert lines.feed(b"\nnext\n") == [
        Line(1, 0, 100 * HEAD + 1, b"x" * HEAD, True),
        Line(2, 100 * HEAD + 1, 100 * HEAD + 6, b"next"),
    ]
