"""YAML as a tree that knows its lines. `pipeline.yaml_file` is for tables where plain data is enough.

Read by events and not by PyYAML's constructors: scalars follow the YAML 1.2 core schema (`no` is a text, `1:30` is no
number of minutes), keys are texts and stand once, nothing is built that a tag names. Hostile input costs what is
written and no more: size, nesting and what aliases unfold to are bounded.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final, TypeAlias

import msgspec
import yaml

from pipeline.errors import ConfigError, Problem
from pipeline.facts import Json

Scalar: TypeAlias = str | int | float | bool | None

MAX_BYTES: Final = 2**20
MAX_DEPTH: Final = 64
MAX_VALUES: Final = 100_000

_TAG: Final = "tag:yaml.org,2002:"
_CONSTANTS: Final[dict[str, Scalar]] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_INT: Final = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT: Final = re.compile(
    r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
)


class Yaml(msgspec.Struct, frozen=True):
    """A value and where it stands: a map's entry has the line of its key. `line` counts from 1.

    `written` is a text before its `${…}` were replaced, "" where there were none; `broken` marks one whose
    replacement failed: that is a problem of its own, said once.
    """

    value: "Scalar | list[Yaml] | dict[str, Yaml]"
    file: str = ""
    line: int = 0
    written: str = ""
    broken: bool = False

    def plain(self) -> Json:
        """The value without the places."""
        if isinstance(self.value, dict):
            return {key: child.plain() for key, child in self.value.items()}
        if isinstance(self.value, list):
            return [child.plain() for child in self.value]
        return self.value


def read_text(path: Path, max_bytes: int = MAX_BYTES) -> str:
    """The text of a file of at most `max_bytes`. Raises ConfigError with the reason in words."""
    try:
        with path.open("rb") as file:  # not stat: the size of a pipe or /dev/zero is only known by reading
            data = file.read(max_bytes + 1)
        if len(data) > max_bytes:
            raise ConfigError([Problem("", f"is larger than {max_bytes} bytes", str(path), 1)])
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ConfigError([Problem("", "is not UTF-8", str(path), line)]) from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = (isinstance(error, OSError) and error.strerror) or str(error)
        raise ConfigError([Problem("", f"cannot be read: {reason}", str(path), 1)]) from error


def compose(text: str, file: str) -> tuple[Yaml, list[Problem]]:
    """The tree of a YAML text, and the problems that left a tree (keys written twice).

    Raises ConfigError with one problem when there is no tree.
    """
    composer = _Composer(file)
    try:
        return composer.compose(text), composer.problems
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        message = " ".join(part for part in (error.context, error.problem) if part)
        raise ConfigError([Problem("", f"is no YAML: {message}", file, mark.line + 1 if mark else 1)]) from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise ConfigError([Problem("", f"is no YAML: {error.reason}", file, line)]) from error
    except (ValueError, OverflowError) as error:  # PyYAML's scanner on `\UFFFFFFFF` and on `%YAML 99999….1`
        raise ConfigError([Problem("", f"is no YAML: {error}", file, composer.line)]) from error


def scalar(text: str) -> Scalar:
    """What a plain scalar means in the YAML 1.2 core schema. Raises ValueError for a number of too many digits."""
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if _INT.fullmatch(text):
        return int(text, 0 if text[:2] in ("0o", "0x") else 10)
    if _FLOAT.fullmatch(text):
        return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
    return text


def dump(value: object) -> str:
    """Plain data as YAML that `compose` reads back as the same."""
    text: str = yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=False)
    return text


class _Dumper(yaml.SafeDumper):
    """Quotes what the core schema would take for something else than a text, and writes no aliases."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    try:
        style = None if isinstance(scalar(text), str) else '"'
    except ValueError:
        style = '"'
    return dumper.represent_scalar(f"{_TAG}str", text, style=style)


_Dumper.add_representer(str, _represent_text)


class _Sized(msgspec.Struct, frozen=True):
    """A finished value: how many values it holds and how deep it goes once its aliases are unfolded."""

    node: Yaml
    values: int = 1
    height: int = 0


class _Frame(msgspec.Struct):
    """A list or map that is still open."""

    node: Yaml
    anchor: str | None
    key: tuple[str, int, bool] | None = None  # the text, its line, whether it is unquoted
    merged: dict[str, Yaml] = {}
    values: int = 1
    height: int = 1

    @property
    def wants_key(self) -> bool:
        return self.key is None and isinstance(self.node.value, dict)


class _Composer:
    """Builds the tree from parser events, with a stack of its own: deep nesting cannot exhaust Python's."""

    def __init__(self, file: str) -> None:
        self.file, self.line = file, 1
        self.problems: list[Problem] = []
        self._open: list[_Frame] = []
        self._anchors: dict[str, _Sized] = {}
        self._root: Yaml | None = None

    def compose(self, text: str) -> Yaml:
        for event in self._events(text):
            if self._open and self._open[-1].wants_key and not isinstance(event, yaml.MappingEndEvent):
                self._key(event)
            elif isinstance(event, yaml.ScalarEvent):
                self._add(_Sized(self._at(self._scalar(event))), event.anchor)
            elif isinstance(event, yaml.AliasEvent):
                self._alias(event.anchor or "")
            elif isinstance(event, yaml.SequenceStartEvent | yaml.MappingStartEvent):
                self._begin(event)
            elif isinstance(event, yaml.SequenceEndEvent | yaml.MappingEndEvent):
                self._end()
            elif isinstance(event, yaml.DocumentStartEvent) and self._root is not None:
                raise self._stop("holds more than one YAML document (`---`)")
        return self._root or Yaml(None, self.file, 1)

    def _events(self, text: str) -> Iterator[yaml.Event]:
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            if event.start_mark:
                self.line = event.start_mark.line + 1
            yield event

    def _at(self, value: "Scalar | list[Yaml] | dict[str, Yaml]") -> Yaml:
        return Yaml(value, self.file, self.line)

    def _stop(self, message: str) -> ConfigError:
        return ConfigError([Problem(self._path(), message, self.file, self.line)])

    def _path(self) -> str:
        parts = ""
        for frame in self._open:
            if frame.key:
                parts += f".{frame.key[0]}"
            elif isinstance(frame.node.value, list):
                parts += f"[{len(frame.node.value)}]"
        return parts.lstrip(".")

    def _scalar(self, event: yaml.ScalarEvent) -> Scalar:
        text: str = event.value
        try:
            text.encode()
        except UnicodeEncodeError:
            raise self._stop("holds half of a surrogate pair, which is no text") from None
        if event.tag is None:
            return self._resolved(text) if event.implicit[0] else text
        if event.tag in ("!", f"{_TAG}str"):
            return text
        if event.tag in (f"{_TAG}int", f"{_TAG}float", f"{_TAG}bool", f"{_TAG}null"):
            return self._resolved(text)
        raise self._unknown_tag(event.tag)

    def _resolved(self, text: str) -> Scalar:
        try:
            return scalar(text)
        except ValueError:
            raise self._stop("is a number of too many digits") from None

    def _unknown_tag(self, tag: str) -> ConfigError:
        return self._stop(f"the tag `{tag.replace(_TAG, '!!')}` means nothing here")

    def _begin(self, event: yaml.SequenceStartEvent | yaml.MappingStartEvent) -> None:
        is_map = isinstance(event, yaml.MappingStartEvent)
        if event.tag not in (None, "!", f"{_TAG}{'map' if is_map else 'seq'}"):
            raise self._unknown_tag(event.tag)
        self._room(1)
        self._open.append(_Frame(self._at({} if is_map else []), event.anchor))

    def _end(self) -> None:
        frame = self._open.pop()
        node = frame.node
        if frame.merged and isinstance(node.value, dict):
            node = Yaml({**frame.merged, **node.value}, node.file, node.line)
        self._add(_Sized(node, frame.values, frame.height), frame.anchor)

    def _alias(self, anchor: str) -> None:
        if anchor not in self._anchors:
            within = any(frame.anchor == anchor for frame in self._open)
            raise self._stop(f"the alias `*{anchor}` {'stands within what it names' if within else 'names nothing'}")
        target = self._anchors[anchor]
        self._room(target.height)
        self._add(_Sized(self._at(target.node.value), target.values, target.height), None)

    def _room(self, height: int) -> None:
        if len(self._open) + height > MAX_DEPTH:
            raise self._stop(f"is nested deeper than {MAX_DEPTH} levels")

    def _add(self, sized: _Sized, anchor: str | None) -> None:
        if anchor:
            self._anchors[anchor] = sized
        if not self._open:
            self._root = sized.node
            return
        frame = self._open[-1]
        frame.values += sized.values
        frame.height = max(frame.height, sized.height + 1)
        if frame.values > MAX_VALUES:
            raise self._stop(f"holds more than {MAX_VALUES} values once its aliases are unfolded")
        if isinstance(frame.node.value, list):
            frame.node.value.append(sized.node)
        elif isinstance(frame.node.value, dict):
            self._add_to_map(frame, frame.node.value, sized.node)

    def _key(self, event: yaml.Event) -> None:
        if not isinstance(event, yaml.ScalarEvent):
            raise self._stop("a key is a text, not a list, a map or an alias")
        self._scalar(event)  # for its complaints; the key is the text as it is written, `8080` and `null` too
        if event.anchor:
            self._anchors[event.anchor] = _Sized(self._at(event.value))
        self._open[-1].key = (event.value, self.line, event.implicit[0])

    def _add_to_map(self, frame: _Frame, entries: dict[str, Yaml], node: Yaml) -> None:
        assert frame.key is not None
        name, line, unquoted = frame.key
        if name == "<<" and unquoted:
            frame.merged = {**self._merged(node), **frame.merged}
        elif name in entries:
            message = f"is written twice; the first is on line {entries[name].line}"
            self.problems.append(Problem(self._path(), message, self.file, line))
        else:
            entries[name] = Yaml(node.value, node.file, line)
        frame.key = None

    def _merged(self, node: Yaml) -> dict[str, Yaml]:
        if isinstance(node.value, dict):
            return node.value
        if not isinstance(node.value, list):
            raise self._stop("`<<` takes a map or a list of maps")
        merged: dict[str, Yaml] = {}
        for item in reversed(node.value):
            merged.update(self._merged(item))
        return merged
