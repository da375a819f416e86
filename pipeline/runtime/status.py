"""What each component is up to, for `/readyz`, the log and later the page. Source: the Collector's componentstatus."""

import logging
from enum import Enum

log = logging.getLogger("dagtel.status")


class Status(str, Enum):
    """The Collector's states, in our words."""

    STARTING = "starting"
    OK = "ok"
    RECOVERABLE = "recoverable error"
    PERMANENT = "permanent error"
    STOPPED = "stopped"


_ALLOWED: dict[Status, frozenset[Status]] = {
    Status.STARTING: frozenset(Status),
    Status.OK: frozenset({Status.OK, Status.RECOVERABLE, Status.PERMANENT, Status.STOPPED}),
    Status.RECOVERABLE: frozenset({Status.OK, Status.RECOVERABLE, Status.PERMANENT, Status.STOPPED}),
    Status.PERMANENT: frozenset({Status.PERMANENT, Status.STOPPED}),
    Status.STOPPED: frozenset({Status.STOPPED, Status.STARTING}),
}


class Statuses:
    """The status of every component, by `kind.id` ("exporters.loki"), with the reason of a bad one."""

    def __init__(self) -> None:
        self._now: dict[str, tuple[Status, str]] = {}

    def set(self, component: str, status: Status, reason: str = "") -> None:
        """Note a change; an illegal one (out of a permanent error) is ignored. Logged once a change."""
        old, old_reason = self._now.get(component, (Status.STARTING, ""))
        if status not in _ALLOWED[old] or (status, reason) == (old, old_reason):
            return
        self._now[component] = (status, reason)
        if status is old:
            return
        level = logging.INFO if status in (Status.OK, Status.STARTING, Status.STOPPED) else logging.WARNING
        if old in (Status.STARTING, Status.OK) and status in (Status.OK, Status.STOPPED):
            level = logging.DEBUG
        facts = {"component": component, "status": status.value, "reason": reason}
        log.log(level, "Component status changed.", extra=facts)

    def drop(self, component: str) -> None:
        """It is gone, or begins anew."""
        self._now.pop(component, None)

    def of(self, component: str) -> tuple[Status, str]:
        """The status of one component and its reason."""
        return self._now.get(component, (Status.STARTING, ""))

    def all(self) -> dict[str, tuple[Status, str]]:
        """All of them."""
        return dict(self._now)
