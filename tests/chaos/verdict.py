"""What came of it all, held against what the events say: counters, log lines, traces, alerts."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import msgspec

from tests.chaos.events import Truth
from tests.chaos.scene import Scene, different, undisturbed, whole


class Verdict(msgspec.Struct, frozen=True):
    """`counters`: by how much they are below and above the truth, and the worst. `lines`: of the log, missing and there
    twice. `traces`: what is wrong with those that are not whole. `untold`: jobs whose failure nobody was told of, and
    `told_again`: those that were said to fail by two notifications. `notifications`: how many came, and how many of
    them a second time."""

    counters: tuple[int, int, list[str]]
    lines: tuple[int, int]
    traces: dict[str, list[str]]
    untold: set[str]
    told_again: set[str]
    notifications: tuple[int, int]

    @property
    def lost(self) -> int:
        return self.counters[0] + self.lines[0] + len(self.traces) + len(self.untold)

    @property
    def doubled(self) -> int:
        return self.counters[1] + self.lines[1] + len(self.told_again)

    def check(self, repeats: int = 0) -> None:
        """All is there, and once; of the notifications at most `repeats` again: calls that were cut off."""
        assert self.counters == (0, 0, [])
        assert self.lines == (0, 0)
        assert self.traces == {}
        assert (self.untold, self.told_again) == (set(), set())
        assert self.notifications[1] <= repeats


def compared(
    here: Scene, truth: Truth, alerts: Sequence[dict[str, Any]], undisturbed_topic: str = "", attempts: bool = True
) -> Verdict:
    """The verdict on a scene whose daemon has ended. `undisturbed_topic`: where an undisturbed daemon reads what should
    have been counted; `attempts`: the truth knows how many there were at each step."""
    lines = here.in_loki(truth)
    known = truth.attempts if attempts else {}
    traces = {run: whole(here.spans(run), known.get(run, 0) if attempts else None) for run in truth.runs}
    firing = [alert for alert in alerts if alert["state"] == "firing" and alert["job"] in truth.alarms]
    told = Counter(job for job, _, _ in {(alert["job"], alert["key"], alert["last_at"]) for alert in firing})
    came = Counter((alert["key"], alert["state"], alert["last_at"]) for alert in alerts)
    return Verdict(
        counters=different(here.counters(), undisturbed(here, undisturbed_topic)),
        lines=(truth.events - len(lines), lines.total() - len(lines)),
        traces={run: wrong for run, wrong in traces.items() if wrong},
        untold=truth.alarms - told.keys(),
        told_again={job for job, count in told.items() if count > 1},
        notifications=(len(came), came.total() - len(came)),
    )
