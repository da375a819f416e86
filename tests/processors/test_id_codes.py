"""Codes of a chunk of ids: the same ids come back, in little where they are of runs."""

from array import array
from random import Random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.id_codes import decoded, encoded


@given(st.lists(st.one_of(st.integers(0, 2**64 - 1), st.integers(0, 500)), unique=True))
def test_the_same_ids_come_back(ids: list[int]) -> None:
    assert sorted(decoded(encoded(ids))) == sorted(ids)
    assert len(encoded(ids)) <= 8 * len(ids) + 5


def test_ids_of_runs_take_less_than_two_bytes() -> None:
    random = Random(1)
    ids = [run + number for run in [random.getrandbits(63) for _ in range(100)] for number in range(90)]
    assert len(encoded(ids)) < 2 * len(ids)


def test_digests_keep_their_order_and_their_bytes() -> None:
    ids = [Random(1).getrandbits(64) for _ in range(1000)]
    assert list(decoded(encoded(ids))) == ids


def test_the_bytes_of_ids_as_they_were_stored_before_are_read() -> None:
    """Version 1 of the table."""
    assert list(decoded(msgspec.msgpack.encode(array("Q", [3, 1, 2**64 - 1]).tobytes()))) == [3, 1, 2**64 - 1]


@pytest.mark.parametrize(
    "torn",
    [b"", b"1234567", encoded([1, 2])[:-1], msgspec.msgpack.encode(bytes(7)), msgspec.msgpack.encode([2**63] * 2)],
)
def test_what_is_no_chunk_is_refused(torn: bytes) -> None:
    with pytest.raises(ValueError, match="damaged"):
        decoded(torn)
