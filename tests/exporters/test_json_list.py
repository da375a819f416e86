"""Requests put together."""

import json

from hypothesis import given
from hypothesis import strategies as st

from exporters.json_list import one_list

LISTS = st.lists(st.lists(st.text() | st.integers() | st.lists(st.integers()), min_size=1), min_size=1, max_size=8)


@given(st.text(st.characters(categories=("L",)), min_size=1), LISTS)
def test_lists_are_one_with_the_items_of_all_in_order(name: str, lists: list[list[object]]) -> None:
    bodies = [json.dumps({name: each}, separators=(",", ":")).encode() for each in lists]
    made = b"".join(one_list(bodies))
    assert made.decode() == json.dumps({name: [item for each in lists for item in each]}, separators=(",", ":"))


def test_one_alone_is_itself() -> None:
    body = b'{"a":[1]}'
    assert one_list([body])[0] is body
