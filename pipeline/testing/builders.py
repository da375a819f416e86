"""Event logs for tests; `dagtel test` builds its events by the same."""

from pipeline.scenario.story import CHECK_FAILED, INTERRUPTED, SECOND, START_NS, Fault, Log, Wire

__all__ = ["CHECK_FAILED", "INTERRUPTED", "SECOND", "START_NS", "Fault", "Log", "Wire"]
