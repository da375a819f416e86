"""Says that no input is taken, and why: as a status, which logs it once, however often it comes and goes.

A full outbox frees a little room with each payload that gets out, and is full again with the next read. So the brake is
said to be off only once it has been off for a while.
"""

from collections.abc import Callable
from typing import Final

import anyio

from pipeline.runtime.status import Status, Statuses

INTAKE: Final = "service.intake"
LOOK_S = 1.0
CALM_S = 10.0
"""Off for so long, it is over."""


class Brake:
    """`look` from time to time, with the reason for taking no input ("" while there is none)."""

    def __init__(self, statuses: Statuses, calm_s: float = CALM_S) -> None:
        self._statuses, self._calm_s = statuses, calm_s
        self._last_s = float("-inf")
        """When it was last seen on."""

    def look(self, reason: str, now_s: float) -> None:
        """Note what is so now."""
        if reason:
            self._last_s = now_s
            self._statuses.set(INTAKE, Status.RECOVERABLE, f"no input is taken: {reason}")
        elif now_s - self._last_s >= self._calm_s:
            self._statuses.set(INTAKE, Status.OK)

    async def run(self, reason: Callable[[], str]) -> None:
        """Look again and again until cancelled."""
        while True:
            self.look(reason(), anyio.current_time())
            await anyio.sleep(LOOK_S)
