"""The options of `freshness`, and what is wrong with them."""

from collections.abc import Iterator

import msgspec

from connectors.sla import SlaOption
from pipeline.clock import DAY
from pipeline.conditions import url_problems
from pipeline.options import Duration


class FreshnessConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Finds assets that are later than promised (`sla_breach`) and that fail more often (`availability_breach`).

    Stands at the end of an events pipeline behind `run_ledger` (and `enrichment`, for Dagster's freshness policies,
    owners and overrides), and begins an alerts pipeline, a metrics pipeline, or both. docs/sources.md explains it.
    """

    sla: dict[str, SlaOption] = {}
    """Service levels by asset key or pattern (`raw/*`): `orders: {freshness: "2 hours", availability: "99.9%"}`."""
    policies: bool = True
    """Keep watch over the freshness policies that assets have in Dagster, too."""
    dagster_states: bool = True
    """Take Dagster's own word (FRESHNESS_STATE_CHANGE) for assets whose target is not in `sla`. A breach that both
    notice is told once."""
    critical_after: float = 2.0
    """So many times the target late is CRITICAL; at the target it is WARNING. 0: never."""
    again: Duration = Duration("6h")
    """A breach that lasts is found again this often: by that it persists, and `dedup` escalates it. 0: never."""
    availability_window: Duration = Duration("30d")
    """The time over which availability is promised and the error budget is spent."""
    gone_after: Duration = Duration("1h")
    """A policy ends this long after its asset left the asset graph, if it has not come back."""
    every: Duration = Duration("15s")
    """How often figures that change by time alone (ages, budgets) are given."""
    deployment: str = ""
    """Name of the deployment (`prod`): part of fingerprints, and a label on every series."""
    dashboard_url: str = ""
    """Where an asset can be seen: `https://dagster.example.com/assets/{asset}`."""
    max_assets: int = 50_000
    """Assets that are watched at most."""
    max_partitions: int = 100_000
    """Partitions that are watched at most, of assets whose SLA is for each partition."""

    def problems(self) -> Iterator[tuple[str, str]]:
        """Path and message of each fault."""
        if self.critical_after and self.critical_after <= 1:
            yield "critical_after", "must be more than 1 (times the target), or 0 for never"
        if self.again and self.again < 60:
            yield "again", "must be at least a minute, or 0 for never"
        if not DAY <= self.availability_window.ns <= 90 * DAY:
            yield "availability_window", "must be from 1 to 90 days"
        if self.every < 1:
            yield "every", "must be at least `1s`"
        for name in ("max_assets", "max_partitions"):
            if getattr(self, name) < 1:
                yield name, "must be at least 1"
        yield from url_problems("dashboard_url", self.dashboard_url)
