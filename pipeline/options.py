"""Types of configuration values that are more than a number or a text."""

import re
from typing import Final

_UNITS: Final = {
    "ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0,
    "second": 1.0, "minute": 60.0, "hour": 3600.0, "day": 86400.0, "week": 604800.0,
    "sec": 1.0, "min": 60.0,
}  # fmt: skip
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([a-zµ]+)")
_SIZES: Final = {
    "": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30,
    "k": 2**10, "m": 2**20, "g": 2**30,
}  # fmt: skip


class Duration(float):
    """A time span in seconds. Written as in Go (`5s`, `1h30m`), as people do (`2 hours`), or as a number of seconds."""

    def __new__(cls, value: "str | float") -> "Duration":
        return super().__new__(cls, _seconds(value) if isinstance(value, str) else value)

    @property
    def ns(self) -> int:
        """The span in nanoseconds."""
        return round(self * 1_000_000_000)

    def __repr__(self) -> str:
        return f"Duration({str(self)!r})"

    def __str__(self) -> str:
        left, text = float(self), ""
        if left and left < 1:
            return f"{left * 1000:g}ms"
        for unit, size in (("h", 3600), ("m", 60)):
            whole = int(left // size)
            if whole:
                text, left = f"{text}{whole}{unit}", left - whole * size
        return f"{text}{left:g}s" if left or not text else text


def _seconds(text: str) -> float:
    compact = text.strip().lower()
    if compact in ("0", ""):
        if compact == "0":
            return 0.0
        raise ValueError("a duration is empty; write for example `30s` or `1h30m`")
    total, end = 0.0, 0
    for match in _DURATION.finditer(compact):
        unit = match[2] if match[2] in _UNITS else match[2].removesuffix("s")
        if unit not in _UNITS or compact[end : match.start()].strip():
            break
        total, end = total + float(match[1]) * _UNITS[unit], match.end()
    if end != len(compact):
        raise ValueError(f"{text!r} is no duration; write for example `30s`, `1h30m` or `2 hours`")
    return total


class Size(int):
    """A number of bytes. Written with a unit (`64MiB`, `1GB`, `512k`) or as a number."""

    def __new__(cls, value: "str | int") -> "Size":
        return super().__new__(cls, _bytes(value) if isinstance(value, str) else value)

    def __repr__(self) -> str:
        return f"Size({str(self)!r})"

    def __str__(self) -> str:
        for unit, size in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
            if self >= size and self % size == 0:
                return f"{self // size}{unit}"
        return str(int(self))


def _bytes(text: str) -> int:
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]*)\s*", text)
    if not match or match[2].lower() not in _SIZES:
        raise ValueError(f"{text!r} is no size; write for example `64MiB` or `1GB`")
    return round(float(match[1]) * _SIZES[match[2].lower()])


class Secret(str):
    """A text that is never printed: it shows as `[redacted]`. `reveal()` gives it to who must send it."""

    __slots__ = ()

    def reveal(self) -> str:
        """The secret itself, as a plain str."""
        return str.__str__(self)

    def __repr__(self) -> str:
        return "[redacted]"

    def __str__(self) -> str:
        return "[redacted]"

    def __format__(self, spec: str) -> str:
        return "[redacted]"
