"""Puts links that act into notifications: which, for what, and until when."""

from collections.abc import Callable
from typing import Final

import msgspec

from pipeline.action_links import Act, Deed, Signer
from pipeline.channels import NOBODY
from pipeline.clock import SECOND, Clock
from pipeline.config.model import ApiConfig
from pipeline.signals import Alert

PAGE: Final = "/act/"
"""Where the pages of the links are, below `service.api.url`."""
_TOLD: Final = frozenset({"firing", "digest", "escalated", "repeated"})
_LISTS: Final = frozenset({"overflow", "still_broken"})
"""Kinds of notifications that are of many problems: there is no one thing to act on."""
_FAILED_RUNS: Final = frozenset({"asset_failure", "run_failure"})


class ActionLinks:
    """Call it with a notification. `follow` says by which settings from now on."""

    def __init__(self, api: ApiConfig, keys: Callable[[ApiConfig], Signer], clock: Clock) -> None:
        self._keys, self._clock = keys, clock
        self.follow(api)

    def follow(self, api: ApiConfig) -> None:
        """Go on with these settings."""
        self._api, self._signer = api, self._keys(api)

    def __call__(self, alert: Alert) -> Alert:
        """The notification with its links; unchanged where there is no `url`, and where nothing is left to be done.

        The links end by the wall's clock: a message may be of events of long ago.
        """
        if not self._api.url or alert.state not in _TOLD or alert.kind in _LISTS or alert.channels == (NOBODY,):
            return alert
        links = msgspec.structs.replace(alert.links, silence=self._link("silence", alert))
        if not alert.acknowledged_by:
            links = msgspec.structs.replace(links, acknowledge=self._link("acknowledge", alert))
        if alert.run_id and self._api.dagster.url and _run_failed(alert):
            links = msgspec.structs.replace(links, retry=self._link("retry", alert))
        return msgspec.structs.replace(alert, links=links)

    def _link(self, deed: Deed, alert: Alert) -> str:
        until = (self._clock.wall_ns() + self._api.link_lifetime.ns) // SECOND
        place = alert.asset or alert.step_key or alert.job or alert.title
        about = f"{alert.check} of {place}" if alert.check else place
        act = Act(deed, until, alert.key or alert.fingerprint, about, alert.run_id if deed == "retry" else "")
        return f"{self._api.url.rstrip('/')}{PAGE}{self._signer.token(act)}"


def _run_failed(alert: Alert) -> bool:
    """A check that failed is no failed run, unless it raised: Dagster re-executes failed runs alone."""
    return alert.kind in _FAILED_RUNS or (alert.kind == "check_failure" and alert.error is not None)
