"""One block of YAML into one typed Struct, with every problem and not only the first.

Structs, lists and maps are walked here, because msgspec stops at the first fault and does not know the file's lines;
single values go through `msgspec.convert` and the option types. User values are decoded over the defaults, nested
ones too: `sending_queue: {queue_size: 1GiB}` keeps the other defaults of that exporter's queue. Null means the default.
"""

import math
import re
from collections.abc import Collection, Iterable, Sequence
from typing import Any, Final, Literal, TypeVar, cast, get_args, get_origin

import msgspec

from pipeline.config.fields import MISSING, bare, entry, fields, is_struct, item, members, optional, words
from pipeline.config.near import either, nearest, shortened
from pipeline.config.near import hint as near
from pipeline.config.outside import typed, unfolded
from pipeline.config.redact import looks_secret, without_secrets
from pipeline.config.source import joined
from pipeline.errors import Problem
from pipeline.options import Duration, Secret, Size
from pipeline.yaml_tree import Scalar, Yaml

C = TypeVar("C", bound=msgspec.Struct)

_BAD: Final = object()
"""In place of a value with a problem: whoever holds it goes on with its siblings and gives it up itself."""

_EXPECTED: Final[dict[object, str]] = {
    str: "a text",
    int: "a whole number",
    float: "a number",
    bool: "`true` or `false`",
    Secret: "a text",
    Duration: "a duration such as `30s` or `1h30m`",
    Size: "a size such as `64MiB`",
}
_YES_NO: Final = {"yes": "true", "on": "true", "no": "false", "off": "false"}


def decode(
    node: Yaml, cls: type[C], path: str, problems: list[Problem], base: C | None = None, also: Sequence[str] = ()
) -> C | None:
    """The block `node` as a `cls`, over the values of `base` (else the type's defaults).

    `also` are keys of this block that somebody else decodes: near names for unknown keys.

    None when there are problems; they are appended to `problems`, each with its own path and line.
    """
    value = _Decoder(problems).struct(node, cls, path, base, also)
    return None if value is _BAD else cast("C", value)


def decode_sound(node: Yaml, cls: type[C], path: str, problems: list[Problem]) -> C:
    """The same, with defaults in place of what has problems, so that the rest can still be checked."""
    return cast("C", _Decoder(problems, lenient=True).struct(node, cls, path, cls()))


def split(node: Yaml, names: Iterable[str]) -> tuple[Yaml, Yaml]:
    """A map's entries that are not in `names`, and those that are, as two maps."""
    if not isinstance(node.value, dict):
        return node, Yaml({}, node.file, node.line)
    chosen = frozenset(names)
    ours = {key: child for key, child in node.value.items() if key in chosen}
    rest = {key: child for key, child in node.value.items() if key not in chosen}
    return Yaml(rest, node.file, node.line), Yaml(ours, node.file, node.line)


class _Decoder:
    def __init__(self, problems: list[Problem], lenient: bool = False) -> None:
        self.problems, self.lenient = problems, lenient

    def _fault(self, node: Yaml, path: str, message: str) -> object:
        if not node.broken:
            self.problems.append(Problem(path, message, node.file, node.line))
        return _BAD

    # --- structs ---

    def struct(
        self, node: Yaml, cls: type[msgspec.Struct], path: str, base: object, also: Sequence[str] = ()
    ) -> object:
        node = unfolded(node, "{")
        if node.value is None:
            node = Yaml({}, node.file, node.line)
        if not isinstance(node.value, dict):
            self._fault(node, path, f"expected a map of options, got {_shown(node, path)}")
            return base if self.lenient and base is not None else _BAD
        known = {field.name: field for field in fields(cls)}
        names = (*known, *also)
        unknown = [self._unknown(child, path, key, names) for key, child in node.value.items() if key not in known]
        values: dict[str, object] = {}
        defaults: dict[str, object] = {}
        for name, field in known.items():
            default = field.default if base is None else getattr(base, field.attribute)
            value = self._option(node, node.value.get(name), field.hint, joined(path, name), default)
            defaults[field.attribute] = default
            values[field.attribute] = default if self.lenient and value is _BAD and default is not MISSING else value
        if (unknown and not self.lenient) or any(value is _BAD for value in values.values()):
            bad = {name for name, field in known.items() if values[field.attribute] is _BAD}
            sound = {name: defaults[name] if value is _BAD else value for name, value in values.items()}
            if not any(value is MISSING for value in sound.values()):
                self._rest(node, cls, sound, path, bad)
            return _BAD
        return self._built(node, cls, values, path)

    def _unknown(self, node: Yaml, path: str, key: str, known: Iterable[str]) -> object:
        return self._fault(node, joined(path, key), f"no such key{near(key, known)}")

    def _option(self, block: Yaml, node: Yaml | None, hint: object, path: str, default: object) -> object:
        if node is None or (node.value is None and type(None) not in members(bare(hint))):
            return self._fault(block, path, "is required") if default is MISSING else default
        return self.value(node, hint, path, default)

    def _built(self, node: Yaml, cls: type[msgspec.Struct], values: dict[str, object], path: str) -> object:
        try:
            block = cls(**values)
        except (ValueError, TypeError) as error:  # a `__post_init__` that refuses
            return self._fault(node, path, str(error))
        across = getattr(block, "problems", None)
        faults = list(across()) if callable(across) else []
        for below, message in faults:
            self._fault(_below(node, below), joined(path, below) if below else path, message)
        return _BAD if faults and not self.lenient else block

    def _rest(
        self, node: Yaml, cls: type[msgspec.Struct], values: dict[str, object], path: str, bad: Collection[str]
    ) -> None:
        """What else is wrong with a block that has bad options, so that all is said at once."""
        try:
            block = cls(**values)
        except (ValueError, TypeError):
            return  # perhaps only because of the default in a bad one's place
        across = getattr(block, "problems", None)
        for below, message in across() if callable(across) else ():
            if below and re.split(r"[.\[]", below, maxsplit=1)[0] not in bad:
                self._fault(_below(node, below), joined(path, below), message)

    # --- values ---

    def value(self, node: Yaml, hint: object, path: str, default: object = None) -> object:
        """The value as the type says; for a Struct over `default`, when that is one of the same type."""
        if node.broken:
            return _BAD
        if node.value is None and type(None) in members(bare(hint)):
            return None
        kinds = optional(bare(hint))
        kind = bare(kinds[0]) if len(kinds) == 1 else hint
        if is_struct(kind):
            return self.struct(node, kind, path, default if isinstance(default, kind) else None)
        if (of := item(kind)) is not None:
            return self._list(node, of, path, hint)
        if (pair := entry(kind)) is not None:
            return self._map(node, pair[1], path, hint)
        return self._single(node, hint, kind, path)

    def _list(self, node: Yaml, of: object, path: str, hint: object) -> object:
        node = unfolded(node, "[")
        if not isinstance(node.value, list):
            shown = _shown(node, path)
            example = f"; write `[{node.value}]`" if shown == f"`{node.value}`" else ""
            return self._fault(node, path, f"expected a list, got {shown}{example}")
        items = [self.value(child, of, f"{path}[{index}]") for index, child in enumerate(node.value)]
        sound = [value for value in items if value is not _BAD]
        return self._checked(node, sound, hint, path) if self.lenient or len(sound) == len(items) else _BAD

    def _map(self, node: Yaml, of: object, path: str, hint: object) -> object:
        node = unfolded(node, "{")
        if not isinstance(node.value, dict):
            return self._fault(node, path, f"expected a map, got {_shown(node, path)}")
        entries = {key: self.value(child, of, joined(path, key)) for key, child in node.value.items()}
        sound = {key: value for key, value in entries.items() if value is not _BAD}
        return self._checked(node, sound, hint, path) if self.lenient or len(sound) == len(entries) else _BAD

    def _checked(self, node: Yaml, value: object, hint: object, path: str) -> object:
        """Lists and maps once more as a whole: constraints, the kind of collection, the keys' type."""
        try:
            return msgspec.convert(value, cast("Any", hint), strict=False, dec_hook=_passed)
        except msgspec.ValidationError as error:
            return self._fault(node, path, _lowered(error))

    def _single(self, node: Yaml, hint: object, kind: object, path: str) -> object:
        try:
            return msgspec.convert(typed(node, hint), cast("Any", hint), dec_hook=_option_type)
        except msgspec.ValidationError as error:
            return self._fault(node, path, _refusal(node, kind, path, error))


def _below(node: Yaml, path: str) -> Yaml:
    for key in path.split("."):
        if isinstance(node.value, dict) and key in node.value:
            node = node.value[key]
    return node


def _option_type(kind: type, value: object) -> object:
    """msgspec's hook for types that it does not know: ours, and any that is made from one value."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError("expected one value")
    if kind is Secret and not isinstance(value, str):
        raise ValueError("expected a text")
    if kind is Size and isinstance(value, float):
        raise ValueError("expected a whole number of bytes")
    try:
        made = kind(value)
    except (ValueError, OverflowError) as error:
        raise ValueError(str(error)) from error
    if isinstance(made, float | int) and (not math.isfinite(made) or made < 0):
        raise ValueError("must not be negative or infinite")
    return made


def _passed(kind: type, value: object) -> object:
    return value


def _refusal(node: Yaml, kind: object, path: str, error: msgspec.ValidationError) -> str:
    """Why a single value is none of its type, and what to write."""
    got = _sort(node.value) if kind is Secret else _shown(node, path)
    if get_origin(kind) is Literal:
        close = (
            nearest(node.value, map(str, get_args(kind))) if isinstance(node.value, str) and not node.written else ()
        )
        return f"expected {words(kind)}, got {got}{f'; did you mean {either(close)}?' if close else ''}"
    if isinstance(node.value, list | dict) or kind not in _EXPECTED:
        return f"expected {_EXPECTED.get(kind, words(kind))}, got {got}"
    if kind in (str, Secret):
        return f"expected a text, got {got}; write it in quotes"
    if kind is bool and node.value in _YES_NO:
        return f"expected `true` or `false`, got {got}; write `{_YES_NO[node.value]}`"
    said = _lowered(error)
    if node.written or (kind not in (Duration, Size) and ", got `" in said):
        return f"expected {_EXPECTED[kind]}, got {got}"
    quoted = isinstance(node.value, str) and repr(node.value) in said
    return shortened(said, 200) if quoted else f"{said}, got {got}"  # our own words, or a bound: `int` >= 1


def _lowered(error: msgspec.ValidationError) -> str:
    said = str(error).partition(" - at `$")[0]
    return said[:1].lower() + said[1:]


def _shown(node: Yaml, path: str) -> str:
    """A value for a message: never one that came from outside or looks like a secret."""
    value: Scalar | list[Yaml] | dict[str, Yaml] = node.value
    if node.written:
        return f"what `{shortened(node.written)}` gives"
    if value is None or isinstance(value, list | dict) or looks_secret(path.rpartition(".")[2]):
        return _sort(value)
    return f"`{shortened(str(value).lower() if isinstance(value, bool) else without_secrets(str(value)))}`"


def _sort(value: object) -> str:
    """What a value is, without saying it."""
    if value is None:
        return "nothing"
    sorts = {list: "a list", dict: "a map", str: "a text", bool: "`true` or `false`"}
    return sorts.get(type(value), "a number")
