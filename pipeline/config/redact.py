"""A configuration that may be shown: what is secret by type, by name or by place is `[redacted]`.

Shown is what was read, merged and filled in, as YAML that can be read again; defaults stay unwritten.
"""

import re
from collections.abc import Mapping
from typing import Final

from pipeline.config.fields import bare, entry, fields, is_struct, item, optional
from pipeline.config.outside import typed, unfolded
from pipeline.facts import Json
from pipeline.options import Secret
from pipeline.yaml_tree import Yaml

REDACTED: Final = "[redacted]"

_SECRET_NAME: Final = re.compile(
    r"(^|[-_.])pass$|pass(word|wd|phrase|code)|secret|token|api[-_.]?key|access[-_.]?key|private|credential|authorization|auth$"
    r"|cookie|webhook|signature|signing|routing_?key|integration_?key|dsn$|jaas|sasl_?(plain_?)?pass",
    re.IGNORECASE,
)
_FILE_NAME: Final = re.compile(r"(_file|_path|_dir)$")
_USER_INFO: Final = re.compile(r"(?<=://)[^/@\s]+@")
_PARAMETER: Final = re.compile(r"(?i)([?&][^=&\s]*(?:token|secret|key|password|sig)[^=&\s]*=)[^&\s]+")
_SECRET_TEXT: Final = re.compile(
    r"hooks\.slack\.com/|\bxox[abposr]-|\bBearer\s|\bBasic\s|-----BEGIN|\bAKIA[0-9A-Z]{16}\b|\bgh[pousr]_\w{20}|\beyJ\w{10}"
)


def looks_secret(name: str) -> bool:
    """Whether an option of this name holds a secret; a name of a file that holds one is none."""
    return bool(_SECRET_NAME.search(name)) and not _FILE_NAME.search(name)


Options = Mapping[str, object]
"""The types of a block's options by their names."""


def redacted(node: Yaml, blocks: Mapping[str, Options | None]) -> Json:
    """The tree as plain data without its secrets. `blocks`: what the blocks may hold, by path (`exporters.loki`).

    None for a block whose type is not known: whatever came out of `${…}` there might be a secret.
    """
    return _Redaction(blocks).value(node, "", "", object, known=True)


class _Redaction:
    def __init__(self, blocks: Mapping[str, Options | None]) -> None:
        self.blocks = blocks

    def value(self, node: Yaml, path: str, name: str, hint: object, known: bool, secret: bool = False) -> Json:
        """`known`: the block's type is known. `secret`: the name of a map above says so, and no type differs."""
        kind = _only(hint)
        if path in self.blocks:
            block = self.blocks[path]
            kind, known = object if block is None else block, block is not None
        value = _read(node, kind).value
        secret = not is_struct(kind) and path not in self.blocks and (secret or looks_secret(name))
        if isinstance(value, dict):
            return {
                key: self.value(child, f"{path}.{key}".lstrip("."), key, _below(kind, key), known, secret)
                for key, child in value.items()
            }
        if isinstance(value, list):
            return [self.value(child, f"{path}[]", name, item(kind) or object, known, secret) for child in value]
        if value in (None, "") or isinstance(value, bool):
            return value
        if secret or kind is Secret or (node.written and not known):
            return REDACTED
        plain = typed(node, kind) if known and kind is not object else value
        return re.sub(r"\$(?=[${])", "$$", without_secrets(plain)) if isinstance(plain, str) else plain


def _read(node: Yaml, kind: object) -> Yaml:
    """The node as the decoder sees it: a list or a map, where a text from outside stands for one."""
    if isinstance(kind, Mapping) or is_struct(kind) or entry(kind) is not None:
        return unfolded(node, "{")
    return unfolded(node, "[") if item(kind) is not None else node


def _only(hint: object) -> object:
    kinds = optional(bare(hint))
    return bare(kinds[0]) if len(kinds) == 1 else object


def _below(kind: object, key: str) -> object:
    """The type of the entry `key` of a block, a Struct or a map."""
    if isinstance(kind, Mapping):
        return kind.get(key, object)
    if is_struct(kind):
        return next((field.hint for field in fields(kind) if field.name == key), object)
    pair = entry(kind)
    return pair[1] if pair else object


def without_secrets(text: str) -> str:
    """The text without what is plainly a secret: tokens of known kinds, passwords and keys within addresses."""
    if _SECRET_TEXT.search(text):
        return REDACTED
    return _PARAMETER.sub(rf"\1{REDACTED}", _USER_INFO.sub(f"{REDACTED}@", text))
