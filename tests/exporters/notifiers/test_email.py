"""Email, against a real SMTP server (aiosmtpd): what arrives, encrypted how, and what each refusal means."""

import email.policy
import logging
import ssl
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from email.message import EmailMessage
from email.parser import BytesParser
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from exporters.notifiers.email import SPEC, Email, EmailConfig
from exporters.notifiers.email import _security as security_of
from pipeline.batch import WHOLE, Batch
from pipeline.components import Payload
from pipeline.errors import ConfigError, PartialError, PermanentError, RetryableError
from pipeline.http import Tls
from pipeline.options import Secret
from pipeline.signals import Alert, AlertState
from pipeline.testing.context import FakeContext
from tests.ports import free_port

pytestmark = [pytest.mark.anyio, pytest.mark.filterwarnings("ignore::UserWarning:aiosmtpd")]


class Mailboxes:
    """What a server took, and what it says instead: `refuse` by recipient, `data` to any message."""

    def __init__(self) -> None:
        self.taken: list[tuple[tuple[str, ...], EmailMessage]] = []
        self.refuse: dict[str, str] = {}
        self.data = ""
        self.lose_answer = False
        self.port = 0
        self.encrypted: list[bool] = []

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if address in self.refuse:
            return self.refuse[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        if self.data:
            return self.data
        assert isinstance(envelope.content, bytes)
        message = BytesParser(EmailMessage, policy=email.policy.default).parsebytes(envelope.content)
        self.taken.append((tuple(envelope.rcpt_tos), message))
        self.encrypted.append(session.ssl is not None)
        if self.lose_answer:
            self.lose_answer = False
            assert server.transport is not None
            server.transport.abort()
        return "250 OK"


Serve = Callable[..., AbstractContextManager[Mailboxes]]


@contextmanager
def serving(tls: bool = False, **options: Any) -> Iterator[Mailboxes]:
    boxes = Mailboxes()
    boxes.port = free_port()
    if tls:
        options["ssl_context"] = options.pop("tls_context")
    controller = Controller(boxes, hostname="127.0.0.1", port=boxes.port, **options)
    controller.start()
    try:
        yield boxes
    finally:
        controller.stop()


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[str, ssl.SSLContext]:
    """A CA file for clients, and the server's side of it."""
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    command = (
        "openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1"
    )
    subprocess.run([*command.split(), "-keyout", str(key), "-out", str(cert)], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    return str(cert), context


def alert(state: AlertState = "firing", at_ns: int = 0, **more: object) -> Alert:
    return msgspec.structs.replace(
        Alert("asset_failure", state, "ERROR", "p", at_ns, 0, 0, title="Failed", asset="orders", key="p#1"), **more
    )


def options(port: int, **more: Any) -> EmailConfig:
    plain = EmailConfig(
        host="127.0.0.1",
        port=port,
        security="none",
        sender="dagtel <alerts@example.com>",
        recipients=("Data <data@example.com>", "oncall@example.com"),
    )
    return msgspec.structs.replace(plain, **more)


async def sent(config: EmailConfig, *alerts: Alert) -> None:
    exporter = Email(config)
    for payload in exporter.build(Batch(alerts or [alert()], WHOLE, 0)):
        await exporter.send(payload)


async def test_everybody_gets_text_and_html() -> None:
    with serving() as boxes:
        await sent(options(boxes.port))
    ((recipients, message),) = boxes.taken
    assert recipients == ("data@example.com", "oncall@example.com")
    assert message["Subject"] == "[dagtel] orders (asset failure)"
    assert message["From"] == "dagtel <alerts@example.com>"
    text, html = message.get_body(("plain",)), message.get_body(("html",))
    assert text is not None and html is not None
    assert text.get_content().splitlines()[0] == "🔴 Failed"
    assert "<h2>🔴 Failed</h2>" in html.get_content()


async def test_the_messages_of_a_problem_are_one_thread() -> None:
    with serving() as boxes:
        await sent(options(boxes.port), alert(), alert("digest", 1), alert("resolved", 2), alert(key="p#2"))
    first, digest, resolved, next_life = (message for _, message in boxes.taken)
    for reply in (digest, resolved):
        assert reply["In-Reply-To"] == reply["References"] == first["References"]
        assert reply["Subject"] == first["Subject"], "Gmail would begin another thread"
    assert len({m["Message-ID"] for m in (first, digest, resolved, next_life)}) == 4
    assert next_life["References"] != first["References"]


async def test_a_message_whose_answer_was_lost_comes_again_as_the_same() -> None:
    with serving() as boxes:
        boxes.lose_answer = True
        with pytest.raises(RetryableError):
            await sent(options(boxes.port))
        await sent(options(boxes.port))
    assert boxes.taken[0][1]["Message-ID"] == boxes.taken[1][1]["Message-ID"]
    assert bytes(boxes.taken[0][1]) == bytes(boxes.taken[1][1])


async def test_starttls_encrypts_and_a_login_is_made(certificate: tuple[str, ssl.SSLContext]) -> None:
    authority, context = certificate
    logins: list[LoginPassword] = []

    def check(server: SMTP, session: Session, envelope: Envelope, mechanism: str, login: LoginPassword) -> AuthResult:
        logins.append(login)
        return AuthResult(success=login.password == b"right", handled=False)

    with serving(tls_context=context, require_starttls=True, authenticator=check, auth_required=True) as boxes:
        secure = options(
            boxes.port, security="starttls", username="u", password=Secret("right"), tls=Tls(ca_file=authority)
        )
        await sent(secure)
        assert boxes.encrypted == [True]
        assert logins == [LoginPassword(b"u", b"right")]
        with pytest.raises(PermanentError, match=r"answered 535.*app password") as raised:
            await sent(msgspec.structs.replace(secure, password=Secret("s3cr3t")))
        assert "s3cr3t" not in str(raised.value)
        with pytest.raises(RetryableError, match=r"tls\.ca_file"):
            await sent(msgspec.structs.replace(secure, tls=Tls()))


async def test_tls_from_the_start(certificate: tuple[str, ssl.SSLContext]) -> None:
    authority, context = certificate
    with serving(tls=True, tls_context=context) as boxes:
        await sent(options(boxes.port, security="tls", tls=Tls(ca_file=authority)))
        assert len(boxes.taken) == 1


@pytest.mark.parametrize("offers", [False, True])
async def test_a_relay_of_ones_own_is_used_as_it_is_encrypted_where_it_offers_that(
    offers: bool, certificate: tuple[str, ssl.SSLContext]
) -> None:
    """PHLO_ALERT_EMAIL_SMTP_PORT=25, and nothing else said."""
    authority, context = certificate
    with serving(**({"tls_context": context} if offers else {})) as boxes:
        await sent(options(boxes.port, security="auto", tls=Tls(ca_file=authority)))
        assert len(boxes.taken) == 1
        assert boxes.encrypted == [offers]


async def test_a_password_is_only_said_to_who_encrypts() -> None:
    with serving() as boxes:
        with pytest.raises(PermanentError, match="offers no STARTTLS"):
            await sent(options(boxes.port, security="auto", username="u", password=Secret("p")))
        assert boxes.taken == []


@pytest.mark.parametrize(
    ("port", "password", "expected"),
    [(0, "", "starttls"), (587, "", "starttls"), (465, "", "tls"), (25, "", "auto"), (25, "p", "starttls")],
)
def test_the_port_says_how_it_is_encrypted(port: int, password: str, expected: str) -> None:
    config = options(port, security="auto", username="u" if password else "", password=Secret(password))
    assert security_of(config) == expected
    assert list(config.problems()) == []


async def test_a_server_without_starttls_is_sent_nothing() -> None:
    with serving() as boxes:
        with pytest.raises(PermanentError, match="offers no STARTTLS"):
            await sent(options(boxes.port, security="starttls"))
        assert boxes.taken == []


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        ("451 greylisted, try later", RetryableError, "451: greylisted"),
        ("554 blocked", PermanentError, "the sender may be blocked"),
    ],
)
async def test_a_refused_message_is_tried_again_if_that_may_help(
    answer: str, kind: type[Exception], words: str
) -> None:
    with serving() as boxes:
        boxes.data = answer
        with pytest.raises(kind, match=words):
            await sent(options(boxes.port))


async def test_only_those_who_have_it_not_yet_get_it_again() -> None:
    with serving() as boxes:
        boxes.refuse = {"oncall@example.com": "450 mailbox busy"}
        exporter = Email(options(boxes.port))
        (payload,) = exporter.build(Batch([alert()], WHOLE, 0))
        with pytest.raises(RetryableError, match=r"oncall@example\.com was refused with 450"):
            await exporter.send(payload)
        boxes.refuse = {}
        await exporter.send(payload)
    assert [recipients for recipients, _ in boxes.taken] == [("data@example.com",), ("oncall@example.com",)]


@pytest.mark.parametrize(
    ("refuse", "kind"),
    [(("oncall@example.com",), PartialError), (("oncall@example.com", "data@example.com"), PermanentError)],
)
async def test_who_does_not_exist_is_named_and_the_others_get_it(
    refuse: tuple[str, ...], kind: type[Exception]
) -> None:
    with serving() as boxes:
        boxes.refuse = dict.fromkeys(refuse, "550 no such user")
        with pytest.raises(kind, match="mailbox does not exist"):
            await sent(options(boxes.port))
    assert len(boxes.taken) == 2 - len(refuse)


async def test_without_a_server_it_is_tried_again() -> None:
    with pytest.raises(RetryableError, match="gave no answer"):
        await sent(options(free_port()))


async def test_it_is_off_without_its_settings_and_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        async with SPEC.build(EmailConfig(), FakeContext("email")) as exporter:
            assert exporter.build(Batch([alert()], WHOLE, 0)) == ()
    assert [r.message for r in caplog.records] == [
        "The email notifier is off: host is empty (PHLO_ALERT_EMAIL_SMTP_HOST is not set)."
    ]
    with pytest.raises(PermanentError, match="off"):
        await exporter.send(Payload(b"", 1))


async def test_a_certificate_file_that_is_none_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("none")
    config = options(1, security="tls", tls=Tls(ca_file=str(tmp_path / "ca.pem")))
    with pytest.raises(ConfigError, match=r"exporters\.email\.tls"):
        async with SPEC.build(config, FakeContext("email")):
            """Never reached."""


def test_faults_of_the_configuration_are_named() -> None:
    config = EmailConfig(
        host="mail.example.com", port=99999, security="none", sender="nobody", recipients=("a@b.c", "x\r\nBcc: y@z.w"),
        password=Secret("p"), subject_prefix="a\nb",
    )  # fmt: skip
    assert [path for path, _ in config.problems()] == [
        "port", "sender", "recipients[1]", "username", "security", "subject_prefix",
    ]  # fmt: skip
    assert list(EmailConfig().problems()) == []


def test_the_subject_can_say_how_it_stands() -> None:
    exporter = Email(options(25, subject="state"))
    found = []
    for payload in exporter.build(Batch([alert(), alert("resolved", 1)], WHOLE, 0)):
        message = BytesParser(EmailMessage, policy=email.policy.default).parsebytes(payload.body)
        found.append(str(message["Subject"]))
    assert found == ["[dagtel] 🔴 Failed: orders", "[dagtel] ✅ Resolved: orders"]
