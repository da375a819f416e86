"""How the C library gives memory out: large pieces by themselves, and one heap for all threads.

What comes and goes by the megabyte (fetched records, payloads, the rows of a commit) leaves holes when it lies among
small pieces that stay. glibc begins so and then moves its bound up to whatever was freed last, to 32 MB; the heap grew
by 25 MiB a million events, most of it holes. With the bound fixed, a large piece is mapped and given back whole. Two
heaps for worker threads were 7 MiB more. The price is a page fault for each 4 KiB of large pieces: 1.4 an event.

Tried and left: `malloc_trim` at times (88 MiB come back at the end of a run, but the peak is before), a bound of 1 or
4 MiB (a tenth and most of the faults less, 4 and 18 MiB more).
"""

import ctypes
from typing import Final

LARGE: Final = 128 * 1024
"""glibc's own bound at a start."""

_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8


def keep_whole() -> bool:
    """Set it for this process; False where the C library knows no such thing (musl, macOS). Environment variables of
    glibc (MALLOC_MMAP_THRESHOLD_ and others) give way to it."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return all([mallopt(_M_MMAP_THRESHOLD, LARGE) == 1, mallopt(_M_ARENA_MAX, 1) == 1])
