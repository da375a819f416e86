"""The daily list of what is still broken: what is no more repeated is not forgotten."""

from collections.abc import Iterable
from functools import lru_cache
from typing import Final

from pipeline.components import State, Table
from pipeline.cron import Cron
from pipeline.signals import Alert
from processors.alert_members import member
from processors.alert_state import Life

LISTED: Final = 100
"""Problems that the list names."""


class DailyList:
    """In state: since when there is something to list, or when it was listed last."""

    def __init__(self, state: State, cron: Cron) -> None:
        self._at: Table[str, int] = state.table("listed", str, int, version=1)
        self._after = lru_cache(1)(cron.after)  # asked for with each finding, for the same time

    def watch(self, life: Life, now_ns: int) -> None:
        """A life has changed: if it is chronic there is something to list."""
        if life.chronic and "at" not in self._at:
            self._at.put("at", now_ns)

    def due(self) -> int | None:
        """When the next list is due."""
        at = self._at.get("at")
        return None if at is None else self._after(at)

    def on_time(self, lives: Iterable[tuple[str, Life]], now_ns: int) -> Alert | None:
        """All that is chronic, in one notification; none, and no further list, if nothing is."""
        chronic = [life for _, life in lives if life.chronic and life.failing]
        if not chronic:
            self._at.delete("at")
            return None
        self._at.put("at", now_ns)
        chronic.sort(key=lambda life: (life.first_ns, life.fingerprint))
        return Alert(
            kind="still_broken",
            state="digest",
            severity="WARNING",
            fingerprint="still_broken",
            now_ns=now_ns,
            first_ns=min(life.first_ns for life in chronic),
            last_ns=max(life.last_ns for life in chronic),
            title="Still Broken",
            count=len(chronic),
            key=f"still_broken#{now_ns}",
            reason="chronic",
            members=tuple(member(life.finding, life.key, "failing", life.total) for life in chronic[:LISTED]),
            members_total=len(chronic),
        )
