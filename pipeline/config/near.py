"""Words for messages: near names for a name that is not there, lists of names, long texts cut."""

from collections.abc import Iterable
from difflib import SequenceMatcher
from typing import Final

_FEW: Final = 12
_ALIKE: Final = 0.65
_BESIDE_THE_BEST: Final = 0.1


def hint(name: str, known: Iterable[str]) -> str:
    """`; did you mean …?` with the nearest of `known`, else all of them when they are few, else nothing."""
    names = sorted(known)
    if close := nearest(name, names):
        return f"; did you mean {either(close)}?"
    return f"; known: {', '.join(f'`{known_name}`' for known_name in names)}" if 0 < len(names) <= _FEW else ""


def nearest(name: str, known: Iterable[str]) -> tuple[str, ...]:
    """At most three of `known` that resemble `name`, the nearest first; one that differs in case alone is that."""
    wanted = name[:80].lower()
    alike = {other: SequenceMatcher(None, wanted, other.lower()).ratio() for other in known}
    least = max(_ALIKE, max(alike.values(), default=0.0) - _BESIDE_THE_BEST)
    near = sorted((other for other, ratio in alike.items() if ratio >= least), key=lambda other: -alike[other])
    return tuple(near[:3])


def either(names: Iterable[str]) -> str:
    """`a`, `b` or `c`."""
    *first, last = (f"`{name}`" for name in names)
    return f"{', '.join(first)} or {last}" if first else last


def shortened(text: str, most: int = 60) -> str:
    """The text, cut when it is longer than `most` characters."""
    return text if len(text) <= most else f"{text[: most - 1]}…"
