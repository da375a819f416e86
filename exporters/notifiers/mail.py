"""An alert as an email: text and HTML, threaded by the problem's life. Pure.

All messages of one life refer to the same root (`References`, `In-Reply-To`), made from the life's key; each has an id
of its own, made from what it says. So a message that is sent again is the same message, to servers and mail programs
alike, and the thread is whole whichever of them was never sent.

Nothing from an event breaks a header: the subject is the one that holds text from outside, and that is one line without
encoded words. In HTML all texts are escaped, and links are http or https.
Source: RFC 5322 §3.6.4, RFC 3834 (Auto-Submitted).
"""

from datetime import UTC, datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from hashlib import sha256
from html import escape
from typing import Final, Literal

import msgspec

from exporters.notifiers import console
from exporters.notifiers.message import Message, cut, message, one_line, subject
from exporters.notifiers.payloads import life
from pipeline.alert_json import LAST_NS
from pipeline.clock import SECOND
from pipeline.signals import Alert

SUBJECT: Final = 200
"""Characters of a subject line."""

SubjectStyle = Literal["same", "state"]


class Envelope(msgspec.Struct, frozen=True):
    """From whom, to whom, and how the subject reads."""

    sender: str
    recipients: tuple[str, ...]
    subject: SubjectStyle = "same"
    prefix: str = ""


def mail(alert: Alert, envelope: Envelope) -> bytes:
    """The message as it goes over the wire. The same alert gives the same bytes."""
    said = message(alert)
    assert said is not None
    made = EmailMessage(policy=SMTP)
    made["From"] = envelope.sender
    made["To"] = ", ".join(envelope.recipients)
    made["Subject"] = _subject(alert, said, envelope)
    made["Date"] = format_datetime(datetime.fromtimestamp(min(max(alert.now_ns, 0), LAST_NS) // SECOND, UTC))
    for name, value in _threading(alert, domain(envelope.sender)).items():
        made[name] = value
    made["Auto-Submitted"] = "auto-generated"
    made["X-Auto-Response-Suppress"] = "All"
    if alert.severity == "CRITICAL" and alert.state != "resolved":
        made["Importance"] = "high"
    text, html = console.render(said).strip() + "\n", as_html(said)
    made.set_content(text, cte="quoted-printable")
    made.add_alternative(html, subtype="html", cte="quoted-printable")
    made.set_boundary(f"=_dagtel_{_digest(text + html)}")  # else it is drawn by lot
    return made.as_bytes()


def domain(address: str) -> str:
    """What stands behind the @ of an address, which may have a name before it. Raises ValueError."""
    made = EmailMessage(policy=SMTP)
    made["From"] = address
    found: tuple[Address, ...] = made["From"].addresses
    if len(found) != 1 or not found[0].domain or not found[0].username:
        raise ValueError("is no address such as `alerts@example.com` or `dagtel <alerts@example.com>`")
    return found[0].domain


def _subject(alert: Alert, said: Message, envelope: Envelope) -> str:
    if envelope.subject == "state":
        place = subject(alert)
        words = said.heading if place in said.title else f"{said.heading}: {place}"
    else:  # Gmail keeps messages in one thread only while their subjects are equal
        words = f"{subject(alert)} ({one_line(alert.kind).replace('_', ' ')})"
    # The email package decodes encoded words in what it is given, line ends within them too: "=?utf-8?q?=0D=0A…?="
    # in an asset's name would begin a header of its own.
    return cut(f"{envelope.prefix} {words.replace('=?', '= ?')}".strip(), SUBJECT)


def _threading(alert: Alert, domain: str) -> dict[str, str]:
    """Every notification of a life refers to a root that was never sent: which of them is the first to arrive, or
    whether two are called `firing`, makes no difference."""
    root = f"<{_digest(life(alert))}@{domain}>"
    own = f"<{_digest(f'{life(alert)} {alert.state} {alert.now_ns} {alert.run_id}')}@{domain}>"
    return {"Message-ID": own, "In-Reply-To": root, "References": root}


def _digest(text: str) -> str:
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


# --- HTML ------------------------------------------------------------------------------------------------------------

_PAGE: Final = """\
<!DOCTYPE html>
<html><head><meta charset="utf-8"></head>
<body style="font-family: sans-serif; font-size: 14px; color: #1d1c1d">
<div style="border-left: 4px solid {colour}; padding-left: 12px">
{parts}
</div>
</body></html>
"""


def as_html(said: Message) -> str:
    """The message as a page: no script, no picture, nothing that is fetched."""
    parts = [
        f"<h2>{escape(said.heading)}</h2>",
        _lines([f"<b>{escape(name)}:</b> {escape(value)}" for name, value in said.fields]),
        _lines([escape(line) for line in said.text]),
        _error(said),
        _list("Problems:", said.members),
        _list("Downstream Impact:", said.impact),
        _lines([escape(line) for line in said.ending]),
        _lines(["&ensp;".join(_link(action.url, f"[{action.label}]") for action in said.actions)]),
    ]
    return _PAGE.format(colour=said.colour, parts="\n".join(part for part in parts if part))


def _error(said: Message) -> str:
    error = said.error
    if error is None:
        return ""
    lines = [f"<b>{escape(error.label)}:</b> " + escape(error.text).replace("\n", "<br>")]
    lines += [f"&ensp;File: {escape(error.file)}"] if error.file else []
    lines += [f"&ensp;Line: {error.line}"] if error.line else []
    lines += [f"&ensp;{_link(error.rest, 'The whole text')}"] if error.rest else []
    return _lines(lines)


def _lines(lines: list[str]) -> str:
    return f"<p>{'<br>'.join(lines)}</p>" if any(lines) else ""


def _list(title: str, lines: tuple[str, ...]) -> str:
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f"<p><b>{title}</b></p><ul>{items}</ul>" if items else ""


def _link(url: str, label: str) -> str:
    return f'<a href="{escape(url, quote=True)}">{escape(label)}</a>'
