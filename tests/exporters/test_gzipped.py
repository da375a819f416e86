"""Payloads compressed: by the fast library, and by the standard one where that is not to be had."""

import gzip
from importlib.util import find_spec

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporters import gzipped as module
from exporters.gzipped import gzipped


@given(st.binary(max_size=2000) | st.binary(max_size=20).map(lambda part: part * 500))
def test_it_is_gzip_and_the_same_bytes_each_time(body: bytes) -> None:
    assert gzip.decompress(gzipped(body)) == body
    assert gzipped(body) == gzipped(body)


@given(st.lists(st.binary(max_size=300), min_size=1))
def test_pieces_are_compressed_as_what_they_make_behind_one_another(pieces: list[bytes]) -> None:
    assert gzip.decompress(gzipped(*map(memoryview, pieces))) == b"".join(pieces)


def test_it_is_much_smaller_where_much_repeats() -> None:
    body = b'{"level":"INFO","event":"STEP_START","message":"Started execution of step"}\n' * 200
    assert len(gzipped(body)) < len(body) // 10


@pytest.mark.skipif(find_spec("isal") is None, reason="isal has no wheel for this machine")
def test_without_the_fast_library_it_is_gzip_too(monkeypatch: pytest.MonkeyPatch) -> None:
    fast = gzipped(b"abc" * 1000)
    monkeypatch.setattr(module, "isal_zlib", None)
    slow = gzipped(b"abc" * 1000)
    assert gzip.decompress(slow) == gzip.decompress(fast) == b"abc" * 1000
