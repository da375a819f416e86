"""What `dedup` counts and decides, as records for exporters that keep them (`pipeline.alert_records`).

Gathered by the calls of `dedup` and handed out at the barrier, so that a record is committed with the state that it
tells of: neither is there without the other after a crash. What a call gathered that raised is forgotten with what it
did. Of a life that changes a thousand times between two barriers the last word is told once.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from pipeline.alert_records import Decided, Made, Occurred, Record, Routed, Standing, Status, notification_id
from pipeline.facts import Parts
from pipeline.signals import Alert
from processors.alert_notice import as_it_stands
from processors.alert_state import Life, Policy

MESSAGE: Final = 2000
"""Characters of an error's message that an occurrence carries."""

_Name = tuple[object, ...]


class Recorder:
    """Off, nothing is gathered: nobody would take it."""

    def __init__(self, on: bool, policy: Policy) -> None:
        self._on, self._policy = on, policy
        self._call: dict[_Name, Record | _Changed] = {}
        self._gathered: dict[_Name, Record | _Changed] = {}

    def begin(self) -> None:
        """A call begins; what the last one gathered that did not come to its end is forgotten."""
        self._call.clear()

    def done(self) -> None:
        """The call has come to its end."""
        for name, record in self._call.items():
            self._gathered.pop(name, None)  # in the order of their last word
            self._gathered[name] = record
        self._call.clear()

    def take(self, now_ns: int) -> Sequence[Record]:
        """All that was gathered, as it is now."""
        gathered, self._gathered = self._gathered, {}
        return [one.standing(now_ns, self._policy) if isinstance(one, _Changed) else one for one in gathered.values()]

    # --- what happens ---

    def occurred(self, life: Life, finding: Alert, decision: str, parts: Parts | None) -> None:
        """A failure was counted as the last one of `life`."""
        if not self._on:
            return
        record = _occurred(life, finding, decision)
        self._call["occurred", life.key, life.began_ns, life.total] = record
        if parts is not None:
            text = finding.error.message if finding.error else finding.summary
            made = Made(finding.fingerprint, finding.now_ns, parts, "" if finding.check and not finding.error else text)
            self._call["made", finding.fingerprint] = made

    def kept(self, before: Life | None, after: Life) -> None:
        """A life has changed."""
        if not self._on:
            return
        self._call["life", after.key, after.began_ns] = _Changed(after)
        fresh = after.decided - (before.decided if before else 0)
        # One more than are new: the decision before them may have been made again.
        for age, decision in enumerate(reversed(after.decisions[-fresh - 1 :])):
            number = after.decided - age
            if number > 0 and (before is None or fresh or decision is not before.decisions[-1]):
                self._call["decided", after.key, after.began_ns, number] = Decided(
                    after.key, after.began_ns, number, decision.at_ns, decision.reason, decision.times, decision.detail
                )

    def ended(self, life: Life, now_ns: int) -> None:
        """A life is over."""
        if self._on:
            self._call["life", life.key, life.began_ns] = _Changed(life, now_ns)

    def routed(self, alert: Alert, why: Sequence[tuple[str, str]]) -> None:
        """A notification goes to these channels."""
        if self._on and why:
            id = notification_id(alert)
            self._call["routed", id] = Routed(id, alert.now_ns, tuple(why))


class _Changed(msgspec.Struct, frozen=True):
    life: Life
    ended_ns: int = 0

    def standing(self, now_ns: int, policy: Policy) -> Standing:
        life, over = self.life, bool(self.ended_ns)
        # What is over stands as at its end, whenever the barrier comes: a crash before that changes nothing of it.
        alert = as_it_stands(life, self.ended_ns or max(now_ns, life.latest_ns), over, policy)
        status: Status = "escalated" if life.escalated_ns else "firing" if life.told else "held"
        return Standing(
            key=life.key,
            began_ns=life.began_ns,
            as_of_ns=max(now_ns, life.latest_ns, self.ended_ns),
            status="resolved" if over else status,
            alert=alert,
            held="" if over else life.held,
            held_until_ns=0 if over else life.held_until_ns,
            told=life.told,
            flapping=bool(life.flaps_ns),
            chronic=life.chronic,
            ended_ns=self.ended_ns,
        )


def _occurred(life: Life, finding: Alert, decision: str) -> Occurred:
    error = finding.error
    return Occurred(
        key=life.key,
        began_ns=life.began_ns,
        number=life.total,
        at_ns=finding.now_ns,
        event_ns=finding.last_ns,
        fingerprint=finding.fingerprint,
        severity=finding.severity,
        decision=decision,
        asset=finding.asset,
        check=finding.check,
        job=finding.job,
        step_key=finding.step_key,
        run_id=finding.run_id,
        partition=finding.partition,
        error_type=error.type if error else "",
        message=(error.message if error else finding.summary)[:MESSAGE],
        file=error.file if error else "",
        line=error.line if error else 0,
    )
