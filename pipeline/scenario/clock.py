"""A clock that stands still until it is told to move."""

from pipeline.clock import SECOND


class VirtualClock:
    """See `pipeline.clock.Clock`. `wall` is Unix ns, UTC."""

    def __init__(self, wall: int = 1_700_000_000 * SECOND) -> None:
        self.wall = wall
        self.elapsed = 0.0

    def wall_ns(self) -> int:
        return self.wall

    def monotonic(self) -> float:
        return self.elapsed

    def advance(self, seconds: float) -> None:
        """Both clocks go on."""
        self.wall += round(seconds * SECOND)
        self.elapsed += seconds
