"""What is the same problem: a failure's kind and place, and its error without what differs from run to run.

A fingerprint must neither split (the same timeout with another page number) nor merge (another bug in the same
asset). So it is made of what a developer would name: the place, the exception classes, the user's own frames without
line numbers (an edit above moves them), and the first two lines of the message with numbers, ids, times, paths and
quoted values masked. No partition, run or owner; what remains of them in a message is masked.

Its first characters name the algorithm: another one would get `v2:`, and open problems would keep theirs. Everything
that `parts` returns is in the hash, and nothing else, so that it can be shown to whoever asks why.
"""

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from hashlib import sha256
from typing import Final

import msgspec

from pipeline.facts import ErrorInfo, Parts

VERSION: Final = "v1"
FRAMES: Final = 3
LINES: Final = 2
LINE_LENGTH: Final = 400
READ_LENGTH: Final = 10 * LINE_LENGTH
"""Characters of a message's line that count: what follows is data, and regular expressions stay cheap."""


class Mask(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A pattern that is replaced by `<name>` in error messages before they are compared."""

    name: str
    """What stands in its place, in angle brackets."""
    pattern: str
    """A regular expression (Python's `re`)."""

    def __post_init__(self) -> None:
        _compiled(self.pattern)


class Override(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Failures whose error is judged by us: those that match all that is given here share `fingerprint`."""

    fingerprint: str
    """Stands in place of exception classes, frames and message. The asset, or job and step, still tells apart."""
    asset: str = ""
    """A regular expression that the whole asset key matches; empty: any."""
    job: str = ""
    """A regular expression that the whole job name matches; empty: any."""
    error_type: str = ""
    """A regular expression that the whole class name of the innermost cause matches; empty: any."""
    message: str = ""
    """A regular expression found anywhere in the message; empty: any."""

    def __post_init__(self) -> None:
        for pattern in (self.asset, self.job, self.error_type, self.message):
            _compiled(pattern)


def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise ValueError(f"{pattern!r} is no regular expression: {error}") from error


_REMEMBERED: Final = 512
"""Lines and frames whose masked form is remembered, each of up to LINE_LENGTH characters: a failure comes again."""

_NAMED: Final = 64
"""Names of partitions and runs that were found in messages, with their expressions."""

_DATE = r"\d{4}[-/]\d{2}[-/]\d{2}"
_CLOCK = r"\d{1,2}:\d{2}(?::\d{2}(?:[.,]\d+)?)?"
# Letters and digits by turns (pod names), or hexadecimal digits (short hashes).
_MIXED = r"[a-z]+\d+[a-z][a-z0-9]*|\d+[a-z]+\d[a-z0-9]*|(?=[a-f]*\d)(?=\d*[a-f])[0-9a-f]{7,}"
_MIXED_UPPER = r"[A-Z]+\d+[A-Z][A-Z0-9]*|\d+[A-Z]+\d[A-Z0-9]*"
_ZONE = r"(?:\s?(?:Z|UTC|GMT|[+-]\d{2}:?\d{2}))?"

MASKS: Final[tuple[Mask, ...]] = (
    Mask(name="url", pattern=r"\b[a-zA-Z][a-zA-Z0-9+.-]{1,20}://[^\s'\"<>]+"),
    Mask(name="email", pattern=r"\b[\w.+-]+@[\w-]+(?:\.[\w-]+)+\b"),
    Mask(name="uuid", pattern=r"\b[0-9a-fA-F]{8}-?(?:[0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}\b"),
    Mask(name="time", pattern=rf"\b{_DATE}(?:[T ,-]{_CLOCK})?{_ZONE}\b|\b\d{{8}}T\d{{4,6}}Z?\b|\b{_CLOCK}\b"),
    Mask(name="ip", pattern=r"\b\d{1,3}(?:\.\d{1,3}){3}\b|(?<![\w:])(?:[0-9a-fA-F]{0,4}:){3,7}[0-9a-fA-F]{1,4}\b"),
    Mask(name="hex", pattern=r"\b0[xX][0-9a-fA-F]+\b"),
    Mask(
        name="quoted",
        pattern=r"(?<!\w)'(?:[^'\n\\]|\\.)*'(?!\w)|(?<!\w)\"(?:[^\"\n\\]|\\.)*\"(?!\w)|`[^`\n]*`|“[^”\n]*”",
    ),
    Mask(
        name="path",
        pattern=r"(?<![\w/<>.])(?:[A-Za-z]:\\[^\s:'\"]+|~?(?:/[\w.@%+=~-]+){2,}/?|[\w.-]+(?:/[\w.@%+=~-]+){2,})",
    ),
    Mask(name="duration", pattern=r"(?<![\w.])(?:\d+(?:\.\d+)?(?:ns|us|µs|ms|s|m|h|d))+\b"),
    Mask(name="id", pattern=rf"(?<![^\W_])(?:{_MIXED}|{_MIXED_UPPER})(?![^\W_])"),
    Mask(name="number", pattern=r"(?<![^\W_])[-+]?\d+(?:[.,_]\d+)*(?:[eE][-+]?\d+)?"),
)
"""The masks in force unless the configuration leaves some out, in the order in which they are applied."""

_WORDS: Final = frozenset(
    "a all an and any are as at be by can do for from had has he if in into is it me my no not of off on or out so "  # noqa: SIM905  # one text reads better than fifty
    "the them then to too two up us was we who with you".split()
)
"""Partition keys that are English words too (countries: `in`, `it`, `no`): masking them would change every message."""


class Fingerprinter:
    """The algorithm with a configuration's masks and overrides. Immutable, pure.

    `extra` masks come before the built-in ones, which `without` names to leave out.
    """

    def __init__(
        self,
        extra: Iterable[Mask] = (),
        without: Iterable[str] = (),
        overrides: Iterable[Override] = (),
        deployment: str = "",
    ) -> None:
        out = frozenset(without)
        kept = [*extra, *(mask for mask in MASKS if mask.name not in out)]
        self._masks = tuple((re.compile(mask.pattern), f"<{mask.name}>") for mask in kept)
        self._remembered = lru_cache(_REMEMBERED)(self._mask)
        self._overrides = tuple(overrides)
        self._deployment = deployment

    def explain(
        self,
        kind: str,
        *,
        asset: str = "",
        job: str = "",
        step: str = "",
        check: str = "",
        error: ErrorInfo | None = None,
        text: str = "",
        partition: str | None = None,
        run: str = "",
    ) -> Parts:
        """The parts of a failure's fingerprint. `text` speaks for a failure that has no error (a reason)."""
        place = (asset,) if asset else (job, step)
        for rule in self._overrides:
            if _overrides(rule, asset, job, error):
                return Parts(kind, place, check, override=rule.fingerprint, deployment=self._deployment)
        message = error.message if error else text
        return Parts(
            kind=kind,
            place=place,
            check=check,
            chain=_chain(error) if error else (),
            frames=_frames(error.frames) if error else (),
            message=self.masked(message, _names(partition, run)) if message else (),
            deployment=self._deployment,
        )

    def masked(self, message: str, names: Sequence[str] = ()) -> tuple[str, ...]:
        """The first two lines that hold anything, masked; `names` (partition, run id) are masked as whole words."""
        lines = [line.strip()[:READ_LENGTH] for line in message[: 4 * READ_LENGTH].splitlines() if line.strip()]
        # Cut after masking: before it, a longer number would move the end of the line.
        return tuple(self._line(line, names)[:LINE_LENGTH] for line in lines[:LINES])

    def _line(self, line: str, names: Sequence[str]) -> str:
        for name in names:
            if name not in line:
                continue  # nearly always: each run's id would be an expression of its own to compile
            line = _word(name).sub("<partition>", line)
        return self._remembered(line) if len(line) <= LINE_LENGTH else self._mask(line)

    def _mask(self, line: str) -> str:
        for pattern, mark in self._masks:
            line = pattern.sub(mark, line)
        return line


@lru_cache(_REMEMBERED)
def fingerprint(parts: Parts) -> str:
    """`v1:` and 16 hex digits, equal for equal parts."""
    return f"{VERSION}:{sha256(_encode(parts)).hexdigest()[:16]}"


_encode = msgspec.json.Encoder().encode


def _overrides(rule: Override, asset: str, job: str, error: ErrorInfo | None) -> bool:
    return (
        (not rule.asset or re.fullmatch(rule.asset, asset) is not None)
        and (not rule.job or re.fullmatch(rule.job, job) is not None)
        and (not rule.error_type or re.fullmatch(rule.error_type, error.type if error else "") is not None)
        and (not rule.message or re.search(rule.message, error.message if error else "") is not None)
    )


def _chain(error: ErrorInfo) -> tuple[str, ...]:
    """Exception classes from the outside in, without those that Dagster wraps around: they change with its version,
    and with the way of retrying, and say nothing of the problem. The innermost always stands.
    """
    chain = error.chain or (error.type,)
    outer = [name for name in chain[:-1] if not name.startswith("Dagster") and name != "RetryRequestedFromPolicy"]
    return (*outer, chain[-1])


def _frames(frames: Sequence[str]) -> tuple[str, ...]:
    """The innermost user frames as `folder/file:function`; recursion counts once, release folders do not count."""
    short: list[str] = []
    for frame in frames:
        masked = _frame(frame) if len(frame) <= LINE_LENGTH else _frame.__wrapped__(frame)
        if not short or short[-1] != masked:
            short.append(masked)
    return tuple(short[-FRAMES:])


@lru_cache(_REMEMBERED)
def _frame(frame: str) -> str:
    path, _, function = frame.rpartition(":")
    name = "/".join(re.split(r"[\\/]", path)[-2:])
    masked = re.sub(r"\b(?=[a-z_-]*\d)[0-9a-f]{7,}\b|\d+(?:\.\d+)+", "<release>", name)
    return f"{masked}:{function}"


def _names(partition: str | None, run: str) -> list[str]:
    """What names this run alone: longest first, so that a whole multi-dimensional key goes before its parts."""
    found = {run, run[:8]}
    if partition:
        found.add(partition)
        if "|" in partition:
            found.update(partition.split("|"))
    return sorted([n for n in found if len(n) > 1 and n not in _WORDS], key=_longest_first)


def _longest_first(name: str) -> tuple[int, str]:
    return -len(name), name


@lru_cache(_NAMED)
def _word(name: str) -> re.Pattern[str]:
    return re.compile(rf"(?<!\w){re.escape(name)}(?!\w)")
