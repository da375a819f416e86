"""The supervisor of several workers, over real processes that are no daemons."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from pipeline.runtime.workers import Supervisor

pytestmark = pytest.mark.anyio

WORKER = """
import os, signal, sys, time
folder, number = sys.argv[1], sys.argv[-1]

def tell(what):
    with open(f"{folder}/{number}", "a") as file:
        file.write(what + "\\n")

def stop(*_):
    tell("stopped")
    os._exit(0)

signal.signal(signal.SIGTERM, stop)
signal.signal(signal.SIGHUP, lambda *_: tell("reloaded"))
from pipeline.runtime.workers import attach
attach()
tell(f"started {os.getpid()}")
if os.path.exists(f"{folder}/end-{number}"):
    os._exit(int(open(f"{folder}/end-{number}").read()))
while True:
    time.sleep(60)
"""


class Stage:
    """Two workers, what they told, and a supervisor of theirs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        script = folder / "worker.py"
        script.write_text(WORKER)
        self.command = [sys.executable, str(script), str(folder)]
        self.supervisor = Supervisor(self.command, 2, waits_s=(0.01, 0.01, 0.01))
        self.code: int | None = None

    def told(self, number: int) -> list[str]:
        path = self.folder / str(number)
        return path.read_text().splitlines() if path.exists() else []

    def said(self, number: int, what: str) -> int:
        return sum(line.startswith(what) for line in self.told(number))

    def pid(self, number: int) -> int:
        return int([line for line in self.told(number) if line.startswith("started")][-1].split()[1])

    def will_end(self, number: int, code: int) -> None:
        (self.folder / f"end-{number}").write_text(str(code))

    async def run(self) -> None:
        self.code = await self.supervisor.run()

    async def until(self, found: Callable[[], bool]) -> None:
        with anyio.fail_after(60):
            while not found():
                await anyio.sleep(0.01)

    async def started(self) -> None:
        await self.until(lambda: self.said(1, "started") > 0 and self.said(2, "started") > 0)


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_stop_goes_to_all_and_ends_well(stage: Stage, number: signal.Signals) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stage.run)
        await stage.started()
        os.kill(os.getpid(), number)
    assert stage.code == 0
    assert [stage.told(1)[1:], stage.told(2)[1:]] == [["stopped"], ["stopped"]]


async def test_a_hangup_goes_to_all_and_kills_none_that_does_not_listen_yet(stage: Stage) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stage.run)
        lives = stage.supervisor._lives
        await stage.until(lambda: all(life.process is not None for life in lives))
        os.kill(os.getpid(), signal.SIGHUP)  # long before Python has started in them
        await stage.until(lambda: stage.said(1, "reloaded") > 0 and stage.said(2, "reloaded") > 0)
        await stage.started()
        os.kill(os.getpid(), signal.SIGTERM)
    assert (stage.code, stage.said(1, "started"), stage.said(2, "started")) == (0, 1, 1)


async def test_a_worker_that_is_killed_is_started_again_and_the_others_go_on(stage: Stage) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stage.run)
        await stage.started()
        os.kill(stage.pid(1), signal.SIGKILL)
        await stage.until(lambda: stage.said(1, "started") == 2)
        os.kill(os.getpid(), signal.SIGTERM)
    assert (stage.code, stage.said(2, "started")) == (0, 1)


async def test_a_worker_that_dies_again_and_again_ends_all_with_1(stage: Stage) -> None:
    stage.will_end(1, 3)
    with anyio.fail_after(60):
        await stage.run()
    assert (stage.code, stage.said(1, "started"), stage.told(2)[1:]) == (1, 4, ["stopped"])


async def test_a_worker_whose_configuration_cannot_work_ends_all_with_2_at_once(stage: Stage) -> None:
    stage.will_end(2, 2)
    with anyio.fail_after(60):
        await stage.run()
    assert (stage.code, stage.said(2, "started")) == (2, 1)


async def test_workers_whose_input_is_at_its_end_are_not_started_again(stage: Stage) -> None:
    stage.will_end(1, 0)
    stage.will_end(2, 0)
    with anyio.fail_after(60):
        await stage.run()
    assert (stage.code, stage.said(1, "started"), stage.said(2, "started")) == (0, 1, 1)


async def test_a_supervisor_that_is_killed_leaves_nobody_behind(stage: Stage) -> None:
    code = (
        "import anyio, sys\n"
        "from pipeline.runtime.workers import Supervisor\n"
        "anyio.run(Supervisor(sys.argv[1:], 2).run)\n"
    )
    supervisor = subprocess.Popen([sys.executable, "-c", code, *stage.command])
    try:
        await stage.started()
    finally:
        supervisor.kill()
        supervisor.wait()
    await stage.until(lambda: [stage.told(1)[1:], stage.told(2)[1:]] == [["stopped"], ["stopped"]])
