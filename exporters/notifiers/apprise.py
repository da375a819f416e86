"""Alerts to whatever Apprise knows (Teams, Telegram, Discord, ntfy and a hundred more). Needs `dagtel[apprise]`.

Apprise says only whether a service took a message, not whether trying again may help, so a message is tried again for
an hour and then goes to the dead letters. It blocks, so it runs in a thread; where it goes to several services, those
that took it are not asked again.

Its services read different markups. So that texts from events are none in any of them, the signs that begin one are
replaced by such as look alike: `@` `<` `>` `[` and the backtick by their wide forms.
Source: https://github.com/caronc/apprise/wiki
"""

import warnings
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from hashlib import sha256
from typing import TYPE_CHECKING, Final, Literal

import msgspec
from anyio import to_thread

from exporters.notifiers import console
from exporters.notifiers.message import cut, message, one_line
from exporters.notifiers.payloads import payloads
from pipeline.batch import Batch
from pipeline.components import Context, Exporter, ExporterSpec, Payload, Receipt
from pipeline.delivery import Delivery, RetryOnFailure
from pipeline.errors import ConfigError, PermanentError, RetryableError
from pipeline.options import Duration, Secret
from pipeline.signals import Alert, Signal

if TYPE_CHECKING:
    from apprise import Apprise as Library

TITLE: Final = 250
BODY: Final = 4000

_INERT: Final = str.maketrans({sign: chr(ord(sign) + 0xFEE0) for sign in "@<>`["})


class AppriseConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Notifies by Apprise, which knows over a hundred services. Without `urls` it is off, and says so once.

    Install it with `pip install 'dagtel[apprise]'`.
    """

    urls: tuple[Secret, ...] = ()
    """Apprise's URLs, secrets, such as `${env:ALERT_TEAMS_URL}`. Empty: off."""


class Said(msgspec.Struct, frozen=True):
    """What is stored of a message."""

    title: str
    body: str
    type: Literal["info", "success", "warning", "failure"]


class Apprise:
    """The exporter. `services` are Apprise's, one each."""

    def __init__(self, services: "Sequence[Library]", id: str = "apprise") -> None:
        self._services, self._id = services, id
        self._took: tuple[bytes, frozenset[int]] = (b"", frozenset())
        """The message that some services have and others have not yet: its digest, and who has it."""

    def build(self, batch: Batch[Alert], /) -> Sequence[Payload]:
        """A message an alert; none while the notifier is off."""
        return payloads(batch.items, self._id, render) if self._services else ()

    async def send(self, payload: Payload, /) -> Receipt | None:
        """Give it to each service. Raises RetryableError with the words of those that did not take it."""
        if not self._services:
            raise PermanentError("Apprise is off: urls is empty")
        said, digest = msgspec.json.decode(payload.body, type=Said), sha256(payload.body).digest()
        took = self._took[1] if self._took[0] == digest else frozenset()
        problems: list[str] = []
        for number, service in enumerate(self._services):
            if number in took:
                continue
            problem = await to_thread.run_sync(_notify, service, said, abandon_on_cancel=True)
            if problem is None:
                took |= {number}
                self._took = (digest, took)
            else:
                problems.append(problem)
        if problems:
            raise RetryableError("; ".join(problems))
        self._took = (b"", frozenset())
        return None


def render(alert: Alert) -> bytes:
    """Title and text, inert in any markup."""
    said = message(alert)
    assert said is not None
    kind = "success" if alert.state == "resolved" else _TYPES[alert.severity]
    text = console.render(msgspec.structs.replace(said, actions=())).strip().partition("\n")[2].strip()
    links = "\n".join(f"{action.label}: {action.url}" for action in said.actions)
    room = BODY - len(links) - 2
    body = f"{cut(text.translate(_INERT), max(room, 1000))}\n\n{links}".strip()
    return msgspec.json.encode(Said(cut(said.heading.translate(_INERT), TITLE), body, kind))


_TYPES: Final[dict[str, Literal["info", "success", "warning", "failure"]]] = {
    "INFO": "info",
    "WARNING": "warning",
    "ERROR": "failure",
    "CRITICAL": "failure",
}


def _notify(service: "Library", said: Said) -> str | None:
    """Blocking. None when it was taken, else why not."""
    words: list[str] = []
    taken = service.notify(
        body=said.body,
        title=said.title,
        notify_type=said.type,
        body_format="text",
        interpret_escapes=False,
        log_callback=lambda entry, server: words.append(str(getattr(entry, "message", entry))),
    )
    if taken:
        return None
    name = ", ".join(str(server.service_name or type(server).__name__) for server in service)
    return f"{name} did not take it" + (f": {one_line(words[-1])}" if words else "")


def services(urls: Sequence[Secret]) -> "list[Library]":
    """Apprise's services, one a URL. Raises ConfigError that names the number of the URL, never the URL."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # what its services import is not for a user to change
        try:
            import apprise
        except ImportError:
            raise ConfigError("the apprise notifier needs Apprise: pip install 'dagtel[apprise]'") from None
        made: list[Library] = []
        for number, url in enumerate(urls):
            service = apprise.Apprise()
            if not service.add(url.reveal()):
                raise ConfigError(f"apprise: urls[{number}] is no URL that Apprise knows")
            made.append(service)
    return made


@asynccontextmanager
async def build(config: AppriseConfig, context: Context) -> AsyncIterator[Exporter[Alert]]:
    if not config.urls:
        context.log.info("The Apprise notifier is off: urls is empty.")
    yield Apprise(services(config.urls) if config.urls else (), context.id)


SPEC = ExporterSpec(
    "apprise",
    AppriseConfig,
    build,
    takes=frozenset({Signal.ALERTS}),
    serial=True,
    urgent=True,
    delivery=Delivery(timeout=Duration("60s"), retry_on_failure=RetryOnFailure(max_elapsed_time=Duration("1h"))),
)
