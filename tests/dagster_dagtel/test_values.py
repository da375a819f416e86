"""Whatever user code hands in becomes something that JSON and OpenTelemetry can carry."""

import json
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum, IntEnum
from pathlib import PurePosixPath
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagster_dagtel.values import MAX_DEPTH, MAX_ITEMS, MAX_TEXT, attribute, clean, plain


class Colour(Enum):
    RED = "red"


class Level(IntEnum):
    HIGH = 3


class Scalar:
    """As numpy's scalars look from outside."""

    shape = ()

    def item(self) -> float:
        return 2.5


class Unprintable:
    def __repr__(self) -> str:
        raise RuntimeError("no")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        (True, True),
        (487, 487),
        (99.74, 99.74),
        ("größe", "größe"),
        (float("nan"), "nan"),
        (2**70, str(2**70)),
        (datetime(2024, 10, 15, 10, 35, tzinfo=UTC), "2024-10-15T10:35:00+00:00"),
        (date(2024, 10, 15), "2024-10-15"),
        (timedelta(minutes=1), 60.0),
        (Decimal("19.99"), 19.99),
        (Decimal("NaN"), "NaN"),
        (b"caf\xc3\xa9 \xff", "café \ufffd"),
        (Colour.RED, "red"),
        (Level.HIGH, 3),
        (Scalar(), 2.5),
        (UUID(int=1), "UUID('00000000-0000-0000-0000-000000000001')"),
        (PurePosixPath("/x"), "PurePosixPath('/x')"),
        (Unprintable(), "<unprintable Unprintable>"),
        (TimeoutError("30s"), "TimeoutError: 30s"),
        ((1, "a"), [1, "a"]),
        ({1: {"b": Decimal(2)}}, {"1": {"b": 2.0}}),
        ("\ud800", "?"),
    ],
)
def test_a_value_becomes_json(value: object, expected: object) -> None:
    assert plain(value) == expected


def test_texts_collections_and_nesting_are_bounded() -> None:
    loop: list[object] = []
    loop.append(loop)
    assert plain("x" * 10_000) == "x" * (MAX_TEXT - 1) + "…"
    assert plain(range(10_000)) == list(range(MAX_ITEMS))
    assert json.dumps(plain(loop)).count("[") <= MAX_DEPTH + 4


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (["a", "b"], ["a", "b"]),
        ([1, 2], [1, 2]),
        ([], []),
        ([1, "a", None], ["1", "a", "null"]),
        ([True, 1], ["true", "1"]),
        ({"a": [1]}, '{"a": [1]}'),
        (None, None),
        (2**64, str(2**64)),
    ],
)
def test_an_attribute_is_what_opentelemetry_takes(value: object, expected: object) -> None:
    assert attribute(value) == expected


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.decimals() | st.datetimes(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner) | st.sets(st.integers()),
    max_leaves=30,
)


@given(anything)
def test_the_result_is_always_strict_json_in_utf8(value: object) -> None:
    json.dumps(plain(value), allow_nan=False, ensure_ascii=False).encode()


@given(st.text(st.characters(), max_size=50))
def test_clean_keeps_what_utf8_can_carry(value: str) -> None:
    clean(value).encode()
    if value.encode("utf-8", "ignore").decode() == value:
        assert clean(value) == value
