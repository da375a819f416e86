"""Secrets go, everything else stays: texts, fields by name, ids, other people's objects."""

import json
import re
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.batch import Batch
from pipeline.events import Event, StepFailed
from pipeline.facts import ErrorInfo, Json, Parts
from pipeline.outcomes import AssetFailed
from pipeline.signals import Alert, Edges, LogRecord, Span, SpanEvent
from pipeline.testing.context import FakeContext
from processors.dedup import SPEC as DEDUP
from processors.redaction import SPEC, RedactionConfig, redactor_of
from processors.redaction_text import Redactor

pytestmark = pytest.mark.anyio

DATA = Path(__file__).parent.parent / "data"
GITHUB = "ghp_" + "a1B2" * 9
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N"
KEY = "-----BEGIN RSA PRIVATE KEY-----\nMIIEow\n-----END RSA PRIVATE KEY-----"


def redactor(**options: object) -> Redactor:
    config = RedactionConfig(**options)  # type: ignore[arg-type]
    assert list(config.problems()) == []
    return redactor_of(config, lambda name: None)


DEFAULT = redactor()


def log(message: str = "", **extra: Json) -> LogRecord:
    return LogRecord(1, "INFO", "LOG", message, "e1", "run-1", trace_id="t" * 32, extra=extra)


async def processed(item: object, **options: object) -> object:
    async with SPEC.build(RedactionConfig(**options), FakeContext("redaction")) as processor:  # type: ignore[arg-type]
        (found,) = (await processor.process(Batch([item], "s", 1))).items
        return found


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("password=hunter2", "password=[redacted]"),
        ("PGPASSWORD: hunter2, host: db", "PGPASSWORD: [redacted], host: db"),
        ("connect(user='a', passwd='hun ter', db=1)", "connect(user='a', passwd='[redacted]', db=1)"),
        ('{"client_secret": "a\\"b", "id": 7}', '{"client_secret": "[redacted]", "id": 7}'),
        ('{\\"password\\": \\"abc\\", \\"a\\": 1}', '{\\"password\\": \\"[redacted]\\", \\"a\\": 1}'),
        ("GET /x?api_key=abc&page=2", "GET /x?api_key=[redacted]&page=2"),
        ("aws_secret_access_key = wJalrXUtnFEMI/K7MDENG", "aws_secret_access_key = [redacted]"),
        ("SLACK_TOKEN: Bearer abcdefgh12345678", "SLACK_TOKEN: [redacted] [redacted]"),
        ("Authorization: Basic dXNlcjpwYXNz", "Authorization: [redacted]"),
        ("headers={'Cookie': 'sid=abc; x=1'}", "headers={'Cookie': '[redacted]'}"),
        ("sent Bearer abcdefghij1234567890", "sent Bearer [redacted]"),
        ("postgresql://me:p@ss:w0rd@db:5432/x", "postgresql://me:[redacted]@db:5432/x"),
        ("redis://:hunter2@cache/0", "redis://:[redacted]@cache/0"),
        (f"key {GITHUB}.", "key [redacted]."),
        (f"jwt {JWT} sent", "jwt [redacted] sent"),
        ("id AKIAIOSFODNN7EXAMPLE.", "id [redacted]."),
        ("xoxb-123456789012-abcdefABCDEF", "[redacted]"),
        (
            "https://hooks.slack.com/services/T00/B00/XXXXXXXX failed",
            "https://hooks.slack.com/services/[redacted] failed",
        ),
        ("stripe sk_live_abcdefghijklmnop1234", "stripe [redacted]"),
        ("glpat-abcdefghij1234567890", "[redacted]"),
        ("AIza" + "x" * 35, "[redacted]"),
        ("npm_" + "x" * 36, "[redacted]"),
        (KEY, "-----BEGIN RSA PRIVATE KEY-----[redacted]-----END RSA PRIVATE KEY-----"),
        (KEY[:40], "-----BEGIN RSA PRIVATE KEY-----[redacted]"),
    ],
)
def test_secrets_in_texts_are_replaced(text: str, clean: str) -> None:
    assert DEFAULT.text(text) == clean
    assert DEFAULT.text(clean) == clean


@pytest.mark.parametrize(
    "text",
    [
        "",
        'Started execution of step "core__dim_customer".',
        "used 1200 tokens: 800 in, 400 out",
        "password: None, token=null",
        "asset key: core/dim_customer",
        "The primary key is missing: customer_id",
        "https://example.com:8080/path?x=1",
        "mail me@example.com at 10:30",
        "bearer authentication-is-required: yes",
        "commit 3f786850e387550fdab836ed7e6dc881de23001b",
        "card 4111 1111 1111 1111",
        "secretary: Jane",
    ],
)
def test_what_is_no_secret_stays_the_same_object(text: str) -> None:
    assert DEFAULT.text(text) is text


def test_emails_and_cards_are_found_when_asked_for() -> None:
    asked = redactor(patterns=("emails", "cards"))
    assert asked.text("a.b+c@mail.example.com paid") == "[redacted] paid"
    assert asked.text("card 4111 1111 1111 1111 and 4111 1111 1111 1112") == "card [redacted] and 4111 1111 1111 1112"


def test_patterns_of_ones_own_are_applied_and_what_is_allowed_stays() -> None:
    own = redactor(
        extra={"badge": r"EMP-\d{5}", "pin": r"pin (?P<secret>\d{4})"}, allow=("EMP-00000", "dummy"), replacement="***"
    )
    text = "EMP-12345 EMP-00000 pin 1234 password=dummy password=real"
    assert own.text(text) == "*** EMP-00000 pin *** password=dummy password=***"


def test_values_are_replaced_by_their_names() -> None:
    values: dict[str, Json] = {
        "dbPassword": "x", "api-key": ["a"], "token": 1234, "token_count": 5, "secret": None, "use_token": True,
        "nested": {"list": [{"private_key": {"a": 1}, "note": "password=x"}]}, "plain": "ok",
    }  # fmt: skip
    assert DEFAULT.map(values) == {
        "dbPassword": "[redacted]", "api-key": "[redacted]", "token": "[redacted]", "token_count": 5, "secret": None,
        "use_token": True, "nested": {"list": [{"private_key": "[redacted]", "note": "password=[redacted]"}]},
        "plain": "ok",
    }  # fmt: skip
    assert values["dbPassword"] == "x"
    assert redactor(allow_names=("dbPassword",)).map({"dbPassword": "x"}) is None


async def test_a_log_record_is_redacted_in_its_texts_and_extra_fields_and_keeps_its_ids() -> None:
    dirty = LogRecord(
        1, "ERROR", "LOG", "token=abc", "token=id", "run-1", "token=job", error_message="pwd=x", error_stack=GITHUB,
        trace_id="t" * 32, extra={"password": "x", "request_id": GITHUB},
    )  # fmt: skip
    assert await processed(dirty) == LogRecord(
        1, "ERROR", "LOG", "token=[redacted]", "token=id", "run-1", "token=job", error_message="pwd=[redacted]",
        error_stack="[redacted]", trace_id="t" * 32, extra={"password": "[redacted]", "request_id": GITHUB},
    )  # fmt: skip


async def test_an_alert_is_redacted_in_title_summary_error_and_tags() -> None:
    def alert(secret: str) -> Alert:
        return Alert(
            "asset_failure", "failing", "ERROR", "v1:token=abc", 1, 1, 1, title=f"token={secret}",
            summary=f"pwd={secret}",
            error=ErrorInfo("E", f"password={secret}", "f.py", 3, "g", ("f.py:g",), ("E",), f"pwd={secret}"),
            tags={"token": secret, "team": "data"},
        )  # fmt: skip

    assert await processed(alert("abc")) == alert("[redacted]")


async def test_a_span_is_redacted_in_attributes_events_and_status() -> None:
    def span(secret: str) -> Span:
        event = SpanEvent("exception", 1, {"exception.message": f"password={secret}", "line": 3})
        attributes = {"db.password": secret, "cicd.pipeline.run.id": GITHUB, "keys": (f"token={secret}", "b")}
        return Span("t", "s", "", "n", 1, 2, attributes, (), events=(event,), error=f"pwd={secret}")  # type: ignore[arg-type]

    assert await processed(span("abc")) == span("[redacted]")


async def test_an_event_is_redacted_in_its_message_and_errors_and_keeps_its_bytes() -> None:
    def event(secret: str) -> Event:
        error = ErrorInfo("E", f"password={secret}")
        failed = AssetFailed("r", "j", "s", 1, "a", None, 1, None, error)
        return Event(
            b"password=abc",
            "STEP_FAILURE",
            "r",
            1,
            40,
            "j",
            "s",
            f"pwd={secret}",
            detail=StepFailed(error),
            outcomes=(failed,),
        )

    assert await processed(event("abc")) == event("[redacted]")


async def test_a_batch_without_secrets_is_the_same_batch() -> None:
    async with SPEC.build(RedactionConfig(), FakeContext("redaction")) as processor:
        batch: Batch[object] = Batch([log("fine", user=7), Edges("a", ("b",), 1)], "s", 1)
        assert await processor.process(batch) is batch
        assert list((await processor.process(Batch([], "s", 1))).items) == []


_texts = st.lists(
    st.sampled_from(
        [
            "password",
            "token=",
            ": ",
            "=",
            '"',
            "'",
            "\\",
            "://",
            "@",
            "Bearer ",
            "eyJ",
            "a1" * 8,
            "api_key",
            "Account Key",
            "İ",
            " ",
            "\n",
            ".",
            GITHUB,
        ]
    )
    | st.text(max_size=5),
    max_size=14,
).map("".join)


@given(_texts)
def test_redacting_twice_is_redacting_once(text: str) -> None:
    once = DEFAULT.text(text)
    assert GITHUB not in re.findall(r"\bghp_\w+\b", once)
    assert DEFAULT.text(once) == once


@given(st.sets(_texts, max_size=6))
def test_texts_asked_together_hide_no_secret(texts: set[str]) -> None:
    assert {text for text in texts if DEFAULT.text(text) != text} <= set(DEFAULT.suspects(texts))


async def test_records_of_a_batch_are_redacted_wherever_the_secret_stands() -> None:
    secret = "password=hunter2"
    plain = log("all is well")
    records = [
        log(secret),
        plain,
        LogRecord(1, "ERROR", "STEP_FAILURE", "it failed", "e1", error_message=secret),
        LogRecord(1, "ERROR", "STEP_FAILURE", "it failed", "e2", error_stack=f"größer: {secret}"),
        log("all is well", note=secret),
    ]
    async with SPEC.build(RedactionConfig(), FakeContext("redaction")) as processor:
        found = (await processor.process(Batch(records, "s", 1))).items
    assert found[1] is plain
    assert [secret in repr(record) for record in found] == [False] * 5


_PARTS = (
    "eyJ", "-eyJ", "eyJaaaaaaaaa.", "://", "://a:", "password", "password=", 'password="', "Bearer ", "token:\\", "a@",
    "1 ", "-----BEGIN PRIVATE KEY-----", "cookie=", "api key",
)  # fmt: skip


@pytest.mark.timeout(20)
@pytest.mark.parametrize("part", _PARTS)
def test_no_text_takes_long(part: str) -> None:
    everything = redactor(patterns=(*RedactionConfig().patterns, "emails", "cards"))
    everything.text(part * (1_000_000 // len(part)))


def test_recorded_logs_hold_no_secrets() -> None:
    lines = (DATA / "dagster-1.13.jsonl").read_text().splitlines()
    entries = [json.loads(line) for line in lines]
    texts = [(entry["dagster_event"] or {}).get("message") or entry["user_message"] for entry in entries]
    assert [text for text in texts if DEFAULT.text(text) is not text] == []


@pytest.mark.parametrize(
    ("options", "option"),
    [
        ({"extra": {"a": "("}}, "extra"),
        ({"extra": {"a": "x*"}}, "extra"),
        ({"allow": ("[",)}, "allow"),
        ({"replacement": "two words"}, "replacement"),
        ({"replacement": ""}, "replacement"),
    ],
)
def test_options_that_cannot_be_used_are_problems(options: dict[str, object], option: str) -> None:
    assert [found for found, _ in RedactionConfig(**options).problems()] == [option]  # type: ignore[arg-type]


@pytest.mark.parametrize("order", [("redaction", "dedup"), ("dedup", "redaction")])
async def test_no_secret_comes_into_the_history_wherever_redaction_stands(order: tuple[str, str]) -> None:
    secret = f"login failed: password=hunter2 {GITHUB}"
    parts = Parts("asset_failure", ("a",), message=(secret,))
    texts = {"title": secret, "summary": secret, "error": ErrorInfo("E", secret), "parts": parts}
    first = Alert("asset_failure", "failing", "ERROR", "p0", 1, 1, 1, run_id="r", asset="a", **texts)
    found = [first, msgspec.structs.replace(first, fingerprint="p1")]
    builds = {
        "redaction": lambda: SPEC.build(RedactionConfig(), FakeContext("redaction")),
        "dedup": lambda: DEDUP.build(DEDUP.config(), FakeContext("dedup", recorded=True)),
    }
    items: list[object] = list(found)
    flushed: list[object] = []
    for name in order:
        async with builds[name]() as processor:
            items = list((await processor.process(Batch(items, "s", 1))).items) if items else []
            flushed = list((await processor.process(Batch(flushed, "s", 1))).items) if flushed else []
            if name == "dedup":
                items += await processor.finish(10)
                flushed = list(await processor.flush(10))
    kinds = {type(item).__name__ for item in flushed}
    assert kinds == {"Occurred", "Decided", "Standing", "Made", "Routed"}
    text = repr(items) + repr(flushed)
    assert "[redacted]" in text
    assert "hunter2" not in text
    assert GITHUB not in text
