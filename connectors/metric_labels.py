"""Label values: names from user code, made fit to be labels. Pure."""

import re
from hashlib import sha256

MOST = 256
"""Characters of a label value at most."""

# What a terminal, a line of text or UTF-8 stumbles over: control characters, line separators, lone surrogates.
_UNFIT = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def label_value(text: str) -> str:
    """The text, if it is fit; else without control characters, cut at 256 characters and told apart by a digest."""
    if len(text) <= MOST and text.isprintable():
        return text
    plain = _UNFIT.sub("\ufffd", text)
    if plain == text and len(text) <= MOST:
        return text
    mark = sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:12]
    return f"{plain[: MOST - len(mark) - 1]}~{mark}"
