"""Large pieces of memory go back whole, whatever was freed before; small ones lie in huge pages."""

import platform
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.native import HAS_NATIVE

_PROBE = """
import re
from pathlib import Path
from pipeline.runtime.allocator import HEAP

def resident():
    return int(re.search(r"VmRSS:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) // 1024

assert HEAP.keep_whole()
room = [b"x" * (7 << 20) for _ in range(9)]  # what is left at the heap's end is for all
bytes(16 << 20)  # glibc would take the next ones, up to this size, from its heap
large, small = [], []
for _ in range(6):
    large.append(b"x" * (12 << 20))
    small.append(b"x" * 100_000)  # keeps holes apart, and the end of the heap where it is
before = resident()
del large
print(before - resident())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_what_is_large_is_given_back_when_it_is_freed() -> None:
    freed = subprocess.run([sys.executable, "-c", _PROBE], capture_output=True, text=True, check=True).stdout
    assert int(freed) >= 60


_HUGE_PROBE = """
import re
from pathlib import Path
from pipeline.runtime.allocator import HEAP

def huge():
    return sum(int(kb) for kb in re.findall(r"AnonHugePages:\\s+(\\d+)", Path("/proc/self/smaps").read_text())) // 1024

assert HEAP.keep_whole()
heap = [b"x" * 100_000 for _ in range(300)]
print(huge())
objects = [(number, str(number)) for number in range(300_000)]
print(huge())
heap += [b"x" * 100_000 for _ in range(600)]
HEAP.follow()  # what it grew by since is taken when it is touched
heap += [b"x" * 100_000 for _ in range(600)]
print(huge())
del objects, heap
HEAP.follow()
print(len([str(number) for number in range(300_000)]))
"""


def _has_huge_pages() -> bool:
    switch = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    return platform.libc_ver()[0] == "glibc" and switch.is_file() and "[never]" not in switch.read_text()


@pytest.mark.skipif(not _has_huge_pages(), reason="no huge pages here")
def test_the_heap_and_objects_lie_in_huge_pages() -> None:
    told = subprocess.run([sys.executable, "-c", _HUGE_PROBE], capture_output=True, text=True, check=True).stdout
    heap, objects, grown, count = map(int, told.split())
    assert heap >= 24  # of 30 MB
    assert objects >= heap + 30 or not HAS_NATIVE  # of 35 MB
    assert grown >= objects + 50  # of 120 MB, half of which came before it was told
    assert count == 300_000
