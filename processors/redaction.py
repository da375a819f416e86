"""The `redaction` processor: secrets do not leave. What they look like: `redaction_patterns`; how: `redaction_text`."""

import re
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import msgspec

from pipeline.alert_records import Decided, Made, Occurred, Standing
from pipeline.batch import Batch
from pipeline.components import Context, ProcessorSpec
from pipeline.events import Event
from pipeline.facts import ErrorInfo, Parts
from pipeline.signals import Alert, LogRecord, Member, Signal, Span
from processors.redaction_patterns import PATTERNS, Pattern, PatternName
from processors.redaction_text import Redactor

_REMEMBERED: Final = 16_384  # texts, 4 MiB of them at most
_LONGEST: Final = 256
_ON: Final[tuple[PatternName, ...]] = (
    "assignments", "headers", "urls", "bearer", "private_keys", "jwt", "aws", "github", "gitlab", "slack", "stripe",
    "google", "packages",
)  # fmt: skip

_TEXTS: Final[dict[type, tuple[str, ...]]] = {Occurred: ("message",), Decided: ("detail",)}


class RedactionConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Replaces secrets in the texts of log records, alerts and spans, and in their extra fields and attributes.

    Passwords and keys behind their names, URLs with a password, bearer tokens, private keys, JSON web tokens and the
    tokens of AWS, GitHub, GitLab, Slack, Stripe, Google, npm and PyPI are known. Ids are never touched. In an events
    pipeline it redacts messages and errors; the original bytes of an event (dead letters, the Kafka exporter) stay.
    """

    patterns: tuple[PatternName, ...] = _ON
    """What is looked for. Besides those on by default there are `emails` and `cards` (with a right check digit)."""
    extra: dict[str, str] = {}
    """More of them: name → regular expression. A group named `secret` is replaced, else the whole match."""
    names: tuple[str, ...] = (
        "password", "passwd", "pwd", "passphrase", "secret", "token", "api_key", "apikey", "access_key", "private_key",
        "account_key", "authorization", "cookie", "credential", "credentials",
    )  # fmt: skip
    """Fields and attributes with one of these words in their name are replaced whatever they hold; a number, only
    where the word ends the name (`token_count` stays)."""
    allow: tuple[str, ...] = ()
    """Regular expressions of what is no secret though it looks like one; each must match the whole of it."""
    allow_names: tuple[str, ...] = ()
    """Names of fields and attributes that are no secrets' though they look like it (`token_type`)."""
    replacement: str = "[redacted]"
    """What is written in place of a secret."""

    def problems(self) -> Iterator[tuple[str, str]]:
        """What is wrong with the options beyond their types: (option, message)."""
        for option, sources in (("extra", tuple(self.extra.values())), ("allow", self.allow)):
            for source in sources:
                try:
                    if option == "extra" and re.compile(source).match(""):
                        yield option, f"`{source}` matches the empty text, so everywhere"
                    re.compile(source)
                except re.error as error:
                    yield option, f"`{source}` is no regular expression: {error}"
        if not self.replacement or re.search(r"[\s\"'\\,;&@:/]", self.replacement):
            yield "replacement", "must be one word without quotes and , ; & @ : /, so that it is no secret itself"


class Redaction:
    """The processor; stateless but for the texts that it need not look at again."""

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self._clean: set[str] = set()
        """Texts in which there was nothing: what Dagster says is the same from run to run."""
        self._ways: dict[type, Callable[[Any], object]] = {
            LogRecord: self._log,
            Alert: self._alert,
            Span: self._span,
            Event: self._event,
            Occurred: self._record,
            Decided: self._record,
            Made: self._made,
            Standing: self._standing,
        }

    async def process(self, batch: Batch[object], /) -> Batch[object]:
        """The same items without secrets; a batch without any is the same batch."""
        items = batch.items
        changed: dict[int, object] = {}
        for place in self._suspects(items):
            item = items[place]
            way = self._ways.get(type(item))
            if way is not None and (new := way(item)) is not item:
                changed[place] = new
        if not changed:
            return batch
        return batch.carrying([changed.get(place, item) for place, item in enumerate(items)])

    def _suspects(self, items: Sequence[object]) -> Iterable[int]:
        """Places of the items to look at: of log records, of which there is one an event, those that may hold any.

        Most messages and stacks of a batch are there more than once (6 of 10 in the corpus), so each is asked once.
        """
        if (places := self._redactor.places(items)) is not None:
            return places
        texts: set[str] = set()
        extra: list[int] = []
        for place, log in enumerate(items):  # once over them: they are far away in memory
            if not isinstance(log, LogRecord):
                return range(len(items))
            texts.add(log.message)
            if log.extra:
                extra.append(place)
            if log.error_message or log.error_stack:
                texts.add(log.error_message)
                texts.add(log.error_stack)
        new = texts - self._clean
        hot = self._redactor.suspects(new)
        self._remember(new.difference(hot))
        if not hot:
            return extra
        return [
            place
            for place, log in enumerate(items)
            if isinstance(log, LogRecord)
            and (log.extra or log.message in hot or log.error_message in hot or log.error_stack in hot)
        ]

    def _remember(self, clean: Collection[str]) -> None:
        if len(self._clean) + len(clean) > _REMEMBERED:
            self._clean.clear()
        self._clean.update([text for text in clean if len(text) <= _LONGEST][:_REMEMBERED])

    def _log(self, log: LogRecord) -> LogRecord:
        message = self._redactor.text(log.message)
        changes: dict[str, Any] = {"message": message} if message is not log.message else {}
        if log.error_message or log.error_stack:
            changes |= self._texts(log, "error_message", "error_stack")
        if log.extra and (extra := self._redactor.map(log.extra)) is not None:
            changes["extra"] = extra
        return msgspec.structs.replace(log, **changes) if changes else log

    def _alert(self, alert: Alert) -> Alert:
        changes = self._texts(alert, "title", "summary")
        if alert.members:
            members = tuple([self._member(member) for member in alert.members])
            changes |= {"members": members} if members != alert.members else {}
        if alert.parts is not None and (parts := self._parts(alert.parts)) is not alert.parts:
            changes["parts"] = parts
        if alert.error is not None and (error := self._redactor.error(alert.error)) is not alert.error:
            changes["error"] = error
        if alert.tags and (tags := self._redactor.map(alert.tags)) is not None:
            changes["tags"] = tags
        return msgspec.structs.replace(alert, **changes) if changes else alert

    def _member(self, member: Member) -> Member:
        changes = self._texts(member, "title", "message")
        return msgspec.structs.replace(member, **changes) if changes else member

    def _parts(self, parts: Parts) -> Parts:
        if not parts.message:
            return parts
        message = tuple([self._redactor.text(line) for line in parts.message])
        return parts if message == parts.message else msgspec.structs.replace(parts, message=message)

    def _record(self, record: Any) -> object:
        changes = self._texts(record, *_TEXTS[type(record)])
        return msgspec.structs.replace(record, **changes) if changes else record

    def _made(self, made: Made) -> Made:
        changes = self._texts(made, "message")
        if (parts := self._parts(made.parts)) is not made.parts:
            changes["parts"] = parts
        return msgspec.structs.replace(made, **changes) if changes else made

    def _standing(self, standing: Standing) -> Standing:
        alert = self._alert(standing.alert)
        return standing if alert is standing.alert else msgspec.structs.replace(standing, alert=alert)

    def _span(self, span: Span) -> Span:
        changes = self._texts(span, "error") if span.error else {}
        if span.attributes and (attributes := self._redactor.map(span.attributes)) is not None:
            changes["attributes"] = attributes
        if span.events:
            found = [(event, self._redactor.map(event.attributes)) for event in span.events]
            if any(attributes is not None for _, attributes in found):
                changes["events"] = tuple(
                    event if attributes is None else msgspec.structs.replace(event, attributes=attributes)
                    for event, attributes in found
                )
        return msgspec.structs.replace(span, **changes) if changes else span

    def _event(self, event: Event) -> Event:
        event.message = self._redactor.text(event.message)
        if event.detail is not None:
            event.detail = self._without(event.detail)
        if event.outcomes:
            event.outcomes = tuple([self._without(outcome) for outcome in event.outcomes])
        return event

    def _without(self, part: Any) -> Any:
        """A detail or outcome whose error is redacted; most have none."""
        error = getattr(part, "error", None)
        if not isinstance(error, ErrorInfo):
            return part
        new = self._redactor.error(error)
        return part if new is error else msgspec.structs.replace(part, error=new)

    def _texts(self, item: object, *names: str) -> dict[str, Any]:
        changes: dict[str, Any] = {}
        for name in names:
            old = getattr(item, name)
            if old and (new := self._redactor.text(old)) is not old:
                changes[name] = new
        return changes


def redactor_of(config: RedactionConfig, found: Callable[[str], None]) -> Redactor:
    """What the options say. Raises re.error on an expression that is none."""
    extra = {name: Pattern(re.compile(source)) for name, source in config.extra.items()}
    return Redactor(
        {name: pattern for name, pattern in PATTERNS.items() if name in config.patterns} | extra,
        config.names,
        [re.compile(source) for source in config.allow],
        config.allow_names,
        config.replacement,
        found,
    )


@asynccontextmanager
async def build(config: RedactionConfig, context: Context) -> AsyncIterator[Redaction]:
    """Compile the expressions."""
    counter = context.meter.create_counter("dagtel_redacted", description="Secrets replaced, by what they looked like.")
    yield Redaction(redactor_of(config, lambda name: counter.add(1, {"component": context.id, "pattern": name})))


SPEC = ProcessorSpec(
    "redaction", RedactionConfig, build, takes=frozenset({Signal.LOGS, Signal.ALERTS, Signal.TRACES, Signal.EVENTS})
)
