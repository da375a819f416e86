"""Dagster's SerializableErrorInfo as a person wants it: the innermost cause, and the frame in the user's own code.

Outer errors of the `cause` chain are the framework's (DagsterExecutionStepExecutionError, RetryRequestedFromPolicy);
`context` (an error that happened to be handled at the time) is no cause and is left out, as Dagster's own page does.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Final, NamedTuple

import msgspec

from pipeline.facts import ErrorInfo, Json
from receivers import wire_repair

_FRAME: Final = re.compile(r'\s*File "([^"\n]+)", line (\d+)(?:, in ([^\n]+))?')
_LIBRARY: Final = re.compile(
    r"[/\\](?:site|dist)-packages[/\\]"  # what is installed
    r"|[/\\]lib(?:64)?[/\\]python\d[^/\\]*[/\\]"  # the standard library
    r"|[/\\]python\d+[/\\]lib[/\\]"  # the same on Windows
    r"|[/\\]dagster[/\\]_"  # Dagster from a checkout
    r"|[/\\]python_modules[/\\](?:dagster|libraries)[/\\]"
    r"|^<",  # <frozen runpy>, <string>
    re.IGNORECASE,
)
_LONGEST: Final = 2000
"""Characters of a frame's text that are looked at: a path and a line of source."""


class _WireError(msgspec.Struct):
    """SerializableErrorInfo, the fields that are read."""

    message: str
    stack: list[str] = []
    cls_name: str | None = None
    cause: "_WireError | None" = None


class _Frame(NamedTuple):
    file: str
    line: int
    function: str
    of_user: bool


_decode = msgspec.json.Decoder(_WireError | None).decode


def error_info(raw: msgspec.Raw) -> ErrorInfo | None:
    """The error in `raw` (a SerializableErrorInfo or null); None where there is none or it is of another shape."""
    try:
        outer = _decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        outer = _loose(raw)
    return _told(outer) if outer is not None else None


def _loose(raw: msgspec.Raw) -> _WireError | None:
    """An error of which some part is of another shape: Dagster's reader keeps it, and its class is what counts."""
    try:
        value = wire_repair.lenient(bytes(raw))
    except (ValueError, RecursionError):
        return None
    found: _WireError | None = None
    for error in reversed(_loose_causes(value)):
        message, stack, name = error.get("message"), error.get("stack"), error.get("cls_name")
        found = _WireError(
            message if isinstance(message, str) else "",
            [frame for frame in stack if isinstance(frame, str)] if isinstance(stack, list) else [],
            name if isinstance(name, str) else None,
            found,
        )
    return found


def _loose_causes(value: Json) -> list[dict[str, Json]]:
    chain: list[dict[str, Json]] = []
    while isinstance(value, dict):
        chain.append(value)
        value = value.get("cause")
    return chain


def _told(outer: _WireError) -> ErrorInfo:
    chain = _causes(outer)
    inner = chain[-1]
    frames = _user_frames(chain)
    at = frames[-1] if frames else _last_frame(chain)
    return ErrorInfo(
        type=inner.cls_name or "",
        message=_without_class(inner),
        file=at.file,
        line=at.line,
        function=at.function,
        frames=tuple(f"{frame.file}:{frame.function}" for frame in frames),
        chain=tuple(error.cls_name or "" for error in chain),
        stack=_stack(chain),
    )


def _causes(outer: _WireError) -> list[_WireError]:
    """From the outermost to the innermost."""
    chain = [outer]
    while (cause := chain[-1].cause) is not None:
        chain.append(cause)
    return chain


def _without_class(error: _WireError) -> str:
    """The message without "module.Class: " before it: `KeyError: 'JPY'` is `'JPY'`, a bare class is ""."""
    message = error.message.rstrip("\n")
    head, _, rest = message.partition(": ")
    name = error.cls_name
    if name and (head == name or head.endswith(f".{name}")):
        return rest
    return message


def _user_frames(chain: Sequence[_WireError]) -> list[_Frame]:
    """The user's frames of the innermost error that has any."""
    for error in reversed(chain):
        frames = [frame for frame in _frames(error) if frame.of_user]
        if frames:
            return frames
    return []


def _last_frame(chain: Sequence[_WireError]) -> _Frame:
    for error in reversed(chain):
        frames = _frames(error)
        if frames:
            return frames[-1]
    return _Frame("", 0, "", False)


def _frames(error: _WireError) -> list[_Frame]:
    """One entry of `stack` is one frame (its "File" line and its source line)."""
    return [found for entry in error.stack if (found := frame(entry[:_LONGEST])) is not None]


@lru_cache(maxsize=4096)  # nearly all frames of a stack are the framework's, the same in every stack
def frame(entry: str) -> _Frame | None:
    """What one entry of a stack says; None where it is no frame."""
    match = _FRAME.match(entry)
    if match is None:
        return None
    return _Frame(match[1], int(match[2][:9]), (match[3] or "").strip(), not _LIBRARY.search(match[1]))


def _stack(chain: Sequence[_WireError]) -> str:
    """All errors, the outermost first, in the order in which Dagster's page shows them."""
    told = []
    for error in chain:
        message = error.message if error.message.endswith("\n") else f"{error.message}\n"
        told.append(f"{message}{''.join(error.stack)}")
    return "\ncaused by:\n".join(told)
