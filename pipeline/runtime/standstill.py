"""A standstill is told: no input is taken any more, so no failure is seen, and people would take that for quiet.

It is a finding of the runtime's own (`pipeline_silent`), put into the pipelines of alerts in the driver's order, so
that it is committed, routed, counted and resolved as any other. An outbox that is full now and then is none: the brake
must be on, and no source may have gone on for a while. What it cannot tell is a state store that cannot be written,
because nothing leaves before it is committed: then `/readyz`, the log and a heartbeat that stays away say so.

Nothing is kept over a restart: whoever starts and takes input says that it is over, which is news only where the
standstill had been told.
"""

import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final, Literal

import anyio

from pipeline.clock import HOUR, SECOND, Clock
from pipeline.components import Position
from pipeline.conditions import Conditions, Of, moment
from pipeline.runtime.brake import INTAKE, LOOK_S
from pipeline.runtime.driver import Driver
from pipeline.runtime.status import Status, Statuses
from pipeline.signals import Alert

log = logging.getLogger("dagtel.standstill")

Word = Literal["", "failing", "recovered"]

KIND: Final = "pipeline_silent"
AGAIN_S: Final = HOUR / SECOND
"""What lasts is found again this often, so that it persists."""
_OF: Final = Of(thing="intake")


class Watch:
    """When to say what. `after_s`: how long it stands still before it is told; times by the monotonic clock."""

    def __init__(self, after_s: float, now_s: float) -> None:
        self._after_s = after_s
        self._moved_s = now_s
        self._told_s: float | None = None
        self._begun = False

    @property
    def since_s(self) -> float:
        """When it was last seen to move."""
        return self._moved_s

    def look(self, stopped: bool, moved: bool, now_s: float) -> Word:
        """`stopped`: the brake is on; `moved`: a source has gone on since the last look. What is to be said now."""
        if moved or not stopped:
            self._moved_s = now_s
        if not stopped:
            over = self._told_s is not None or not self._begun
            self._told_s, self._begun = None, True
            return "recovered" if over else ""
        if self._told_s is None:
            due = now_s - self._moved_s >= self._after_s
        else:
            due = not moved and now_s - self._told_s >= AGAIN_S
        if not due:
            return ""
        self._told_s = now_s
        return "failing"


class Standstill:
    """See above. `after_s` says how long it must stand still, and may change with a reload; 0: it is never told."""

    def __init__(self, driver: Driver, statuses: Statuses, clock: Clock, after_s: Callable[[], float]) -> None:
        self._driver, self._statuses, self._clock, self._after_s = driver, statuses, clock, after_s
        self._findings = Conditions()

    async def run(self) -> None:
        """Look again and again until cancelled."""
        watch, before = Watch(self._after_s(), self._clock.monotonic()), self._places()
        while True:
            await anyio.sleep(LOOK_S)
            if not self._after_s():
                continue
            status, reason = self._statuses.of(INTAKE)
            now = self._places()
            word = watch.look(status is Status.RECOVERABLE, now != before, self._clock.monotonic())
            before = now
            if word:
                await self._driver.ask(partial(self._tell, word, reason, watch.since_s))

    def _places(self) -> Mapping[str, Position]:
        return dict(self._driver.engine.positions)

    async def _tell(self, word: Word, reason: str, since_s: float) -> None:
        engine = self._driver.engine
        wall = self._clock.wall_ns()
        if word == "recovered":
            await engine.tell(self._findings.recovered(KIND, _OF, 0, wall))
            return
        since = wall - int((self._clock.monotonic() - since_s) * SECOND)
        if not await engine.tell(self.finding(reason, since)):
            log.warning(
                "That no input is taken is told nobody: no pipeline of alerts is here.", extra={"reason": reason}
            )

    def finding(self, reason: str, since_ns: int) -> Alert:
        """What people are told."""
        said = (
            f"{reason[:1].upper()}{reason[1:]}. It has stood still since {moment(since_ns)}: what fails meanwhile is "
            "told when it goes on. Nothing is lost."
        )
        return self._findings.failing(KIND, "ERROR", "Pipeline Stands Still", said, _OF, 0, since_ns)
