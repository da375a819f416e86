"""`${…}` in a text: environment variables and files, with defaults, nested. Pure but for the given lookups.

`${env:NAME}` is the variable, `${env:NAME:-default}` the default when it is unset or empty (as a shell has it),
`${file:PATH}` a file's text without its last line break; name, path and default may hold `${…}` themselves. What comes
from outside is data: `${…}` within it stays as it is. `$$` is a dollar sign, and a `$` before anything else is one too.
"""

import re
from collections.abc import Callable, Mapping
from typing import Final

import msgspec

MAX_DEPTH: Final = 16
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

FileReader = Callable[[str], str]
"""Gives a file's text; raises OSError or ValueError with the reason."""


class Expanded(msgspec.Struct, frozen=True):
    """A text with its references replaced, and what was wrong with them. `references` counts them."""

    text: str
    references: int
    faults: tuple[str, ...]


def expand(text: str, env: Mapping[str, str], read_file: FileReader) -> Expanded:
    """Replace every `${…}` of `text`; all that cannot be replaced are in `faults`."""
    template = _Template(env, read_file)
    result = template.expand(text, 0)
    return Expanded(result, template.references, tuple(template.faults))


class _Template:
    def __init__(self, env: Mapping[str, str], read_file: FileReader) -> None:
        self.env, self.read_file = env, read_file
        self.faults: list[str] = []
        self.references = 0

    def expand(self, text: str, depth: int) -> str:
        if depth > MAX_DEPTH:
            self.faults.append(f"`${{…}}` is nested deeper than {MAX_DEPTH} levels")
            return ""
        parts: list[str] = []
        at = 0
        while (dollar := text.find("$", at)) >= 0:
            parts.append(text[at:dollar])
            if text.startswith("$$", dollar):
                parts.append("$")
                at = dollar + 2
            elif not text.startswith("${", dollar):
                parts.append("$")
                at = dollar + 1
            elif (end := _closing(text, dollar + 2)) < 0:
                self.faults.append(f"`{_short(text[dollar:])}` has no closing `}}`; write `$$` for a plain `$`")
                return ""
            else:
                parts.append(self._reference(text[dollar + 2 : end], depth))
                at = end + 1
        return "".join((*parts, text[at:]))

    def _reference(self, body: str, depth: int) -> str:
        self.references += 1
        scheme, colon, rest = body.partition(":")
        if not colon or scheme not in ("env", "file"):
            like = f"${{env:{body}}}" if _NAME.fullmatch(body) else "${env:NAME}"
            self.faults.append(f"`${{{_short(body)}}}` means nothing; write `{like}`, or `$$` for a plain `$`")
            return ""
        name, default = _split_default(rest)
        faults = len(self.faults)
        name = self.expand(name, depth + 1)
        if len(self.faults) > faults:
            return ""
        value = self._variable(name, default) if scheme == "env" else self._file(name, default)
        return self.expand(default or "", depth + 1) if value is None else value

    def _variable(self, name: str, default: str | None) -> str | None:
        """The variable's value, None for the default. Raises nothing: a fault is noted."""
        if not _NAME.fullmatch(name):
            self.faults.append(f"`{_short(name)}` is no name of an environment variable")
            return ""
        value = self.env.get(name)
        if default is not None:
            return value or None
        if value is None:
            self.faults.append(
                f"the environment variable {name} is not set; set it, or write `${{env:{name}:-default}}`"
            )
            return ""
        return value

    def _file(self, path: str, default: str | None) -> str | None:
        try:
            return self.read_file(path).removesuffix("\n").removesuffix("\r")
        except FileNotFoundError:
            if default is not None:
                return None
            self.faults.append(f"there is no file `{_short(path)}`")
        except OSError as error:
            self.faults.append(f"the file `{_short(path)}` cannot be read: {error.strerror}")
        except ValueError as error:
            self.faults.append(f"the file `{_short(path)}` cannot be read: {error}")
        return ""


def _closing(text: str, start: int) -> int:
    """Where the brace opened before `start` is closed, -1 if it is not. Braces within count, `$$` does not."""
    depth, at = 1, start
    while at < len(text):
        if text.startswith("$$", at):
            at += 2
            continue
        depth += {"{": 1, "}": -1}.get(text[at], 0)
        if not depth:
            return at
        at += 1
    return -1


def _split_default(text: str) -> tuple[str, str | None]:
    """`name:-default` at the first `:-` outside of braces; the default is None where there is none."""
    depth = 0
    for at, character in enumerate(text):
        depth += {"{": 1, "}": -1}.get(character, 0)
        if not depth and text.startswith(":-", at):
            return text[:at], text[at + 2 :]
    return text, None


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}…"
