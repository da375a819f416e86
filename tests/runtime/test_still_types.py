"""Which values nothing can change in place."""

from enum import Enum
from typing import Any, Literal, NewType, Optional

import msgspec
import pytest

from pipeline.runtime.still_types import is_still

RunId = NewType("RunId", str)


class Colour(Enum):
    RED = "red"


class Still(msgspec.Struct, frozen=True):
    run: RunId
    counts: tuple[int, ...]
    kind: Literal["a", "b"] = "a"
    colour: Colour | None = None


class Nested(msgspec.Struct, frozen=True):
    of: tuple[Still, float] | None
    again: Optional["Nested"] = None


class Edited(msgspec.Struct):
    n: int


class WithDict(msgspec.Struct, frozen=True):
    tags: dict[str, str]


class Deep(msgspec.Struct, frozen=True):
    of: tuple[WithDict, ...]


@pytest.mark.parametrize("kind", [int, str, bytes, float, tuple[float, ...], tuple[str, int], Still, Nested])
def test_numbers_texts_and_frozen_structs_of_such_are_still(kind: Any) -> None:
    assert is_still(kind)


@pytest.mark.parametrize("kind", [list[int], dict[str, int], Edited, WithDict, Deep, tuple[Edited, ...], Any])
def test_what_has_anything_in_it_that_can_be_changed_is_not(kind: Any) -> None:
    assert not is_still(kind)
