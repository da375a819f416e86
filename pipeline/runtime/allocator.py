"""How the C library gives memory out: what is very large by itself, and one heap for all threads.

What comes and goes by the megabyte (fetched records, payloads, the rows of a commit) leaves holes when it lies among
small pieces that stay. glibc begins so and then moves its bound up to whatever was freed last, to 32 MB. With the bound
fixed, what is larger is mapped and given back whole. Two heaps for worker threads were 10 MiB more.

Each new mapping is paid for with a page fault for every 4 KiB. At 4 MiB nobody can tell (33.2 µs of the main thread an
event, 33.4 with glibc's own way); 1 MiB costs 35.1 and 128 KiB 37.4, for some 14 and 18 MiB less at the peak of two
million events. `malloc_trim` at times gives 88 MiB back at the end of a run, but the peak is before.
"""

import ctypes
from typing import Final

LARGE: Final = 4 << 20
"""Bytes from which on a piece is mapped by itself."""

_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8


def keep_whole() -> bool:
    """Set it for this process; False where the C library knows no such thing (musl, macOS). Environment variables of
    glibc (MALLOC_MMAP_THRESHOLD_ and others) give way to it."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return all([mallopt(_M_MMAP_THRESHOLD, LARGE) == 1, mallopt(_M_ARENA_MAX, 1) == 1])
