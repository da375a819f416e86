"""Any Python value → what a log line (JSON) or a span attribute can hold. Pure, bounded, and never raises.

What user code hands in may be anything: a value that cannot be read costs its own text, never the step that logs it.
"""

import json
import math
from collections.abc import Mapping, Sequence, Set
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import TypeAlias

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"
Attribute: TypeAlias = str | bool | int | float | Sequence[str] | Sequence[bool] | Sequence[int] | Sequence[float]

MAX_TEXT = 4096
MAX_ITEMS = 100
MAX_DEPTH = 6
_INT64 = 2**63


def plain(value: object, depth: int = 0) -> Json:
    """A JSON value. Texts are cut at 4096 characters, collections at 100 items, nesting at 6 levels.

    Dates are ISO 8601, time spans seconds, decimals numbers, bytes text, enums their value, numpy scalars the number
    they hold; numbers that JSON cannot carry (NaN, beyond 64 bits) are text, and so is all else.
    """
    try:
        return _plain(value, depth)
    except Exception:  # noqa: BLE001 - user objects raise whatever they like; a log call must not
        return text(value)


def _plain(value: object, depth: int) -> Json:
    match value:
        case Enum():
            return plain(value.value, depth + 1) if depth < MAX_DEPTH else text(value)
        case None | bool():
            return value
        case str():
            return clean(value)
        case int():
            return int(value) if -_INT64 <= value < _INT64 else clean(str(value))
        case float():
            return float(value) if math.isfinite(value) else str(float(value))
        case Decimal():
            return float(value) if value.is_finite() else str(value)
        case datetime() | date() | time():
            return value.isoformat()
        case timedelta():
            return value.total_seconds()
        case bytes() | bytearray() | memoryview():
            return clean(bytes(value[: MAX_TEXT * 4]).decode(errors="replace"))
        case BaseException():
            return clean(f"{type(value).__name__}: {text(value)}")
    return _collection(value, depth)


def _collection(value: object, depth: int) -> Json:
    if depth >= MAX_DEPTH:
        return text(value)
    if isinstance(value, Mapping):
        return {clean(str(k)): plain(v, depth + 1) for (k, v), _ in zip(value.items(), range(MAX_ITEMS), strict=False)}
    if isinstance(value, Sequence | Set):
        return [plain(item, depth + 1) for item, _ in zip(value, range(MAX_ITEMS), strict=False)]
    item = getattr(value, "item", None)
    if callable(item) and getattr(value, "shape", None) == ():  # a numpy (or jax, torch) scalar
        return plain(item(), depth + 1)
    return text(value)


def attribute(value: object) -> Attribute | None:
    """What OpenTelemetry takes as a span attribute; None (nothing to set) for None.

    Lists of one kind stay lists, mixed ones become lists of texts, nested values JSON.
    """
    simple = plain(value)
    match simple:
        case None | str() | bool() | int() | float():
            return simple
        case list():
            return _listed(simple)
    return clean(json.dumps(simple, ensure_ascii=False))


def _listed(items: list[Json]) -> Attribute:
    for kind in (bool, int, float, str):
        if all(type(item) is kind for item in items):
            return items  # type: ignore[return-value]  # just checked, which mypy cannot follow through `kind`
    return [item if isinstance(item, str) else clean(json.dumps(item, ensure_ascii=False)) for item in items]


def text(value: object) -> str:
    """`str` of an exception, `repr` of anything else; says so when the object cannot be printed."""
    try:
        return clean(str(value) if isinstance(value, BaseException) else repr(value))
    except Exception:  # noqa: BLE001 - as above
        return f"<unprintable {type(value).__name__}>"


def clean(value: str, limit: int = MAX_TEXT) -> str:
    """Cut to `limit`, and without lone surrogates, which neither UTF-8 nor protobuf can carry."""
    cut = value if len(value) <= limit else value[: limit - 1] + "…"
    return str(cut) if cut.isascii() else cut.encode("utf-8", "replace").decode()
