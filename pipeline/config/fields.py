"""What a config type offers, read from the type itself: names, types, defaults, and the docstring after each field."""

import ast
import inspect
import textwrap
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Final, Literal, TypeGuard, Union, get_args, get_origin

import msgspec

from pipeline.config.near import either
from pipeline.options import Duration, Secret, Size

MISSING: Final = msgspec.NODEFAULT
"""The default of an option that has none."""

_WORDS: Final[dict[object, str]] = {
    str: "text",
    int: "whole number",
    float: "number",
    bool: "true or false",
    NoneType: "nothing",
    Duration: "duration",
    Size: "size",
    Secret: "secret",
}


class Field(msgspec.Struct, frozen=True):
    """One option. `name` is the key in YAML, `attribute` the Struct's; `default` is MISSING for a required one."""

    name: str
    attribute: str
    hint: object
    default: object
    doc: str

    @property
    def required(self) -> bool:
        return self.default is MISSING


@cache
def fields(cls: type[msgspec.Struct]) -> tuple[Field, ...]:
    """The options of a config type, in the order in which they are written."""
    docs = _attribute_docs(cls)
    return tuple(
        Field(
            info.encode_name,
            info.name,
            info.type,
            info.default if info.default_factory is MISSING else info.default_factory(),
            docs.get(info.name, ""),
        )
        for info in msgspec.structs.fields(cls)
    )


def doc(cls: type) -> str:
    """A type's docstring as plain paragraphs, "" without one."""
    return inspect.cleandoc(cls.__doc__ or "") if cls.__doc__ != msgspec.Struct.__doc__ else ""


def _attribute_docs(cls: type) -> dict[str, str]:
    """Field → the string that follows it, inherited ones too. Without source (a frozen program) there are none."""
    docs: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if base in (object, msgspec.Struct):
            continue
        try:
            body = ast.parse(textwrap.dedent(inspect.getsource(base))).body[0]
        except (OSError, TypeError, SyntaxError, IndexError):
            continue
        if isinstance(body, ast.ClassDef):
            docs.update(_docs_in(body))
    return docs


def _docs_in(body: ast.ClassDef) -> dict[str, str]:
    docs: dict[str, str] = {}
    for statement, following in zip(body.body, body.body[1:], strict=False):
        if (
            isinstance(statement, ast.AnnAssign)
            and isinstance(statement.target, ast.Name)
            and isinstance(following, ast.Expr)
            and isinstance(following.value, ast.Constant)
            and isinstance(following.value.value, str)
        ):
            docs[statement.target.id] = " ".join(following.value.value.split())
    return docs


# --- the shapes of types ---------------------------------------------------------------------------------------------


def bare(hint: object) -> object:
    """The type without its constraints (`Annotated`)."""
    return get_args(hint)[0] if get_origin(hint) is Annotated else hint


def is_struct(hint: object) -> TypeGuard[type[msgspec.Struct]]:
    """Whether the type is a block of options of its own."""
    return isinstance(hint, type) and issubclass(hint, msgspec.Struct)


def members(hint: object) -> tuple[object, ...]:
    """The types of a union, the type itself where it is none."""
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)


def optional(hint: object) -> tuple[object, ...]:
    """The members of a union without None."""
    return tuple(member for member in members(hint) if member is not NoneType)


def item(hint: object) -> object | None:
    """The type of the items of a list-like type, None for anything else."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is tuple:
        return arguments[0] if len(arguments) == 2 and arguments[1] is Ellipsis else None
    if isinstance(origin, type) and issubclass(origin, Sequence | AbstractSet) and arguments:
        return arguments[0]  # type: ignore[no-any-return]  # get_args is untyped
    return None


def entry(hint: object) -> tuple[object, object] | None:
    """The types of the keys and values of a map, None for anything else."""
    arguments = get_args(hint)
    return (arguments[0], arguments[1]) if get_origin(hint) in (dict, Mapping) and len(arguments) == 2 else None


def struct_within(hint: object) -> type[msgspec.Struct] | None:
    """The options type that stands in a type: itself, or in a union, a list or the values of a map."""
    for member in optional(bare(hint)):
        member = bare(member)
        if is_struct(member):
            return member
        below = item(member) or (entry(member) or (None, None))[1]
        if below is not None and (found := struct_within(below)):
            return found
    return None


def words(hint: object) -> str:
    """A type in words: `duration`, `list of text`, `` `block` or `drop_oldest` ``."""
    hint = bare(hint)
    if get_origin(hint) is Literal:
        return either(str(value) for value in get_args(hint))
    if len(members(hint)) > 1:
        return " or ".join(words(member) for member in members(hint) if member is not NoneType)
    if (of := item(hint)) is not None:
        return f"list of {'maps' if is_struct(of) else words(of)}"
    if pair := entry(hint):
        return f"map of {'maps' if is_struct(pair[1]) else words(pair[1])}"
    if is_struct(hint):
        return "map"
    return _WORDS.get(hint) or str(getattr(hint, "__name__", hint))
