"""What is slow: a success that took much longer than this asset usually takes.

Usual is the median of the asset's last successes, which one outlier does not move; slow successes count too, so what
stays slow becomes usual. Pure; one shard's successes are all it knows.
"""

from typing import Final

import msgspec

from pipeline import outcomes
from pipeline.components import Table
from pipeline.native import native
from pipeline.options import Duration
from pipeline.outcomes import AssetMaterialized

MAX_ASSETS: Final = 50_000
"""Assets whose usual duration is kept; further ones are never slow."""


class SlowConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When a success is called slow: `factor` times the median of the asset's last `history` successes, or more."""

    factor: float = 2.0
    """This many times the median is slow. 0: nothing ever is."""
    history: int = 20
    """How many successes of an asset are remembered."""
    at_least: int = 5
    """How many must be known before one is called slow."""
    excess: Duration = Duration("100ms")
    """And it must be this much longer than the median, so that 3 ms beside 1 ms is not slow."""

    def __post_init__(self) -> None:
        if self.factor and self.factor < 1:
            raise ValueError("factor must be 1 or more, or 0 for never")
        if not 1 <= self.at_least <= self.history <= 1000:
            raise ValueError("1 <= at_least <= history <= 1000 must hold")


class Baselines:
    """The last durations of each asset, in ns."""

    def __init__(self, config: SlowConfig, table: Table[str, tuple[float, ...]]) -> None:
        self._config, self._table = config, table
        self._factor, self._excess_ns = float(config.factor), config.excess.ns

    def is_slow(self, made: AssetMaterialized) -> bool:
        """Whether this success took much longer than those before it."""
        took, factor = made.duration_ns, self._factor
        if not factor or took is None or took < self._excess_ns:
            return False
        past = self._table.get(made.asset)
        if past is None or len(past) < self._config.at_least or took < factor * min(past):  # min: no sort as a rule
            return False
        usual = sorted(past)[len(past) // 2]
        return took >= usual * factor and took - usual >= self._excess_ns

    def learn(self, made: AssetMaterialized) -> None:
        """From now on this success is one of those before."""
        if not self._factor or made.duration_ns is None or not made.execution:
            return
        past = self._table.get(made.asset)
        if past is None and len(self._table) >= MAX_ASSETS:
            return
        self._table.put(made.asset, ((past or ()) + (made.duration_ns,))[-self._config.history :])

    def twin(self) -> "native.SlowTwin":
        """The same, compiled, on the same table."""
        config, table = self._config, self._table
        return native.SlowTwin(
            outcomes, table.get, table.put, self.is_slow, self.learn,
            self._factor, min(self._excess_ns, 2**63 - 1), config.at_least, config.history,
        )  # fmt: skip

    def forget(self, asset: str) -> None:
        """The asset is gone."""
        self._table.delete(asset)
