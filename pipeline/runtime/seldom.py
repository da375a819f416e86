"""Says whether a line about something that happens again and again is due: at once, then once in a while."""


class Seldom:
    """`due` is true at most every `every_s` seconds; `held_back` counts the times in between."""

    def __init__(self, every_s: float) -> None:
        self.held_back = 0
        self._every_s, self._last_s = every_s, float("-inf")

    def due(self, now_s: float) -> bool:
        """Whether to speak now."""
        if now_s - self._last_s < self._every_s:
            self.held_back += 1
            return False
        self._last_s = now_s
        return True

    def since(self) -> int:
        """How often it was not due since the last time this was asked."""
        held, self.held_back = self.held_back, 0
        return held
