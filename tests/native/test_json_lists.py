"""Requests put together by the twin as by Python."""

import json
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporters import json_list
from exporters.json_list import one_list
from pipeline.native import HAS_NATIVE, native

pytestmark = pytest.mark.skipif(not HAS_NATIVE, reason="dagtel-native is not installed")

LISTS = st.lists(st.lists(st.text() | st.integers() | st.lists(st.integers()), min_size=1), min_size=1, max_size=8)


def in_python(bodies: list[bytes]) -> bytes:
    with patch.object(json_list, "HAS_NATIVE", False):
        return one_list(bodies)


@given(st.text(st.characters(categories=("L",)), min_size=1), LISTS)
def test_lists_are_put_together_byte_for_byte(name: str, lists: list[list[object]]) -> None:
    bodies = [json.dumps({name: each}, separators=(",", ":")).encode() for each in lists]
    made = one_list(bodies)
    assert made == in_python(bodies)
    assert json.loads(made) == {name: [item for each in lists for item in each]}


@pytest.mark.parametrize("bodies", [[], [b""], [b"{}"], [b'{"a":[1]}', b"[]"]])
def test_what_holds_no_list_is_left_to_python(bodies: list[bytes]) -> None:
    assert native.one_list(bodies) is None
