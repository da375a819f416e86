"""How the C library gives memory out: what is very large by itself, and one heap for all threads.

What comes and goes by the megabyte (fetched records, payloads, the rows of a commit) leaves holes when it lies among
small pieces that stay. glibc begins so and then moves its bound up to whatever was freed last, to 32 MB. With the bound
fixed, what is larger is mapped and given back whole. Two heaps for worker threads were 10 MiB more.

Each new mapping is paid for with a page fault for every 4 KiB. When an event took 33 µs of the main thread nobody could
tell 4 MiB from glibc's own way; 1 MiB cost 35.1 and 128 KiB 37.4, for some 14 and 18 MiB less at the peak of two
million events. Now that it takes 13, 8 MiB is better than 4: an answer of Kafka's (4 MiB and a batch) lies below it,
which halves the page faults (0.5 to 0.25 an event, some 2 %), with the same peak. `malloc_trim` at times gives 88 MiB
back at the end of a run, but the peak is before.

With a fixed bound glibc gives what is free at the heap's end back from 128 KiB on, and takes it again for the next
batch: a page fault an event, of which 0.2 are left where it keeps KEPT (35.4 µs of the main thread an event became
33.5, median of nine rounds in turn; the peak is the same). Huge pages on top of it (MADV_HUGEPAGE on the heap) made no
difference that could be told.
"""

import ctypes
from typing import Final

LARGE: Final = 8 << 20
"""Bytes from which on a piece is mapped by itself."""

KEPT: Final = 64 << 20
"""Bytes at the heap's end that are kept for the next batch."""

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8


def keep_whole() -> bool:
    """Set it for this process; False where the C library knows no such thing (musl, macOS). Environment variables of
    glibc (MALLOC_MMAP_THRESHOLD_ and others) give way to it."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    settings = ((_M_MMAP_THRESHOLD, LARGE), (_M_TRIM_THRESHOLD, KEPT), (_M_ARENA_MAX, 1))
    return [mallopt(name, value) for name, value in settings] == [1] * len(settings)
