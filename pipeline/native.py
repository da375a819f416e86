"""The door to `dagtel-native`: compiled twins of the hottest functions, where that distribution is installed.

A twin does what is common and gives None for all else, which the Python function beside it then does; that one alone
says what is right, and does everything where there are no twins: without the distribution, with one of another
version, or with `DAGTEL_NATIVE=0`. See docs/decisions/0017-compiled-twins.md.
"""

import os
from typing import Final

try:
    import dagtel_native as native

    _FOUND = native.VERSION
except ImportError:
    _FOUND = ""
    native = None  # type: ignore[assignment]  # asked for by HAS_NATIVE

VERSION: Final = "0.5.0"
"""The one that fits: twins know the fields of our Structs."""

_IS_WANTED: Final = os.environ.get("DAGTEL_NATIVE", "1") != "0"

HAS_NATIVE: Final = _FOUND == VERSION and _IS_WANTED
"""Whether the twins are used."""


def told() -> str:
    """Which twins are used, or why none are, for the log."""
    if not _FOUND:
        return "not installed"
    if not _IS_WANTED:
        return "off (DAGTEL_NATIVE=0)"
    return _FOUND if HAS_NATIVE else f"not used: {_FOUND} is there, {VERSION} fits"


__all__ = ["HAS_NATIVE", "VERSION", "native", "told"]
