"""The text of a configuration: several files and `--set` merged into one tree, with `${…}` replaced.

Maps merge deeply, everything else (lists, texts, null) replaces what earlier files said. Replacing `${…}` comes after
the merge: what was overridden need not be set. A text that came out of `${…}` is typed by the option that it fills.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from pipeline.config.template import expand
from pipeline.errors import ConfigError, Problem
from pipeline.yaml_tree import MAX_BYTES, MAX_DEPTH, Yaml, compose, read_text

SET: Final = "--set"
"""The "file" in which problems of `--set` stand; its lines count the options."""


class Source(msgspec.Struct, frozen=True):
    """The merged tree, the names of its files in order, and what was wrong on the way. `outside` are the files that
    `${file:…}` named, there or not.
    """

    tree: Yaml
    files: tuple[str, ...]
    problems: tuple[Problem, ...]
    outside: tuple[str, ...] = ()


def read(paths: Sequence[Path], sets: Sequence[str] = (), env: Mapping[str, str] | None = None) -> Source:
    """Read and merge `paths` in order, then `sets` (`a.b=value`, the value in YAML), and replace `${…}` by `env`.

    Raises ConfigError with every file that could not be read or is no YAML.
    """
    texts: list[tuple[str, str]] = []
    problems: list[Problem] = []
    for path in paths:
        try:
            texts.append((str(path), read_text(path)))
        except ConfigError as error:
            problems.extend(error.problems)
    return _merged(texts, sets, env or {}, problems)


def parse(text: str, file: str = "", sets: Sequence[str] = (), env: Mapping[str, str] | None = None) -> Source:
    """The same for one text. Raises ConfigError when it is no YAML."""
    return _merged([(file, text)], sets, env or {}, [])


def _merged(
    texts: Iterable[tuple[str, str]], sets: Sequence[str], env: Mapping[str, str], fatal: list[Problem]
) -> Source:
    faults: list[Problem] = []
    trees: list[Yaml] = []
    files: list[str] = []
    for file, text in texts:
        files.append(file)
        try:
            tree, twice = compose(text, file)
            faults.extend(twice)
            trees.append(_a_map(tree))
        except ConfigError as error:
            fatal.extend(error.problems)
    for number, text in enumerate(sets, 1):
        try:
            trees.append(setting(text, number))
        except ConfigError as error:
            fatal.extend(error.problems)
    if fatal:
        raise ConfigError(fatal)
    whole = Yaml({}, files[0] if files else "", 1)
    for tree in trees:
        whole = merge(whole, tree)
    expansion = _Expansion(env, faults)
    tree = expansion.tree(whole, "")
    return Source(tree, (*files, SET), tuple(faults), tuple(expansion.outside))


def _a_map(tree: Yaml) -> Yaml:
    if tree.value is None:
        return Yaml({}, tree.file, 1)
    if not isinstance(tree.value, dict):
        raise ConfigError([Problem("", "is no configuration: a map is expected", tree.file, tree.line)])
    return tree


def merge(under: Yaml, over: Yaml) -> Yaml:
    """`over` on top of `under`: maps merge deeply, anything else of `over` replaces. Both stay as they are."""
    if not isinstance(under.value, dict) or not isinstance(over.value, dict):
        return over
    entries = dict(under.value)
    for key, child in over.value.items():
        entries[key] = merge(entries[key], child) if key in entries else child
    return Yaml(entries, under.file, under.line)


def setting(text: str, number: int) -> Yaml:
    """`a.b=value` as a tree. Raises ConfigError when there is no `=`, an empty key, or a value that is no YAML."""
    path, equals, value = text.partition("=")
    keys = path.strip().split(".")
    if not equals or not all(keys) or len(keys) > MAX_DEPTH:
        message = f"{text[:60]!r} sets nothing; write for example `service.clock=events`"
        raise ConfigError([Problem("", message, SET, number)])
    try:
        tree, _ = compose(value, SET)
    except ConfigError as error:
        raise ConfigError([Problem(path, p.message, SET, number) for p in error.problems]) from error
    tree = at_line(tree, number)
    for key in reversed(keys):
        tree = Yaml({key: tree}, SET, number)
    return tree


def at_line(tree: Yaml, line: int, file: str = SET) -> Yaml:
    """The same tree with every value at one place."""
    if isinstance(tree.value, dict):
        return Yaml({key: at_line(child, line, file) for key, child in tree.value.items()}, file, line)
    if isinstance(tree.value, list):
        return Yaml([at_line(child, line, file) for child in tree.value], file, line)
    return Yaml(tree.value, file, line)


class _Expansion:
    """Replaces `${…}` in every text of a tree."""

    def __init__(self, env: Mapping[str, str], faults: list[Problem]) -> None:
        self.env, self.faults = env, faults
        self.outside: dict[str, None] = {}

    def tree(self, node: Yaml, path: str) -> Yaml:
        if isinstance(node.value, dict):
            entries = {key: self.tree(child, joined(path, key)) for key, child in node.value.items()}
            return Yaml(entries, node.file, node.line)
        if isinstance(node.value, list):
            items = [self.tree(child, f"{path}[{index}]") for index, child in enumerate(node.value)]
            return Yaml(items, node.file, node.line)
        if isinstance(node.value, str) and "$" in node.value:
            return self._text(node, node.value, path)
        return node

    def _text(self, node: Yaml, text: str, path: str) -> Yaml:
        folder = Path() if node.file == SET else Path(node.file).parent
        expanded = expand(text, self.env, lambda name: self._file_text(folder / name))
        self.faults.extend(Problem(path, fault, node.file, node.line) for fault in expanded.faults)
        written = text if expanded.references else ""
        return Yaml(expanded.text, node.file, node.line, written, broken=bool(expanded.faults))

    def _file_text(self, path: Path) -> str:
        self.outside[str(path)] = None
        return _file_text(path)


def _file_text(path: Path) -> str:
    """The file's text, at most a mebibyte. Raises OSError, ValueError."""
    with path.open("rb") as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise ValueError(f"it is larger than {MAX_BYTES} bytes")
    return data.decode()


def joined(path: str, key: str) -> str:
    """The path of `key` below `path`."""
    return f"{path}.{key}" if path else key


def place(tree: Yaml, path: str) -> Yaml:
    """The value at `path` (`exporters.loki.labels[2]`), or the nearest one above it that exists: where to point at."""
    node = tree
    for key, index in re.findall(r"([^.\[\]]+)|\[(\d{1,6})\]", path):
        children = node.value
        if index and isinstance(children, list) and int(index) < len(children):
            node = children[int(index)]
        elif key and isinstance(children, dict) and key in children:
            node = children[key]
        else:
            break
    return node
