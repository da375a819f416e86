"""The demo as a person runs it: it flows, and Ctrl-C leaves nothing behind. `.ci/run` plays `make demo ONCE=1`, too."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

PYTHON = os.environ.get("DAGTEL_TEST_DAGSTER_PYTHON", "")
ROOT = Path(__file__).parents[2]


def descendants(pid: int) -> set[int]:
    """The process and all below it, by /proc."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    below = {pid}
    while more := {child for child, parent in parents.items() if parent in below} - below:
        below |= more
    return below


def running(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    try:
        return stat.read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def can_play() -> bool:
    found = PYTHON and subprocess.run(
        [PYTHON, "-c", "import dagster, dagster_dagtel, opentelemetry.exporter.otlp.proto.http"], cwd="/"
    )
    return bool(found) and not found.returncode


@pytest.mark.slow
@pytest.mark.skipif(not can_play(), reason="DAGTEL_TEST_DAGSTER_PYTHON is not as demo/requirements.lock says")
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes by /proc")
def test_ctrl_c_ends_every_process_and_takes_the_files_away(tmp_path: Path) -> None:
    env = {**os.environ, "DEMO_DAGSTER_PYTHON": PYTHON, "TMPDIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-m", "demo"], cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as demo:
        assert demo.stdout is not None
        said: list[str] = []
        for line in demo.stdout:
            said.append(line)
            if "Asset Materialization Failed" in line:
                break
        started = descendants(demo.pid)
        demo.send_signal(signal.SIGINT)
        said += demo.stdout.readlines()
    assert demo.returncode == 0, "".join(said)
    assert any(line.startswith("run ") and "succeeded" in line for line in said)
    assert len(started) >= 4
    assert not [pid for pid in started if running(pid)]
    assert list(tmp_path.glob("dagtel-demo-*")) == []
