"""The door to `dagtel-native`: compiled twins of the hottest functions, where that distribution is installed.

A twin does what is common and gives None for all else, which the Python function beside it then does; that one alone
says what is right, and does everything where there are no twins: without the distribution, with one of another
version, or with `DAGTEL_NATIVE=0`. See docs/decisions/0017-compiled-twins.md.
"""

import os
from typing import Final

try:
    import dagtel_native as native
except ImportError:
    native = None  # type: ignore[assignment]  # asked for by HAS_NATIVE

VERSION: Final = "0.1.0"
"""The one that fits: twins know the fields of our Structs."""

HAS_NATIVE: Final = native is not None and native.VERSION == VERSION and os.environ.get("DAGTEL_NATIVE", "1") != "0"
"""Whether the twins are used."""

__all__ = ["HAS_NATIVE", "VERSION", "native"]
