"""How memory is given out: what is very large by itself, one heap for all threads, and all else in huge pages.

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
33.5, median of nine rounds in turn; the peak is the same).

All of it, and the interpreter's objects, lie in pages of 2 MiB where the system has such (docs/decisions/0019): the
processor's table of pages reaches over 8 MiB of small ones, and a batch and what is remembered are ten times as much.
The heap is taken ROOM at a time, for only what has not been touched yet comes in huge pages at once.
"""

import ctypes
from typing import Any, Final

from pipeline.native import HAS_NATIVE, native

LARGE: Final = 8 << 20
"""Bytes from which on a piece is mapped by itself."""

KEPT: Final = 64 << 20
"""Bytes at the heap's end that are kept for the next batch."""

ROOM: Final = 64 << 20
"""Bytes by which the heap grows; addresses alone, until they are touched."""

_HUGE: Final = 2 << 20
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -2, -3, -8
_MADV_HUGEPAGE: Final = 14


class Heap:
    """The C library's heap. Where it knows no such settings (musl, macOS) nothing is done.

    Environment variables of glibc (MALLOC_MMAP_THRESHOLD_ and others) give way to these.
    """

    def __init__(self) -> None:
        self._libc: Any = None
        self._end = 0

    def keep_whole(self) -> bool:
        """Set how memory is given out, and have what comes next in huge pages; False where that cannot be set."""
        libc = self._libc = _glibc()
        settings = (_M_MMAP_THRESHOLD, LARGE), (_M_TRIM_THRESHOLD, KEPT), (_M_TOP_PAD, ROOM), (_M_ARENA_MAX, 1)
        if libc is None or any(libc.mallopt(name, value) != 1 for name, value in settings):
            return False
        if HAS_NATIVE:
            native.arenas_in_huge_pages()
        self._end = libc.sbrk(0)
        libc.free(libc.malloc(LARGE - _HUGE))  # more than is left at its end: it grows
        self.follow()
        return True

    def follow(self) -> None:
        """Have in huge pages by how much the heap has grown; after each checkpoint, and hardly ever anything to do."""
        if not self._end or (now := self._libc.sbrk(0)) == self._end:
            return
        first = -(-self._end // _HUGE) * _HUGE
        if now > first:
            self._libc.madvise(first, now - first, _MADV_HUGEPAGE)  # refused where there are none
        self._end = now


HEAP: Final = Heap()
"""That of this process, which has one."""


def _glibc() -> Any:
    """The C library, if it is glibc."""
    try:
        libc = ctypes.CDLL(None)
        libc.mallopt, libc.gnu_get_libc_version  # noqa: B018  # AttributeError where there is none
    except (AttributeError, OSError, TypeError):
        return None
    libc.malloc.restype = libc.sbrk.restype = ctypes.c_void_p
    libc.malloc.argtypes = [ctypes.c_size_t]
    libc.free.argtypes = [ctypes.c_void_p]
    libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    return libc
