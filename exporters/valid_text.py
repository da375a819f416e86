"""Text that every encoder takes: Python's strings can hold lone surrogates, UTF-8 cannot.

A slow road for the rare item that an encoder refused with UnicodeEncodeError; what is no Unicode shows as `?`.
"""

from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec

T = TypeVar("T", bound=msgspec.Struct)


def valid(text: str) -> str:
    """The text without lone surrogates."""
    return text.encode("utf-8", "replace").decode()


def valid_item(item: T) -> T:
    """The same item, every text in it valid, however deep."""
    return msgspec.structs.replace(item, **{name: _valid(getattr(item, name)) for name in item.__struct_fields__})


def valid_items(items: Sequence[T]) -> list[T]:
    """All of them."""
    return [valid_item(item) for item in items]


def _valid(value: Any) -> Any:  # a field of any type
    if isinstance(value, str):
        return valid(value)
    if isinstance(value, msgspec.Struct):
        return valid_item(value)
    if isinstance(value, dict):
        return {_valid(key): _valid(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_valid(inner) for inner in value]
    return tuple(_valid(inner) for inner in value) if isinstance(value, tuple) else value
