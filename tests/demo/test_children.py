"""No process of the demo outlives it."""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from demo.children import ChildDied, Children

PARENT_WITH_A_CHILD = """
import signal, subprocess, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print(child.pid, flush=True)
child.wait()
"""


def gone(pid: int) -> bool:
    """Also a zombie is gone: whoever adopted it has not reaped it yet."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] == "Z"


def eventually(condition: Callable[[], object], seconds: float = 10) -> bool:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if condition():
            return True
        time.sleep(0.02)
    return False


def test_a_stubborn_process_and_its_own_children_end_with_the_demo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("demo.children.STOP_S", 0.2)
    pids: list[str] = []
    with Children(tmp_path) as children:
        child = children.start("stubborn", [sys.executable, "-c", PARENT_WITH_A_CHILD], {}, pids.append)
        assert eventually(lambda: pids)
    assert child.code() is not None
    assert eventually(lambda: gone(int(pids[0])))


def test_one_that_dies_is_named_with_the_end_of_its_log(tmp_path: Path) -> None:
    with Children(tmp_path) as children:
        child = children.start("bridge", [sys.executable, "-c", "import sys; sys.exit('no such table')"], {})
        assert eventually(lambda: child.code() is not None)
        with pytest.raises(ChildDied, match="bridge ended with 1\n  no such table"):
            child.check()
