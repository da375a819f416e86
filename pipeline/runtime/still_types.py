"""Which types hold values that nothing can change in place. Such a value is its own copy: whoever has it has a moment.

Numbers, texts, bytes, enums, frozen structs and tuples of such. A frozen struct with a dict in it is none.
"""

from functools import cache
from typing import Final

import msgspec
from msgspec import inspect

_PLAIN: Final = (
    inspect.NoneType,
    inspect.BoolType,
    inspect.IntType,
    inspect.FloatType,
    inspect.StrType,
    inspect.BytesType,
    inspect.LiteralType,
    inspect.EnumType,
)


def is_still(kind: object) -> bool:
    """Whether nothing can change a value of this type, however deep."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct) and not kind.__struct_config__.frozen:
        return False  # most that are not; the look below takes 0.2 ms a type
    return _looked_at(kind)


@cache
def _looked_at(kind: object) -> bool:
    return _is_still(inspect.type_info(kind), frozenset())


def _is_still(info: inspect.Type, within: frozenset[type]) -> bool:
    if isinstance(info, _PLAIN):
        return True
    if isinstance(info, inspect.UnionType):
        return all(_is_still(each, within) for each in info.types)
    if isinstance(info, inspect.TupleType):
        return all(_is_still(each, within) for each in info.item_types)
    if isinstance(info, inspect.VarTupleType):
        return _is_still(info.item_type, within)
    if not isinstance(info, inspect.StructType) or not info.cls.__struct_config__.frozen:
        return False
    deeper = within | {info.cls}
    return info.cls in within or all(_is_still(field.type, deeper) for field in info.fields)
