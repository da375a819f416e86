"""What people do in a scenario, as the commands that `dedup` obeys."""

from collections.abc import Sequence
from typing import Final

from pipeline.alert_commands import Acknowledge, Command, Resolve, Silence
from pipeline.scenario.capture import Told
from pipeline.scenario.model import Answer, Step

_SUBJECT: Final = ("kind", "asset", "check", "job")


def acts(step: Step) -> bool:
    """Whether somebody does something in it."""
    return bool(step.silence or step.acknowledge or step.resolve)


def command(step: Step, name: str, at_ns: int, told: Sequence[Told]) -> Command | None:
    """What somebody asks for at this time. `name` is the command's id; `told` is what was told so far.

    None when nothing has been told that could be answered.
    """
    if step.silence:
        silence = step.silence
        return Silence(name, at_ns, silence.when, at_ns + silence.for_.ns, silence.by, silence.why)
    answer = step.acknowledge or step.resolve
    alert = _latest(answer, told) if answer else ""
    if not alert or not answer:
        return None
    make = Acknowledge if step.acknowledge else Resolve
    return make(name, at_ns, alert, answer.by, answer.why)


def _latest(answer: Answer, told: Sequence[Told]) -> str:
    """The fingerprint of the latest notification that is meant; "" when there is none."""
    for each in reversed(told):
        if all(getattr(answer, name) in ("", getattr(each.alert, name)) for name in _SUBJECT):
            return each.alert.fingerprint
    return ""
