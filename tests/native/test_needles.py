"""The twin of redaction looks at the records that Python looks at, or at more; what comes out is the same."""

from pathlib import Path

import anyio
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.logs import SPEC as LOGS
from connectors.logs import LogsConfig
from pipeline.batch import Batch
from pipeline.native import HAS_NATIVE
from pipeline.signals import LogRecord
from pipeline.testing.context import FakeContext
from processors.redaction import Redaction, RedactionConfig, redactor_of
from processors.redaction_text import Redactor
from receivers.dagster_wire import decode

pytestmark = pytest.mark.skipif(not HAS_NATIVE, reason="dagtel-native is not installed")

DATA = Path(__file__).parent.parent / "data"
SECRETS = (
    "password=hunter2", "PASSWORD: hunter2", "password", "Pass\u212aphrase=x", "to\u212aen=hunter2",
    "TO\u212aEN hunter2",
    "cred\u0130ntial=x", "ghp_" + "a1B2" * 9, "gh", "xoxb-123456789012-abcdefABCDEF", "postgresql://me:pw@db/x",
    "Authorization: Basic dXNlcjpwYXNz", "authorization", "sent Bearer abcdefghij1234567890", "ü api key: x",
    "a=b", ":",
)  # fmt: skip


def pair(config: RedactionConfig = RedactionConfig()) -> tuple[Redactor, Redactor, list[str], list[str]]:  # noqa: B008
    """A redactor without the twin and one with it, and what each found."""
    plain: list[str] = []
    other: list[str] = []
    python, native = redactor_of(config, plain.append), redactor_of(config, other.append)
    python._twin, python._suspicious = None, python._asked
    return python, native, plain, other


def assert_same(records: list[LogRecord], config: RedactionConfig = RedactionConfig()) -> list[int]:  # noqa: B008
    python, native, plain, other = pair(config)
    batch = Batch[object](records, "s", 0)
    told, twin = (anyio.run(Redaction(redactor).process, batch) for redactor in (python, native))
    assert list(twin.items) == list(told.items)
    assert other == plain
    found = native.places(records)
    assert found is not None
    missed = set(Redaction(python)._suspects(records)) - set(found)
    assert all(Redaction(python)._log(records[place]) is records[place] for place in missed)
    return list(found)


def log(message: str = "", error: str = "", stack: str = "", **extra: object) -> LogRecord:
    return LogRecord(1, "INFO", "LOG", message, "e", error_message=error, error_stack=stack, extra=extra)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["dagster-1.7", "dagster-1.10", "dagster-1.13", "mill-1.13"])
def test_few_records_of_recorded_runs_are_looked_at(name: str) -> None:
    async def records() -> list[LogRecord]:
        events = [decode(raw, "file", n) for n, raw in enumerate((DATA / f"{name}.jsonl").read_bytes().splitlines())]
        async with LOGS.build(LogsConfig(), FakeContext()) as logs:
            return list(await logs.process(Batch(events, "s", 0)))

    told = anyio.run(records)
    assert len(assert_same(told)) < len(told) * 0.06


@pytest.mark.parametrize("secret", SECRETS)
def test_a_text_is_suspicious_where_python_says_so(secret: str) -> None:
    python, native, _, _ = pair()
    assert native._twin is not None
    for text in (
        secret,
        secret.upper(),
        f"ü {secret}",
        f"x{secret * 5}y",
        secret[1:],
        f"{secret}\n=",
        "\ud800" + secret,
    ):
        assert native._twin.suspicious(text) == (python._asked(text) or "\ud800" in text)
    assert_same([log(secret), log(error=secret), log(stack=f"Traceback {secret}"), log("a", x=secret)])


def test_records_with_fields_that_are_not_ours_are_looked_at_and_others_where_they_hold_a_secret() -> None:
    ours = {"check_name": "no_nulls", "check_severity": "WARN"}
    records = [
        log(), log(**ours), log(check_name="password=x"), log(rows=1), log(freshness=1), log(freshness=["token=x"]),
        log(**ours, password="x"), log("\ud800"), log("PASSWORD: x"), log("password"),
    ]  # fmt: skip
    assert assert_same(records) == [2, 3, 4, 5, 6, 7, 8]


def test_a_name_of_ours_that_the_options_call_a_secret_is_one() -> None:
    config = RedactionConfig(names=("check",))
    assert assert_same([log(check_name="no_nulls"), log(freshness="PASS")], config) == [0]


def test_a_batch_of_other_items_is_pythons() -> None:
    native = pair()[1]
    assert native.places([log(), "no log record"]) is None
    assert native.places([]) == []


def test_an_expression_without_needles_is_asked_of_every_text() -> None:
    python, native, _, _ = pair(RedactionConfig(extra={"ssn": r"\d{3}-\d\d"}))
    assert native._twin is None
    assert native.text("123-45") == python.text("123-45") == "[redacted]"


parts = (
    st.sampled_from(SECRETS) | st.text(st.characters(exclude_categories=()), max_size=8) | st.sampled_from("=: \n-_")
)
texts = st.lists(parts, max_size=4).map("".join)
fields = st.dictionaries(
    st.sampled_from(["check_name", "freshness", "token", "x"]) | texts, texts | st.integers(), max_size=2
)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.builds(log, texts, texts, texts).flatmap(
            lambda r: fields.map(lambda f: msgspec.structs.replace(r, extra=f))
        ),
        max_size=20,
    )
)
def test_arbitrary_records_come_out_the_same(records: list[LogRecord]) -> None:
    assert_same(records)
