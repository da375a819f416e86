"""Bytes that are filled where they stand."""

import pytest

from pipeline.native import HAS_NATIVE, native

pytestmark = pytest.mark.skipif(not HAS_NATIVE, reason="dagtel-native is not installed")


def test_what_was_written_is_what_is_taken() -> None:
    filling = native.Filling(5)
    with memoryview(filling) as view:
        view[:2] = b"ab"
        view[2:] = b"cde"
    assert filling.taken() == b"abcde"


def test_nothing_is_taken_while_it_can_be_written() -> None:
    filling = native.Filling(3)
    view = memoryview(filling)
    part = view[1:]
    view.release()
    with pytest.raises(BufferError, match="being filled"):
        filling.taken()
    part.release()
    assert len(filling.taken()) == 3


def test_nothing_is_written_once_it_was_taken() -> None:
    filling = native.Filling(3)
    filling.taken()
    with pytest.raises(BufferError, match="taken"):
        memoryview(filling)
    with pytest.raises(BufferError, match="taken"):
        filling.taken()


def test_a_size_for_which_there_is_no_room() -> None:
    with pytest.raises((MemoryError, OverflowError)):
        native.Filling(2**62)
