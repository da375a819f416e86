"""Which of Slack's messages is a problem's, and what is to be done for one notification. Pure."""

from collections.abc import Mapping
from typing import Final

import msgspec

from exporters.notifiers import slack_blocks
from exporters.notifiers.message import RESOLVED_COLOUR, Message, message, one_line
from exporters.notifiers.payloads import ended, life
from pipeline.components import Receipt
from pipeline.facts import Json
from pipeline.signals import Alert, Member

Thread = tuple[str, str]
"""Channel id and `ts` of a problem's message."""

_LOUD: Final = frozenset({"escalated"})


class Job(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a notification makes of a problem's message and thread.

    `message` is what it shows from now on, `reply` what its thread is told; `loud`: the channel is told too. `last`:
    the problem is over. `ended` are other problems that this tells the end of: key and what their messages then show.
    """

    key: str = ""
    message: dict[str, Json] = {}
    reply: dict[str, Json] = {}
    loud: bool = False
    last: bool = False
    ended: dict[str, dict[str, Json]] = {}


def job(alert: Alert, actions: slack_blocks.Style, mentions: Mapping[str, str]) -> Job:
    """What to do for this notification."""
    said = message(alert)
    assert said is not None
    return Job(
        key=life(alert),
        message=slack_blocks.body(said, actions, mentions),
        reply=slack_blocks.reply(said, mentions),
        loud=alert.state in _LOUD,
        last=alert.state == "resolved",
        ended={key: _ended(member) for key, member in ended(alert).items()},
    )


def _ended(member: Member) -> dict[str, Json]:
    name = one_line(f"{member.check} of {member.asset}" if member.check else member.asset or member.job or member.title)
    return slack_blocks.body(Message("✅", f"Resolved: {name or one_line(member.kind)}", RESOLVED_COLOUR, ()))


class Threads:
    """The messages of open problems, the oldest first; at most `most`."""

    def __init__(self, receipt: Receipt | None, most: int) -> None:
        self._known: dict[str, Thread] = msgspec.msgpack.decode(receipt, type=dict[str, Thread]) if receipt else {}
        self._most = most

    def get(self, key: str) -> Thread | None:
        """The message of a problem."""
        return self._known.get(key)

    def remember(self, key: str, thread: Thread) -> None:
        """A problem's message; the oldest is forgotten where there are too many."""
        self._known.pop(key, None)
        self._known[key] = thread
        while len(self._known) > self._most:
            del self._known[next(iter(self._known))]

    def forget(self, key: str) -> None:
        """The problem is over."""
        self._known.pop(key, None)

    def receipt(self) -> Receipt:
        """All of them, to be given back after a restart."""
        return msgspec.msgpack.encode(self._known)
