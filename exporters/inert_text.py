"""Text from events, made inert for a terminal: nothing in it moves the cursor, changes colours or turns the reading
direction, and nothing breaks the line."""

import re
from typing import Final

# C0 and C1 controls (with ESC), DEL; line and paragraph separators; bidi marks, embeddings, overrides and isolates;
# zero-width characters and the byte order mark; lone surrogates.
_HOSTILE: Final = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]")
_NAMED: Final = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def inert(text: str) -> str:
    """The text on one line; what could do something shows as an escape (`\\x1b`, `\\u202e`)."""
    return _HOSTILE.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    char = match[0]
    return _NAMED.get(char) or (f"\\x{ord(char):02x}" if ord(char) < 256 else f"\\u{ord(char):04x}")
