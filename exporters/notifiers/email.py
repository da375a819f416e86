"""Alerts by email, over SMTP: STARTTLS, TLS from the start, or none.

A connection a message. What the server refuses for now (4xx) is tried again, what it refuses for ever (5xx) is not.
Where it takes some recipients only, the others are tried again alone, as long as the process lives.
Source: RFC 5321 §4.2 (reply codes), RFC 3207 (STARTTLS), RFC 8314 (TLS from the start).
"""

import ssl
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from hashlib import sha256
from typing import Final, Literal

import aiosmtplib
import msgspec

from exporters.notifiers.mail import Envelope, SubjectStyle, domain, mail
from exporters.notifiers.message import one_line
from exporters.notifiers.payloads import payloads
from pipeline.batch import Batch
from pipeline.components import Context, Exporter, ExporterSpec, Payload, Receipt
from pipeline.delivery import Delivery
from pipeline.errors import ConfigError, PartialError, PermanentError, RetryableError
from pipeline.http import Tls
from pipeline.options import Duration, Secret
from pipeline.signals import Alert, Signal

Security = Literal["auto", "starttls", "tls", "none"]

_PORTS: Final[dict[Security, int]] = {"auto": 587, "starttls": 587, "tls": 465, "none": 25}
_LOCAL: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_MEANINGS: Final[dict[int, str]] = {
    530: "it wants a login first: set username and password",
    534: "it wants another way to log in; many providers need an app password",
    535: "the username or password is wrong; many providers need an app password",
    538: "it wants encryption before a login: set security to starttls or tls",
    550: "the mailbox does not exist, or we may not write to it",
    551: "the mailbox is elsewhere",
    552: "the message is too large, or the mailbox is full",
    553: "the address is not allowed",
    554: "it refuses the message; the sender may be blocked",
}


class EmailConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Notifies by email. Without `host` and `recipients` it is off, and says so once.

    Text and HTML; the messages of one problem are one thread.
    """

    host: str = ""
    """The SMTP server: `${env:PHLO_ALERT_EMAIL_SMTP_HOST:-}`. Empty: off."""
    port: int = 0
    """Its port: `${env:PHLO_ALERT_EMAIL_SMTP_PORT:-0}`. 0: 587 with STARTTLS, 465 with TLS, 25 without."""
    security: Security = "auto"
    """`starttls`: encrypted after a greeting, or nothing is sent; `tls`: from the start; `none`: never. `auto`: by the
    port: 465 `tls`, 587 `starttls`; another one `starttls` where there is a password, else if the server offers it."""
    username: str = ""
    """For servers that want a login: `${env:PHLO_ALERT_EMAIL_USERNAME:-}`."""
    password: Secret = Secret("")
    """A secret: `${env:PHLO_ALERT_EMAIL_PASSWORD:-}`."""
    sender: str = ""
    """The From line, an address or `dagtel <alerts@example.com>`: `${env:PHLO_ALERT_EMAIL_FROM:-}`."""
    recipients: tuple[str, ...] = ()
    """To whom: `${env:PHLO_ALERT_EMAIL_RECIPIENTS:-}`, a list or addresses with commas between."""
    subject: SubjectStyle = "same"
    """`same`: all messages of a problem have one subject, which Gmail needs to keep them together; `state`: the
    subject says how it stands ("✅ Resolved: orders")."""
    subject_prefix: str = "[dagtel]"
    """Stands before each subject."""
    tls: Tls = Tls()
    """TLS of the connection."""

    def problems(self) -> Iterator[tuple[str, str]]:
        """Path and message of each fault."""
        if not self.host or not self.recipients:
            return
        if not 0 <= self.port <= 65535:
            yield "port", "is a port, from 1 to 65535 (0: the usual one)"
        named = {"sender": self.sender, **{f"recipients[{n}]": a for n, a in enumerate(self.recipients)}}
        for path, address in named.items():
            try:
                domain(address)
            except (ValueError, IndexError):
                yield path, "is no address such as `alerts@example.com`"
        if self.port == 465 and self.security == "starttls":  # it would wait for a greeting that never comes
            yield "security", "port 465 encrypts from the start; write `tls`"
        if bool(self.username) != bool(self.password):
            yield "password" if self.username else "username", "username and password come together"
        if self.password and self.security == "none" and self.host not in _LOCAL:
            yield "security", "`none` would send the password for all to read; use `starttls` or `tls`"
        if any(character in self.subject_prefix for character in "\r\n"):
            yield "subject_prefix", "is one line"


class Email:
    """The exporter. A payload is one message, as it goes over the wire."""

    def __init__(self, config: EmailConfig, id: str = "email") -> None:
        self._config, self._id = config, id
        self._envelope = Envelope(config.sender, config.recipients, config.subject, config.subject_prefix)
        self._took: tuple[bytes, frozenset[str]] = (b"", frozenset())
        """The message that some recipients have and others have not yet: its digest, and who has it."""

    @property
    def is_on(self) -> bool:
        return bool(self._config.host and self._config.recipients)

    def build(self, batch: Batch[Alert], /) -> Sequence[Payload]:
        """A message an alert; none while the notifier is off."""
        return payloads(batch.items, self._id, lambda alert: mail(alert, self._envelope)) if self.is_on else ()

    async def send(self, payload: Payload, /) -> Receipt | None:
        """Hand it to the server. Raises RetryableError, PermanentError; PartialError: some will never get it."""
        if not self.is_on:
            raise PermanentError("email is off: host or recipients is empty")
        digest = sha256(payload.body).digest()
        took = self._took[1] if self._took[0] == digest else frozenset()
        left = [recipient for recipient in self._config.recipients if recipient not in took]
        try:
            refused = await self._handed_over(payload.body, left)
        except aiosmtplib.SMTPRecipientsRefused as error:
            refused = {one.recipient: (one.code, one.message) for one in error.recipients}
        except aiosmtplib.SMTPResponseException as error:
            raise _failure(error.code, f"{_who(self._config)} answered {_said(error.code, error.message)}") from error
        except (aiosmtplib.SMTPNotSupported, aiosmtplib.SMTPException, OSError, ValueError) as error:
            raise _trouble(error, self._config) from error
        self._took = (digest, took | {recipient for recipient in left if recipient not in refused})
        if refused:
            raise _partly(refused, all_of=len(refused) == len(self._config.recipients))
        self._took = (b"", frozenset())
        return None

    async def _handed_over(self, body: bytes, recipients: Sequence[str]) -> dict[str, tuple[int, str]]:
        """Recipients that the server refused, with its answers."""
        config = self._config
        security = _security(config)
        client = aiosmtplib.SMTP(
            hostname=config.host,
            port=config.port or _PORTS[config.security],
            username=config.username or None,
            password=config.password.reveal() or None,
            use_tls=security == "tls",
            start_tls=None if security == "auto" else security == "starttls",  # None: if it is offered
            tls_context=_context(config.tls) if config.security != "none" else None,
            timeout=None,  # the runtime's `timeout` is the one that counts
        )
        try:
            await client.connect()
            refused, _ = await client.sendmail(_bare(config.sender), [_bare(r) for r in recipients], body)
            return {r: (said.code, said.message) for r in recipients if (said := refused.get(_bare(r)))}
        finally:
            client.close()


def _bare(address: str) -> str:
    """The address without the name before it."""
    return address[address.index("<") + 1 :].partition(">")[0] if "<" in address else address


def _context(tls: Tls) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=tls.ca_file or None)
    if tls.cert_file:
        context.load_cert_chain(tls.cert_file, tls.key_file or None)
    if tls.insecure_skip_verify:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


# --- what an answer means --------------------------------------------------------------------------------------------


def _who(config: EmailConfig) -> str:
    return f"the mail server {config.host}"


def _said(code: int, text: str) -> str:
    meaning = _MEANINGS.get(code, "")
    return f"{code}: {one_line(text)}" + (f" ({meaning})" if meaning else "")


def _failure(code: int, said: str) -> Exception:
    return PermanentError(said) if 500 <= code < 600 else RetryableError(said)


def _partly(refused: dict[str, tuple[int, str]], all_of: bool) -> Exception:
    said = "; ".join(f"{recipient} was refused with {_said(*why)}" for recipient, why in refused.items())
    if any(code < 500 for code, _ in refused.values()):
        return RetryableError(said)
    return PermanentError(said) if all_of else PartialError(said, {0: said})


def _security(config: EmailConfig) -> Security:
    """What `auto` comes to; it stays `auto` where the server is to say."""
    if config.security != "auto":
        return config.security
    port = config.port or _PORTS["auto"]
    if port == 465:
        return "tls"
    return "starttls" if port == 587 or config.password else "auto"


def _trouble(error: Exception, config: EmailConfig) -> Exception:
    """What has no reply code: an answer that did not come, or a server that cannot do what is asked of it."""
    text = one_line(str(error) or type(error).__name__)
    if isinstance(error, ssl.SSLCertVerificationError) or isinstance(error.__cause__, ssl.SSLCertVerificationError):
        return RetryableError(f"{_who(config)} shows a certificate that is not trusted: {text} (set tls.ca_file)")
    if isinstance(error, OSError):  # connections refused, cut, timed out
        return RetryableError(f"{_who(config)} gave no answer: {text}")
    if "STARTTLS" in text:
        return PermanentError(f"{_who(config)} offers no STARTTLS; set security to `tls` or `none`")
    return PermanentError(f"{_who(config)} cannot be used: {text}")


@asynccontextmanager
async def build(config: EmailConfig, context: Context) -> AsyncIterator[Exporter[Alert]]:
    exporter = Email(config, context.id)
    if not exporter.is_on:
        missing = (
            "host is empty (PHLO_ALERT_EMAIL_SMTP_HOST"
            if not config.host
            else ("recipients is empty (PHLO_ALERT_EMAIL_RECIPIENTS")
        )
        context.log.info(f"The email notifier is off: {missing} is not set).")
    elif config.security != "none":
        try:
            _context(config.tls)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(f"exporters.{context.id}.tls: the files cannot be used: {error}") from error
    yield exporter


SPEC = ExporterSpec(
    "email",
    EmailConfig,
    build,
    takes=frozenset({Signal.ALERTS}),
    serial=True,
    urgent=True,
    delivery=Delivery(timeout=Duration("30s")),  # servers that look the sender up take their time
)
