"""Items that are broken where one looks: a field, at any depth, that raises whatever is done with it."""

from collections.abc import Iterator
from typing import Any, NoReturn

import msgspec
from hypothesis import strategies as st

_NEEDED = frozenset({"now_ns", "source", "offset", "raw"})
"""What the runtime itself reads, of an item and to write its dead letter."""

_Path = tuple[str | int, ...]


class Broken:
    """A value that nobody can use."""

    def _raise(self, *args: Any) -> NoReturn:
        raise ValueError("the contract broke this value")

    __getattr__ = __iter__ = __len__ = __bool__ = __hash__ = __eq__ = __lt__ = __gt__ = __le__ = __ge__ = _raise
    __contains__ = __getitem__ = __str__ = __format__ = __int__ = __float__ = __index__ = __add__ = __sub__ = _raise


def broken(item: Any) -> st.SearchStrategy[Any]:
    """The item with one of its fields broken: its own, or one of an outcome, an error, a detail within it."""
    paths = [path for path in _paths(item) if path[0] not in _NEEDED]
    return st.sampled_from(paths).map(lambda path: _without(item, path))


def _paths(value: object) -> Iterator[_Path]:
    """Where an item can be broken, as the names and places that lead there."""
    if isinstance(value, msgspec.Struct):
        parts: list[tuple[str | int, object]] = [(name, getattr(value, name)) for name in value.__struct_fields__]
    elif isinstance(value, tuple):
        parts = [(place, part) for place, part in enumerate(value) if isinstance(part, msgspec.Struct)]
    else:
        return
    for step, part in parts:
        if isinstance(step, str):
            yield (step,)
        yield from ((step, *path) for path in _paths(part))


def _without(value: Any, path: _Path) -> Any:
    if not path:
        return Broken()
    first, *rest = path
    if isinstance(first, int):
        return (*value[:first], _without(value[first], tuple(rest)), *value[first + 1 :])
    return msgspec.structs.replace(value, **{first: _without(getattr(value, first), tuple(rest))})
