"""What the system asks of the daemon: to stop, and to read its configuration anew."""

import logging
import os
import signal
import sys

import anyio
from anyio.abc import TaskStatus

log = logging.getLogger("dagtel.service")


class Signals:
    """SIGTERM and SIGINT: stop, and the second time at once. SIGHUP: reload."""

    def __init__(self) -> None:
        self.stop = anyio.Event()
        self.hangup = anyio.Event()

    async def listen(self, hangups: bool, *, task_status: TaskStatus[None]) -> None:
        """Listen until cancelled; `hangups`: to SIGHUP too."""
        numbers = [signal.SIGTERM, signal.SIGINT, *([signal.SIGHUP] if hangups else [])]
        with anyio.open_signal_receiver(*numbers) as received:
            task_status.started()
            async for number in received:
                if number == signal.SIGHUP:
                    self.hangup.set()
                elif self.stop.is_set():
                    log.warning("Ending at once; what is not delivered is in the outbox.")
                    sys.stderr.flush()
                    os._exit(128 + number)  # the state is that of the last checkpoint, as after a crash
                else:
                    log.info("Stopping.", extra={"signal": signal.Signals(number).name})
                    self.stop.set()
