"""Silences: what people asked not to be told of for a while. In state; conditions are compiled once."""

from pipeline.alert_commands import Silence
from pipeline.components import State, Table
from pipeline.expressions import Condition, ExpressionError
from pipeline.signals import Alert, Signal


class Silences:
    """The silences that have not ended. `add` raises ExpressionError for a condition that cannot be used."""

    def __init__(self, state: State, limit: int) -> None:
        self._silences: Table[str, Silence] = state.table("silences", str, Silence, version=1)
        self._limit = limit
        self._compiled: dict[str, Condition] = {}

    def __len__(self) -> int:
        return len(self._silences)

    def add(self, silence: Silence) -> bool:
        """Take it on. False for one that is known, or over before it begins. Raises ValueError beyond the limit."""
        if silence.id in self._silences or silence.until_ns <= silence.now_ns:
            return False
        self._condition(silence.when)
        for id, other in list(self._silences.items()):
            if other.until_ns <= silence.now_ns:
                self._silences.delete(id)
        if len(self._silences) >= self._limit:
            raise ValueError(f"there are {self._limit} silences already (max_silences): end some of them")
        self._silences.put(silence.id, silence)
        return True

    def expire(self, id: str) -> bool:
        """End it. False if it is not there."""
        known = id in self._silences
        self._silences.delete(id)
        return known

    def over(self, alert: Alert, now_ns: int) -> Silence | None:
        """The silence that lies over the alert; of several the one that lasts longest. Those that have ended go."""
        found, ended = None, []
        for id, silence in self._silences.items():
            if silence.until_ns <= now_ns:
                ended.append(id)
            elif (found is None or silence.until_ns > found.until_ns) and self.matches(silence, alert):
                found = silence
        for id in ended:
            self._silences.delete(id)
        return found

    def matches(self, silence: Silence, alert: Alert) -> bool:
        """Whether it lies over the alert. One that asks for what the alert has not (a tag) does not."""
        try:
            return self._condition(silence.when).holds(alert, Signal.ALERTS)
        except ExpressionError:
            return False

    def _condition(self, when: str) -> Condition:
        condition = self._compiled.get(when)
        if condition is None:
            if len(self._compiled) > 2 * self._limit:
                self._compiled.clear()
            condition = self._compiled[when] = Condition(when, Signal.ALERTS)
        return condition
