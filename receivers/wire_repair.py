"""Reads the JSON that Dagster's own reader takes and a strict parser refuses.

Dagster writes and reads with Python's `json`: `NaN` and `Infinity` literals (a mean of nothing), lone surrogates (a
file name that was no UTF-8), integers of any size. Here they become what every backend can hold: None, U+FFFD, float.
This is the slow way; the decoder comes here only when the fast one has failed.
"""

import json
from decimal import Decimal
from typing import Final

from pipeline.facts import Json

DEEPEST = 64
"""Nesting below this depth is cut off (None): encoders downstream recurse, and would give up on the whole record."""

LATEST_S: Final = 2**32
"""No event is later than this Unix second (the year 2106): nanoseconds, and sums of two of them, fit 64 bits."""

_SMALLEST, _LARGEST = -(2**63), 2**64


def parsed(raw: bytes) -> object:
    """The value of a JSON text, as Python's `json` reads it.

    Raises ValueError (no JSON, no UTF-8) and RecursionError (nested too deeply for the reader itself).
    """
    value: object = json.loads(raw.decode())
    return value


def lenient(raw: bytes) -> Json:
    """The same made plain, see `clean`. Raises as `parsed` does."""
    return clean(parsed(raw))


def clean(value: object, depth: int = 0) -> Json:
    """The same value with finite floats, integers of 64 bits, encodable text, and no deeper than `DEEPEST`."""
    if isinstance(value, str):
        return text(value)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return number(value)
    if isinstance(value, float):
        return value if value - value == 0 else None
    if depth >= DEEPEST:
        return None
    if isinstance(value, list):
        return [clean(item, depth + 1) for item in value]
    if isinstance(value, dict):
        return {text(str(key)): clean(item, depth + 1) for key, item in value.items()}
    return None


def number(value: int) -> int | float | None:
    """An integer that fits 64 bits, else the nearest float, None where there is none."""
    if _SMALLEST <= value < _LARGEST:
        return value
    try:
        return float(value)
    except OverflowError:
        return None


def nanos(seconds: float, record_ns: int) -> int:
    """Unix seconds as nanoseconds: exactly those that the shortest decimal text of `seconds` says.

    A time that cannot be (NaN, infinite, before 1970, after 2106) gives way to the record's own time `record_ns`
    where the carrier has one (> 0), else to the nearest that can be; NaN is then 1970.
    """
    if 1_073_741_824.0 <= seconds < 2_147_483_648.0:  # floats: compared with an integer each side takes 30 ns more
        # Doubles of this size (2004 … 2038) are 238 ns apart: their shortest text has seven decimals (the nearest
        # 100 ns), or six where a whole microsecond is that double too. A product with 1e9 would not be exact.
        whole = int(seconds)
        tenths = round((seconds - whole) * 1e7)
        last = tenths % 10
        if last == 1 or last == 9:
            micros = (tenths + 5) // 10
            if whole + micros / 1e6 == seconds:
                tenths = micros * 10
        return whole * 1_000_000_000 + tenths * 100
    if 0 <= seconds < LATEST_S:
        return int((Decimal(repr(seconds)) * 1_000_000_000).to_integral_value())
    if record_ns > 0:
        return record_ns
    return LATEST_S * 1_000_000_000 if seconds >= LATEST_S else 0


def text(value: str) -> str:
    """Text that can be encoded: lone surrogates become U+FFFD."""
    if value.isascii():
        return value
    return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
