"""The demo's processes: started with a log file each, watched, and all gone when the demo is."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

STOP_S = 8.0


class ChildDied(Exception):
    """A process that should be there is not; the text says which, and the end of its log."""


class Child:
    """One process in a session of its own, so that Ctrl-C reaches only us and its whole group can be ended."""

    def __init__(
        self, name: str, command: Sequence[str], env: Mapping[str, str], log: Path, on_line: Callable[[str], None]
    ) -> None:
        self.name = name
        self.log = log
        with log.open("wb") as file:
            self._process = subprocess.Popen(
                command,
                env={**os.environ, **env},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=file,
                start_new_session=True,
                text=True,
                encoding="utf-8",
                errors="replace",
            )
        self._reader = threading.Thread(target=self._read, args=(on_line,), name=f"read-{name}", daemon=True)
        self._reader.start()

    def _read(self, on_line: Callable[[str], None]) -> None:
        stdout = self._process.stdout
        assert stdout is not None
        with stdout:
            for line in stdout:
                on_line(line.rstrip("\n"))

    def code(self) -> int | None:
        """Its exit code; None while it runs."""
        return self._process.poll()

    def check(self) -> None:
        """Raises ChildDied when it has ended."""
        code = self.code()
        if code is not None:
            tail = self.log.read_text(errors="replace").splitlines()[-15:]
            raise ChildDied(f"{self.name} ended with {code}\n" + "\n".join(f"  {line}" for line in tail))

    def signal(self, number: signal.Signals) -> None:
        """Signal its whole group; that it is gone already is fine."""
        try:
            os.killpg(self._process.pid, number)
        except ProcessLookupError:
            pass

    def wait(self, until: float) -> bool:
        """Whether it ended before the monotonic time `until`."""
        try:
            self._process.wait(max(0.0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            return False
        self._reader.join(1)
        return True


class Children:
    """Starts processes, and ends them last one first."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._all: list[Child] = []

    def start(
        self,
        name: str,
        command: Sequence[str],
        env: Mapping[str, str],
        on_line: Callable[[str], None] = lambda line: None,
    ) -> Child:
        """A new process. `on_line` is called with each line of its stdout, on another thread; its stderr goes to
        NAME.log in the demo's folder.
        """
        child = Child(name, command, env, self._folder / f"{name}.log", on_line)
        self._all.append(child)
        return child

    def __enter__(self) -> "Children":
        return self

    def __exit__(self, *_: object) -> None:
        """Ask each to stop, give all of them a few seconds together, then end what is left of their groups."""
        until = time.monotonic() + STOP_S
        for child in reversed(self._all):
            child.signal(signal.SIGTERM)
            child.wait(until)
        for child in self._all:
            child.signal(signal.SIGKILL)
            child.wait(time.monotonic() + 1)
