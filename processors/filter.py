"""The `filter` processor: leaves out what a condition says. The conditions are `pipeline.expressions`."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Literal

import msgspec

from pipeline.batch import Batch
from pipeline.components import Context, ProcessorSpec
from pipeline.expressions import Condition, ExpressionError, signal_of
from pipeline.signals import Signal


class FilterConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Leaves out items by conditions in the Common Expression Language (https://cel.dev), in a pipeline of any signal:
    `drop: ['level == "DEBUG"']`. docs/filter.md lists the names that conditions may use.

    In an events pipeline it stands behind `run_ledger`, which needs every event of a run to understand it.
    """

    drop: tuple[str, ...] = ()
    """An item of which any of these is true is left out."""
    keep: tuple[str, ...] = ()
    """An item of which none of these is true is left out; empty: no item is left out for this."""
    on_error: Literal["keep", "drop"] = "keep"
    """What happens to an item of which a condition cannot be said (a key that is not there, a wrong type)."""

    def problems(self) -> Iterator[tuple[str, str]]:
        """Expressions that cannot be used, each as (option, why)."""
        if not self.drop and not self.keep:
            yield "", "needs `drop` or `keep`, or it does nothing"
        for name, sources in (("drop", self.drop), ("keep", self.keep)):
            for source in sources:
                try:
                    Condition(source)
                except ExpressionError as error:
                    yield name, str(error)


class Filter:
    """The processor; stateless."""

    def __init__(self, config: FilterConfig, context: Context) -> None:
        self._drop = [Condition(source) for source in config.drop]
        self._keep = [Condition(source) for source in config.keep]
        self._unsure = config.on_error == "keep"
        self._context = context
        self._errors = context.meter.create_counter(
            "dagtel_expression_errors", description="Items of which a condition could not be said."
        )
        self._said = False

    async def process(self, batch: Batch[object], /) -> Batch[object]:
        """The items that stay."""
        kept = [item for item in batch.items if self._stays(item)]
        return batch if len(kept) == len(batch.items) else batch.carrying(kept)

    def _stays(self, item: object) -> bool:
        signal = signal_of(item)
        if signal is None:
            return True  # what travels beside a signal's own items is none of ours
        try:
            if any(condition.holds(item, signal) for condition in self._drop):
                return False
            return not self._keep or any(condition.holds(item, signal) for condition in self._keep)
        except ExpressionError as error:
            self._say(str(error))
            return self._unsure

    def _say(self, why: str) -> None:
        self._errors.add(1, {"component": self._context.id})
        if not self._said:
            self._said = True
            self._context.log.warning(
                "A condition could not be evaluated; said once, counted as dagtel_expression_errors_total.",
                extra={"why": why, "on_error": "keep" if self._unsure else "drop"},
            )


@asynccontextmanager
async def build(config: FilterConfig, context: Context) -> AsyncIterator[Filter]:
    """Compile the conditions. Raises ExpressionError on one that cannot be used."""
    yield Filter(config, context)


SPEC = ProcessorSpec("filter", FilterConfig, build, takes=frozenset(Signal))
