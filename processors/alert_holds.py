"""What keeps an open problem from being told: a silence that lies over it, or another problem that it follows from.

What is held is asked again when that is over: at the silence's end, or a grace after the other problem's.
"""

from typing import Final

import msgspec

from pipeline.alert_commands import Expire, Silence
from pipeline.components import State
from pipeline.signals import Alert
from processors import alert_life
from processors.alert_book import Book
from processors.alert_silences import Silences
from processors.alert_state import Life
from processors.dedup_options import DedupConfig

_CAUSES: Final = ("asset_failure", "check_failure")
"""Kinds of alerts that others follow from."""


class Holds:
    """Over the lives of one book."""

    def __init__(self, config: DedupConfig, state: State, book: Book) -> None:
        self._book, self._silences = book, Silences(state, config.max_silences)
        self._inhibit, self._grace_ns = config.inhibit, config.inhibit_grace.ns

    def held(self, life: Life, now_ns: int) -> Life | None:
        """The life held, if something keeps it from being told."""
        if not len(self._silences) and life.kind not in self._inhibit:
            return None
        finding = life.finding
        cause = self._cause(finding)
        if cause is not None:
            if life.held_by != cause.fingerprint:
                self._book.keep(alert_life.with_member(cause, finding, "failing", joins=False))
            held = msgspec.structs.replace(life, held_by=cause.fingerprint)
            return alert_life.hold(held, "inhibited", 0, now_ns, f"{cause.asset} {cause.fingerprint}")
        silence = self._silences.over(finding, now_ns)
        if silence is not None:
            return alert_life.hold(life, "silenced", silence.until_ns, now_ns, f"{silence.id} by {silence.by}")
        return None

    def end(self, over: Life, now_ns: int, starts: tuple[int, ...]) -> None:
        """The life is over; what follows from it comes out a grace later."""
        waiting = self._book.held_by(over.fingerprint)
        self._book.end(over, now_ns, starts)
        for held in waiting:
            until = now_ns + self._grace_ns
            self._book.keep(msgspec.structs.replace(held, held_until_ns=until, held_by=""))

    def silence(self, command: Silence) -> None:
        """From now on nothing is told of what it lies over."""
        if self._silences.add(command):
            for life in [life for _, life in self._book.lives.items() if not life.held]:
                if self._silences.matches(command, life.finding):
                    detail = f"{command.id} by {command.by}"
                    self._book.keep(alert_life.hold(life, "silenced", command.until_ns, command.now_ns, detail))

    def expire(self, command: Expire) -> None:
        """A silence ends before its time: what it held is asked again."""
        if self._silences.expire(command.silence):
            for life in [life for _, life in self._book.lives.items() if life.held == "silenced"]:
                self._book.keep(msgspec.structs.replace(life, held_until_ns=command.now_ns))

    def _cause(self, finding: Alert) -> Life | None:
        """The open problem that this one follows from, nearest first."""
        if finding.kind not in self._inhibit or not finding.asset:
            return None
        for asset in (finding.asset, *finding.upstream):
            for life in self._book.failing_at(asset):
                if life.kind in _CAUSES and life.fingerprint != finding.fingerprint:
                    return life
        return None
