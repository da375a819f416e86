"""Texts that came out of `${…}`: what they mean where they stand. A variable has no quotes and no types of its own."""

import re
from typing import Literal, get_args, get_origin

from pipeline.config.fields import bare, optional
from pipeline.config.source import at_line
from pipeline.errors import ConfigError
from pipeline.facts import Json
from pipeline.yaml_tree import Yaml, compose, scalar


def unfolded(node: Yaml, bracket: Literal["[", "{"]) -> Yaml:
    """A text that came out of `${…}` where a list or map stands: YAML in brackets, or items between commas or lines."""
    text = node.value
    if not node.written or not isinstance(text, str):
        return node
    if text.lstrip()[:1] == bracket:
        try:
            tree, twice = compose(text, node.file)
            return node if twice else at_line(tree, node.line, node.file)
        except ConfigError:
            return node
    if bracket == "{":
        return Yaml({}, node.file, node.line) if not text.strip() else node
    parts = (part.strip() for part in re.split(r"[,\n]", text))
    return Yaml([Yaml(p, node.file, node.line, node.written) for p in parts if p], node.file, node.line)


def typed(node: Yaml, hint: object) -> Json:
    """The plain value. What came out of `${…}` is a text where the option takes one, else what YAML makes of it."""
    if not node.written or not isinstance(node.value, str) or any(_takes_text(kind) for kind in optional(bare(hint))):
        return node.plain()
    try:
        return scalar(node.value.strip())
    except ValueError:
        return node.value


def _takes_text(kind: object) -> bool:
    kind = bare(kind)
    if get_origin(kind) is Literal:
        return any(isinstance(value, str) for value in get_args(kind))
    return isinstance(kind, type) and issubclass(kind, str)
