"""Large pieces of memory go back whole, whatever was freed before."""

import platform
import subprocess
import sys

import pytest

_PROBE = """
import re
from pathlib import Path
from pipeline.runtime.allocator import keep_whole

def resident():
    return int(re.search(r"VmRSS:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) // 1024

assert keep_whole()
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
