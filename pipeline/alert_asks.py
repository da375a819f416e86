"""From what people type to commands that `dedup` obeys: one place for the command line, the API and the pages. Pure."""

import msgspec

from pipeline.alert_commands import Silence
from pipeline.expressions import Condition, ExpressionError
from pipeline.signals import Signal

LONGEST_WHEN = 2000
LONGEST_TEXT = 500
"""Characters of a reason; a name has a fifth of it."""
LONGEST_ID = 100

_FIELDS = (
    "asset",
    "job",
    "step_key",
    "check",
    "kind",
    "fingerprint",
    "severity",
    "partition",
    "group",
    "code_location",
)
"""What a condition can be made of by equality alone."""


class AskError(ValueError):
    """What was asked for cannot be; the text says why, in one line."""


def equal_to(**values: str) -> str:
    """The condition that all of these are so: `asset == "raw/orders" && severity == "ERROR"`; "" without any."""
    for name in values:
        if name not in _FIELDS:
            raise AskError(f"there is no {name} of an alert")
    return " && ".join(f"{name} == {_quoted(value)}" for name, value in values.items() if value)


def alert_name(text: str) -> str:
    """The fingerprint or key of an alert, as `Acknowledge` and `Resolve` want it. Raises AskError."""
    name = text.strip()
    if not name or len(name) > LONGEST_TEXT or any(not c.isprintable() for c in name):
        raise AskError("name an alert by its fingerprint (`v1:…`) or its key (`v1:…#2`)")
    return name


def person(text: str) -> str:
    """Who it was, as one short line."""
    return line(text)[: LONGEST_TEXT // 5]


def line(text: str) -> str:
    """Text from outside as one line without control characters."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:LONGEST_TEXT]


def silence(id: str, now_ns: int, when: str, until_ns: int, by: str, why: str) -> Silence:
    """A silence that can be obeyed. Raises AskError: no condition or one that cannot be used; over before it begins."""
    if not when.strip():
        raise AskError('say what is to be silent: a condition over alerts, such as `asset == "raw/orders"`')
    if len(when) > LONGEST_WHEN:
        raise AskError(f"the condition has more than {LONGEST_WHEN} characters")
    try:
        Condition(when, Signal.ALERTS)
    except ExpressionError as error:
        raise AskError(str(error)) from error
    if until_ns <= now_ns:
        raise AskError("it would be over before it begins")
    if not id or len(id) > LONGEST_ID or not id.isascii() or not id.isprintable():
        raise AskError(f"an id is 1 to {LONGEST_ID} plain characters")
    return Silence(id, now_ns, when, until_ns, person(by), line(why))


def _quoted(text: str) -> str:
    """A text of the expression language, whose escapes are JSON's."""
    try:
        return msgspec.json.encode(text).decode()
    except UnicodeEncodeError as error:
        raise AskError("it has characters that are no Unicode") from error
