"""Label values: names from user code, made fit to be labels. Pure."""

import re
from hashlib import sha256

MOST = 1024
"""Characters of a label value at most."""

# What a terminal or UTF-8 stumbles over: control characters and lone surrogates. Tabs and line ends are fit, the
# exposition format holds or escapes them: an asset's name is its name.
_UNFIT = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


def label_value(text: str) -> str:
    """The text, if it is fit; else without control characters, cut at 1024 characters and told apart by a digest."""
    if len(text) <= MOST and text.isprintable():
        return text
    plain = _UNFIT.sub("\ufffd", text)
    if plain == text and len(text) <= MOST:
        return text
    mark = sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:12]
    return f"{plain[: MOST - len(mark) - 1]}~{mark}"
