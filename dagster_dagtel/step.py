"""Which step of which run is executing here, asked of Dagster; the one door to Dagster itself.

Dagster is looked up when asked, never imported first: outside Dagster everything here answers None.
"""

import logging
import sys
from typing import NamedTuple

from dagster_dagtel import trace_ids


class Step(NamedTuple):
    """One attempt (from 1) of a step. `key` is the step key, `vacuum_table[bad_table]` for a dynamic one."""

    run_id: str
    key: str
    attempt: int

    @property
    def trace_id(self) -> int:
        """The run's trace."""
        return int(trace_ids.trace_id(self.run_id), 16)

    @property
    def span_id(self) -> int:
        """The span that the daemon makes for this attempt."""
        return int(trace_ids.step_span_id(self.run_id, self.key, self.attempt), 16)


def current_step() -> Step | None:
    """The attempt that this thread (or task) is executing; None outside a step."""
    if "dagster" not in sys.modules:
        return None
    try:
        from dagster import DagsterInvariantViolationError, OpExecutionContext
    except ImportError:  # Dagster is still being imported
        return None
    try:
        context = OpExecutionContext.get()
    except DagsterInvariantViolationError:
        return None
    key = context.get_step_execution_context().step.key
    return Step(context.run_id, key, context.retry_number + 1)


def run_logger() -> logging.Logger | None:
    """The logger whose lines Dagster stores in its event log; None where it would store nothing."""
    if "dagster" not in sys.modules:
        return None
    try:
        from dagster import DagsterInvariantViolationError, OpExecutionContext, get_dagster_logger
    except ImportError:
        return None
    try:
        log: logging.Logger = OpExecutionContext.get().log
    except DagsterInvariantViolationError:
        log = get_dagster_logger()
        # Threads and resources have no context, but while a run captures Python logs its handler sits here.
        captured = any(type(handler).__name__ == "DagsterLogHandler" for handler in log.handlers)
        return log if captured else None
    return log
