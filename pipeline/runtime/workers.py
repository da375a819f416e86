"""`dagtel run --workers N`: one supervisor, and N daemons that share the work among them.

The supervisor does none of the work itself: it starts the workers, passes signals on, and starts again who ends
unasked. Who does what is Kafka's to say (the consumer group), and who may write the database's (owner epochs), so that
the workers of one machine are to one another what those of several machines are.

- A worker that ends unasked is started again after `WAITS_S`. One that dies again and again without living for
  `STEADY_S` in between needs a person: then all are stopped, and whoever runs the supervisor sees its exit code.
- A configuration that a worker cannot begin with (an address that is taken) ends all at once, with 2.
- SIGHUP, SIGTERM and SIGINT go to all. Workers have sessions of their own: a terminal's Ctrl-C reaches them once, from
  here.
- A supervisor that is killed leaves nobody behind: each worker holds the read end of a pipe, and stops at its end.
"""

import logging
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from subprocess import PIPE

import anyio
import msgspec
from anyio.abc import Process, TaskStatus

log = logging.getLogger("dagtel.workers")

WAITS_S = (0.5, 1.0, 2.0, 5.0)
"""How long a worker that died stays down, the first time and then again; after as many it is given up."""
STEADY_S = 60.0
"""A worker that lived so long begins again with the first of these waits."""
WRONG_CONFIGURATION = 2
FAILED = 1


class _Life(msgspec.Struct):
    """One worker: its process now, how often it died in a row, how often it was started."""

    number: int
    process: Process | None = None
    deaths: int = 0
    starts: int = 0


class Supervisor:
    """Runs `command`, with `--worker NUMBER` behind it, so many times. `run` gives the exit code of all."""

    def __init__(self, command: Sequence[str], workers: int, waits_s: Sequence[float] = WAITS_S) -> None:
        self._command, self._waits_s = list(command), waits_s
        self._lives = [_Life(number) for number in range(1, workers + 1)]
        self._stopping, self._starting = anyio.Event(), anyio.Lock()
        self._code = 0

    async def run(self) -> int:
        """Until all have ended: because of a signal, because their input is at its end, or because one cannot be kept
        alive. 0 if each ended well when it was told to, else 1, or 2 where the configuration was at fault."""
        async with anyio.create_task_group() as listening:
            await listening.start(self._listen)
            async with anyio.create_task_group() as keeping:
                for life in self._lives:
                    keeping.start_soon(self._keep, life)
            listening.cancel_scope.cancel()
        log.info("All workers have ended.", extra={"code": self._code})
        return self._code

    async def _keep(self, life: _Life) -> None:
        """One worker, life after life."""
        while not self._stopping.is_set():
            began = anyio.current_time()
            code = await self._live(life)
            if self._stopping.is_set() or code == 0:
                self._note(0 if code in (0, -signal.SIGTERM) else FAILED)
                return
            life.deaths = 1 if anyio.current_time() - began >= STEADY_S else life.deaths + 1
            if code == WRONG_CONFIGURATION and life.starts == 1:
                self._give_up(life, code)
                return
            if life.deaths > len(self._waits_s):
                self._give_up(life, code)
                return
            wait = self._waits_s[life.deaths - 1]
            facts = {"number": life.number, "code": code, "wait_secs": wait}
            log.error("A worker has ended by itself; starting it again.", extra=facts)
            with anyio.move_on_after(wait):
                await self._stopping.wait()

    async def _live(self, life: _Life) -> int:
        """From a worker's start to its end; gives its exit code, negative for a signal."""
        life.starts += 1
        command = [*self._command, "--worker", str(life.number)]
        async with self._starting:  # one at a time: each puts back the mask that it found
            with _hangups_held():
                process = await anyio.open_process(
                    command, stdin=PIPE, stdout=None, stderr=None, start_new_session=True
                )
        async with process:
            life.process = process
            log.info("Worker started.", extra={"number": life.number, "pid": process.pid})
            if self._stopping.is_set():  # meanwhile
                process.send_signal(signal.SIGTERM)
            try:
                return await process.wait()
            finally:
                life.process = None

    def _give_up(self, life: _Life, code: int) -> None:
        log.error(
            "A worker cannot be kept alive: stopping all.",
            extra={"number": life.number, "code": code, "deaths": life.deaths},
        )
        self._note(WRONG_CONFIGURATION if code == WRONG_CONFIGURATION else FAILED)
        self._stop()

    def _note(self, code: int) -> None:
        self._code = max(self._code, code)

    # --- signals ---

    async def _listen(self, *, task_status: TaskStatus[None]) -> None:
        with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as received:
            task_status.started()
            async for number in received:
                if number == signal.SIGHUP:
                    self._tell(signal.SIGHUP)
                else:  # the second one, too: workers then end at once
                    self._stop()

    def _stop(self) -> None:
        self._stopping.set()
        self._tell(signal.SIGTERM)

    def _tell(self, number: signal.Signals) -> None:
        for life in self._lives:
            if life.process is not None and life.process.returncode is None:
                life.process.send_signal(number)


@contextmanager
def _hangups_held() -> Iterator[None]:
    """What is started in between begins with SIGHUP held back: none kills it before it listens. See `attach`."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def attach() -> None:
    """The worker's side, once it listens to SIGHUP: let held ones come, and stop when the supervisor is gone."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGHUP])
    threading.Thread(target=_stop_with_the_supervisor, name="supervisor", daemon=True).start()


def _stop_with_the_supervisor() -> None:
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
