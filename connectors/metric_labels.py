"""Labels of samples: names from user code, made fit to be label values, and sorted by label. Pure."""

import re
from collections.abc import Callable, Sequence
from hashlib import sha256

from pipeline.signals import Labels

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


def labels_of(names: Sequence[str], extra: Labels) -> Callable[[tuple[str, ...]], Labels]:
    """What gives the labels of a series, from its key: the metric's name, then the values of the labels `names`.

    Their order is the same for all series of a metric, so it is found once: nothing is sorted for each sample.
    """
    if len(names) == 1 and not extra:  # most series: 0.7 → 0.1 µs
        only = names[0]
        return lambda key: ((only, key[1]),)
    values = tuple(value for _, value in extra)
    places = sorted((name, at) for at, name in enumerate((*names, *(name for name, _ in extra)), start=1))

    def labels(key: tuple[str, ...]) -> Labels:
        row = key + values
        return tuple([(name, row[at]) for name, at in places])

    return labels
