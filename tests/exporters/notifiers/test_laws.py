"""Whatever an event says, it is only text in every channel, and every channel's limits hold."""

import email.policy
import json
import re
from email.message import EmailMessage
from email.parser import BytesParser
from html.parser import HTMLParser
from typing import Any

import msgspec
from hypothesis import HealthCheck, Phase, settings
from hypothesis import given as _given
from hypothesis import strategies as st

from exporters.notifiers import alertmanager, apprise, console, mail, pagerduty, slack_blocks, slack_threads
from exporters.notifiers.message import link, message
from pipeline.facts import ErrorInfo
from pipeline.lineage import Impact
from pipeline.signals import Alert, Links, Member
from tests.integration.services import _blocks_problem, _event_problems

# Alerts are large: looking for the smallest that fails takes minutes, and any of them tells what is wrong.
_QUICK = settings(
    deadline=None, phases=set(Phase) - {Phase.explain, Phase.shrink}, suppress_health_check=list(HealthCheck)
)


def given(*strategies: Any) -> Any:
    return lambda test: _QUICK(_given(*strategies)(test))


HOSTILE = (
    "<!channel>", "<!here>", "<@U123>", "<https://evil.example|click>", "</p><script>alert(1)</script>",
    '" onclick="alert(1)', "<img src=x onerror=alert(1)>", "x\r\nBcc: evil@example.com\r\n\r\nbody", "\r\n.\r\nQUIT",
    "\x1b]0;title\x07\x1b[2J", "\u202egnp.exe", "\u2066\u2069", "[click](https://evil.example)", "@everyone",
    "&lt;!channel&gt;", "&" * 1100, "<" * 1100, "\n" * 50 + "x", "=?utf-8?q?=0d=0aBcc:_evil?=", "\ud800", "\U000e0041",
)  # fmt: skip
texts = st.one_of(
    st.text(max_size=60), st.sampled_from(HOSTILE), st.lists(st.sampled_from(HOSTILE), max_size=2).map(" ".join)
)
names = st.lists(texts, max_size=12).map(tuple)
urls = texts | st.sampled_from(
    ["javascript:alert(1)", "https://x.example/a?b=c&d=<e>|f", 'https://x/"', "https://x/\r\nBcc: a", "http://ok/x"]
)
members = st.builds(
    Member, key=st.sampled_from(["a#1", "b#1", ""]), state=st.sampled_from(["firing", "resolved"]),
    kind=texts, severity=st.just("ERROR"), title=texts, asset=texts, check=texts, job=texts, partition=texts,
    message=texts, count=st.integers(0, 99),
)  # fmt: skip
alerts = st.builds(
    Alert,
    kind=texts,
    state=st.sampled_from(["firing", "digest", "escalated", "repeated", "resolved", "failing"]),
    severity=st.sampled_from(["INFO", "WARNING", "ERROR", "CRITICAL"]),
    fingerprint=texts,
    key=texts,
    now_ns=st.integers(-(10**30), 10**30),
    first_ns=st.integers(-(10**30), 10**30),
    last_ns=st.integers(0, 10**18),
    title=texts,
    summary=texts,
    asset=texts,
    check=texts,
    step_key=texts,
    job=texts,
    run_id=texts,
    group=texts,
    partition=texts,
    owners=names,
    escalate_to=names,
    acknowledged_by=texts,
    partitions=names,
    failing=st.integers(0, 99),
    error=st.none() | st.builds(ErrorInfo, type=texts, message=texts, file=texts, line=st.integers(0, 10**9)),
    impact=st.builds(Impact, assets=st.just({"a": 1}), exposures=names, owners=names, exposure_kinds=names),
    links=st.builds(Links, run=urls, trace=urls, dashboard=urls, retry=urls, silence=urls),
    members=st.lists(members, max_size=12).map(tuple),
    late=st.booleans(),
)
_LINK = re.compile(r"<https?://[^<>|\s]+\|[A-Za-z0-9 ]+>")
_ACTIVE = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\U000e0000-\U000e007f]"
)


def strings(value: Any) -> list[str]:
    """All texts within."""
    if isinstance(value, str):
        return [value]
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for part in inner for text in strings(part)]


@given(alerts)
def test_slack_sees_links_of_ours_and_no_other_markup(alert: Alert) -> None:
    job = slack_threads.job(alert, "links", {"@oncall": "S0123"})
    for body in (job.message, job.reply, *job.ended.values()):
        assert _blocks_problem(body) == ""
        assert len(json.dumps(body)) < 100_000
        for text in strings({**body, "blocks": [b for b in body["blocks"] if b["type"] != "header"]}):  # type: ignore[union-attr,index,call-overload]
            assert not re.search(r"[<>]", _LINK.sub("", text).replace("<!subteam^S0123>", "")), text
            assert not _ACTIVE.search(text)


@given(alerts)
def test_slacks_buttons_lead_where_links_lead(alert: Alert) -> None:
    said = message(alert)
    assert said is not None
    assert _blocks_problem(slack_blocks.body(said, "buttons")) == ""


@given(alerts)
def test_pagerduty_takes_every_event(alert: Alert) -> None:
    for event in pagerduty.events(alert, "service"):
        event = json.loads(json.dumps({"routing_key": "0" * 32, **event}))
        problems = [p for p in _event_problems(event) if "dedup_key" not in p or alert.key or alert.fingerprint]
        assert problems == []
        shown = strings({name: part for name, part in event.items() if name != "dedup_key"})
        assert not any(_ACTIVE.search(text) for text in shown)
        assert all(link["href"].startswith(("http://", "https://")) for link in event.get("links", []))


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: set[tuple[str, tuple[str, ...]]] = set()
        self.hrefs: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add((tag, tuple(name for name, _ in attrs)))
        self.hrefs += [value or "" for name, value in attrs if name == "href"]


_OURS = {
    ("html", ()), ("head", ()), ("meta", ("charset",)), ("body", ("style",)), ("div", ("style",)), ("h2", ()),
    ("p", ()), ("b", ()), ("br", ()), ("ul", ()), ("li", ()), ("a", ("href",)),
}  # fmt: skip
_ENVELOPE = mail.Envelope("dagtel <alerts@example.com>", ("data@example.com",), prefix="[dagtel]")
_HEADERS = {
    "From", "To", "Subject", "Date", "Message-ID", "In-Reply-To", "References", "Auto-Submitted",
    "X-Auto-Response-Suppress", "Importance", "Content-Type", "MIME-Version",
}  # fmt: skip


@given(alerts, st.sampled_from(["same", "state"]))
def test_an_email_has_our_headers_and_our_tags_and_no_others(alert: Alert, style: mail.SubjectStyle) -> None:
    raw = mail.mail(alert, msgspec.structs.replace(_ENVELOPE, subject=style))
    assert len(raw) < 200_000
    assert all(len(line) <= 998 for line in raw.split(b"\r\n")), "RFC 5322 §2.1.1"
    made = BytesParser(EmailMessage, policy=email.policy.default).parsebytes(raw)
    assert set(made.keys()) <= _HEADERS
    assert len(made.keys()) == len(set(made.keys()))
    assert (made["To"], made["From"]) == ("data@example.com", "dagtel <alerts@example.com>")
    assert len(made["Subject"].splitlines()) == 1
    assert [part.get_content_type() for part in made.iter_parts()] == ["text/plain", "text/html"]
    html = made.get_body(("html",))
    assert html is not None
    tags = _Tags()
    tags.feed(html.get_content())
    assert tags.seen <= _OURS
    assert all(href.startswith(("http://", "https://")) for href in tags.hrefs)
    assert not any(
        _ACTIVE.search(part.get_content().replace("\r\n", "\n"))
        for part in made.iter_parts()
        if isinstance(part, EmailMessage)
    )


@given(alerts)
def test_alertmanagers_templates_are_given_inert_text(alert: Alert) -> None:
    made = alertmanager.change(alert).alert
    assert not any(re.search("[<>]", text) or _ACTIVE.search(text) for text in strings(msgspec.to_builtins(made)))
    assert len(json.dumps(msgspec.to_builtins(made))) < 30_000


@given(alerts)
def test_apprise_is_given_text_without_markup(alert: Alert) -> None:
    said = msgspec.json.decode(apprise.render(alert), type=apprise.Said)
    assert len(said.title) <= 250
    assert len(said.body) <= 12_000
    words = said.title + "\n" + said.body.partition("\n\nView ")[0]
    for line in words.splitlines():
        if not re.match(r"(View \w+|Retry|Silence 1h|  The whole text): ", line):
            assert not re.search(r"[@<>`\[]", line), line
    assert not _ACTIVE.search(said.title + said.body)


@given(alerts)
def test_a_terminal_is_given_no_controls(alert: Alert) -> None:
    said = message(alert)
    assert said is not None
    assert not _ACTIVE.search(console.render(said))


@given(urls | st.text().map(lambda text: f"https://{text}"))
def test_a_link_is_one_or_none(url: str) -> None:
    safe = link(url)
    assert safe == "" or re.fullmatch(r"https?://[!-;=?-\[\]_a-z~]+", safe), safe
    assert link(safe) == safe
