"""A clock that stands still until it is told to move; `dagtel test` runs on the same."""

from pipeline.scenario.clock import VirtualClock

__all__ = ["VirtualClock"]
