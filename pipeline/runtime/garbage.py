"""Cycles that libraries leave behind, freed between two checkpoints.

Nothing of ours needs the collector, but each call over HTTP leaves some 70 objects in cycles (httpx, httpcore,
tenacity). Python collects once more objects have been made than have gone, and its bound must be above what a batch in
hand holds, or each batch is looked at for nothing (`pipeline.runtime.launch`): so it came after a million events,
when 6 MiB lay about. A checkpoint that was written is a better moment to ask.
"""

import gc
from typing import Final

DUE: Final = 10_000
"""Objects more than at the last collection for which one is due: those of what was read meanwhile are among them."""
_OLDER: Final = 8
"""Each so manieth collection looks at an older generation, too."""


class Garbage:
    """Asked again and again, `collect` frees what it is worth to look for."""

    def __init__(self) -> None:
        self._times = 0

    def collect(self) -> None:
        """Collect what is young, now and then what is older, where there is enough of it."""
        if not gc.isenabled() or gc.get_count()[0] < DUE:
            return
        self._times += 1
        gc.collect(2 if self._times % _OLDER**2 == 0 else 1 if self._times % _OLDER == 0 else 0)
