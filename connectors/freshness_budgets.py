"""The error budgets of all assets: their executions in state, when each is looked at again, and what is told of it.

`connectors.sla_budget` decides for one.
"""

from collections.abc import Callable, Iterator
from typing import Any, Final

import msgspec

from connectors import sla_budget
from connectors.freshness_options import FreshnessConfig
from connectors.freshness_promises import Promises
from connectors.freshness_watch import LEAD_NS
from connectors.sla_budget import Executions
from connectors.timers import Timers
from pipeline.components import State, Table
from pipeline.conditions import Conditions, Of
from pipeline.signals import Alert

_RANKS: Final = ("", "INFO", "WARNING", "ERROR", "CRITICAL")
_SEVERITIES: Final[dict[str, Any]] = {rank: rank for rank in _RANKS}


class Budgets:
    """`noted` is told each asset that has a budget from now on."""

    def __init__(
        self,
        config: FreshnessConfig,
        state: State,
        promises: Promises,
        findings: Conditions,
        noted: Callable[[str], None],
    ) -> None:
        self._executions: Table[str, Executions] = state.table("executions", str, Executions, version=1)
        self._promises, self._findings, self._noted = promises, findings, noted
        self._most, self._again_ns = config.max_assets, config.again.ns
        self._window_ns = config.availability_window.ns
        self.timers: Timers[str] = Timers(
            lambda: ((row.due_ns, asset) for asset, row in self._executions.items()),
            lambda asset: row.due_ns if (row := self._executions.get(asset)) else None,
        )
        self.reckon()

    def reckon(self) -> None:
        """What is kept beside the table, from the table."""
        for asset, _ in self._executions.items():
            self._noted(asset)

    def executed(self, asset: str, failed: bool, now_ns: int) -> list[Alert]:
        """One execution more, if an availability is promised."""
        if self._promises.share(asset) is None:
            return []
        row = self._executions.get(asset)
        if row is None:
            if len(self._executions) >= self._most:
                return []
            self._noted(asset)
        self._executions.put(asset, sla_budget.counted(row or Executions(), failed, now_ns, self._window_ns))
        return self._spending(asset, now_ns)

    def wiped(self, asset: str, now_ns: int) -> list[Alert]:
        """It was wiped: its executions are forgotten."""
        row = self._executions.get(asset)
        if row is None:
            return []
        self._executions.delete(asset)
        return [self._findings.recovered("availability_breach", Of(asset), now_ns)] if row.told else []

    def over(self, now_ns: int) -> list[Alert]:
        """What comes of those that are to be looked at by now."""
        return [alert for asset in self.timers.over(now_ns) for alert in self._spending(asset, now_ns)]

    def figures(self, asset: str, now_ns: int) -> Iterator[tuple[str, float]]:
        """What is promised and what is left of it."""
        share, row = self._promises.share(asset), self._executions.get(asset)
        if share is not None:
            yield "asset_sla_availability_target_ratio", share
            good, bad = sla_budget.totals(row, now_ns, self._window_ns) if row else (0, 0)
            if good + bad:
                yield "asset_sla_availability_ratio", good / (good + bad)
                yield "asset_sla_error_budget_remaining_ratio", sla_budget.remaining(good, bad, share)

    def _spending(self, asset: str, now_ns: int) -> list[Alert]:
        row, share = self._executions.get(asset), self._promises.share(asset)
        if row is None:
            return []
        burn = sla_budget.burning(row, share, now_ns, self._window_ns) if share is not None else None
        of, given = Of(asset), list[Alert]()
        if burn is not None and share is not None:
            severity, again_ns = burn.rule.severity, self._again_ns
            worse = _RANKS.index(severity) > _RANKS.index(row.told)
            if worse or (again_ns and row.told_ns + again_ns <= now_ns):
                words = sla_budget.in_words(row, burn, share, now_ns, self._window_ns)
                told = severity if worse else row.told
                finding = self._findings.failing(
                    "availability_breach", _SEVERITIES[told], "Availability SLA Breached", words, of, now_ns,
                    facts=self._promises.facts(asset),
                )  # fmt: skip
                given.append(finding)
                row = msgspec.structs.replace(row, told=told, told_ns=now_ns)
        elif row.told:
            given.append(self._findings.recovered("availability_breach", of, now_ns))
            row = msgspec.structs.replace(row, told="", told_ns=0)
        step = sla_budget.FINE_NS  # while it burns the windows move on without executions, too
        due_ns = max((now_ns // step + 1) * step, now_ns + LEAD_NS) if row.told else 0
        self._executions.put(asset, msgspec.structs.replace(row, due_ns=due_ns))
        self.timers.set(due_ns, asset)
        return given
