"""The attempts of a step. Pure: each function takes one event's time and says which attempt it ended, if any.

Events come twice, late, and out of order, so a step keeps the times of its starts and ends: the same time again is
the same event. An attempt can fail without ever having started (its resources do not come up, its process dies);
then its end is also its beginning. An attempt ends once.
"""

from typing import NamedTuple

from processors.ledger.states import StepState

_KEPT = 16


class Closed(NamedTuple):
    """An attempt that has just ended."""

    attempt: int
    started_ns: int
    begun: bool = True


def started(step: StepState, at_ns: int) -> None:
    """STEP_START. Once attempts are known it says nothing new: a repeat, or a late one."""
    if step.attempt or at_ns + 1 in step.starts:
        return
    step.starts = _kept(step.starts, at_ns + 1)
    _begin(step, at_ns)


def restarted(step: StepState, at_ns: int, number: int) -> Closed | None:
    """STEP_RESTARTED. `number` is the attempt that its message names, 0 if none: taken when we came in midway.

    Ends the attempt before, where nothing else has.
    """
    told = at_ns + number  # clocks are coarse: a quick retry may have the time of the attempt before
    if told in step.starts:
        return None
    step.starts = _kept(step.starts, told)
    before = None
    if step.open:
        before = _end(step)
        step.displaced = True
    if step.attempt == 0 and number > 1:
        step.attempt = number - 1
    _begin(step, at_ns)
    return before


def up_for_retry(step: StepState, at_ns: int) -> Closed | None:
    """STEP_UP_FOR_RETRY."""
    if at_ns in step.ends:
        return None
    step.ends = _kept(step.ends, at_ns)
    if step.displaced and step.open and at_ns < step.started_ns:
        step.displaced = False
        return None
    closed = _last_word(step, step.first_ns or at_ns)
    if closed is not None:
        step.retried = True
    return closed


def ended(step: StepState, at_ns: int, since_ns: int | None = None) -> Closed | None:
    """STEP_SUCCESS, STEP_FAILURE. `since_ns`: when the attempt began, where the event itself says so."""
    if at_ns in step.ends:
        return None
    step.ends = _kept(step.ends, at_ns)
    return _last_word(step, since_ns or step.first_ns or at_ns)


def cut_off(step: StepState) -> Closed | None:
    """The run is over; an attempt that is still open ends with it."""
    return _end(step) if step.open else None


def _last_word(step: StepState, since_ns: int) -> Closed | None:
    """End the open attempt; without one, an attempt that never started, unless the step was done already."""
    if step.open:
        return _end(step)
    if step.attempt and not step.retried:
        return None
    begun = not step.attempt
    _begin(step, since_ns)
    return _end(step)._replace(begun=begun)


def _begin(step: StepState, at_ns: int) -> None:
    step.attempt += 1
    step.open, step.retried = True, False
    step.started_ns = step.input_ns = at_ns
    step.first_ns = step.output_ns = 0


def _end(step: StepState) -> Closed:
    step.open = False
    step.first_ns = 0
    return Closed(step.attempt, step.started_ns)


def _kept(times: tuple[int, ...], at_ns: int) -> tuple[int, ...]:
    return (*times[1 - _KEPT :], at_ns)
