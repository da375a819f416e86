"""What people read: every kind of message in every dress, held against files that a person has looked at.

`GOLDEN=write pytest tests/exporters/notifiers` writes them anew.
"""

import json
import os
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporters.notifiers import alertmanager, apprise, console, mail, pagerduty, slack_blocks, slack_threads
from exporters.notifiers.message import message, one_line
from pipeline.alert_json import alert_json
from pipeline.clock import HOUR, MINUTE
from pipeline.facts import ErrorInfo
from pipeline.lineage import Impact
from pipeline.signals import Alert, AlertState, Links, Member, Severity

GOLDEN = Path(__file__).parent / "golden"
TWO = 1_705_284_000_000_000_000  # 2024-01-15 02:00 UTC

SEED = Alert(
    kind="asset_failure",
    state="firing",
    severity="ERROR",
    fingerprint="v1:0123456789abcdef",
    key="v1:0123456789abcdef#1",
    reason="first",
    now_ns=TWO,
    first_ns=TWO,
    last_ns=TWO,
    title="Asset Materialization Failed",
    asset="glucose_entries",
    partition="2024-01-15",
    run_id="abc123-def456",
    error=ErrorInfo(
        "TimeoutError", "Connection timeout after 30s", file="ingestion/nightscout/readings.py", line=45, function="get"
    ),
    impact=Impact(
        {"stg": 1, "fct": 2, "mrt": 3, "daily": 3, "publish": 4},
        ("Glucose Overview",),
        exposure_kinds=("dashboard",),
    ),
    links=Links(run="https://dagster.example.com/runs/abc123-def456", trace="https://jaeger.example.com/trace/abc123"),
)


def later(state: AlertState, hours: float, count: int, window_hours: float = 0, **more: object) -> Alert:
    now = TWO + round(hours * HOUR)
    changes = {"now_ns": now, "last_ns": now, "count": count, "window_ns": round(window_hours * HOUR), **more}
    return msgspec.structs.replace(SEED, state=state, **changes)


HOSTILE = msgspec.structs.replace(
    SEED,
    asset="<!channel> & <https://evil.example|click>\n🔴 Fake: title\x1b[2J\x07",
    partition="a\u202eb<script>alert(1)</script>",
    owners=("<@U123>", "@here"),
    error=ErrorInfo("E", "*bold* `code`\r\nBcc: x@y.z\r\n\x00\x9b31m<!everyone> & more\n" + "<" * 9000, file="<x>\n"),
    impact=Impact({"b": 1}, ("<!here>",) * 8, ("x",) * 9, ("dash<board>",) * 8),
)
CASES = {
    "firing": SEED,
    "digest": later("digest", 3, 12, 1),
    "escalated": later(
        "escalated", 6, 72, 6, severity="CRITICAL", escalate_to=("@oncall-data", "pagerduty"), repeat_ns=2 * HOUR
    ),
    "repeated_quiet": later("repeated", 8, 0, 2, severity="CRITICAL", repeat_ns=2 * HOUR, last_ns=TWO + 6 * HOUR),
    "resolved": later("resolved", 9, 72, last_ns=TWO + 6 * HOUR),
    "partitions": later(
        "digest", 1, 43, 1, partitions=tuple(f"2024-01-{d:02}" for d in range(12, 32)), failing=44, impact=None
    ),
    "backfill": later(
        "digest", 1, 43, 1, partitions=tuple(f"2024-01-{d:02}" for d in range(12, 32)), failing=44, planned=1000,
        grouped_by="backfill", members_total=2, members=(
            Member("v1:2", "failing", "asset_failure", "ERROR", asset="glucose_entries", message="Disk full", count=14),
        ), impact=None,
    ),
    "check": msgspec.structs.replace(
        SEED, kind="check_failure", severity="WARNING", title="Quality Check Failed", check="no_duplicates", error=None,
        summary="2 duplicates in 487 rows", owners=("team:data", "ana@example.com"),
        impact=Impact({"stg": 1}, ("rest", "api"), ("team:bi",), ("dashboard", "api")), links=Links(),
    ),
    "run": msgspec.structs.replace(
        SEED, kind="run_failure", title="Run Failed", asset="", partition=None, job="nightly", error=None, impact=None,
        summary="The run did not start in time",
    ),
    "step": msgspec.structs.replace(
        SEED, kind="run_failure", title="Step Failed", asset="", job="nightly", step_key="vacuum[bad]", impact=None,
        error=ErrorInfo("ChildProcessCrashException", ""),
    ),
    "group": msgspec.structs.replace(
        SEED, kind="run_failure", title="Run Failed", asset="", partition=None, job="nightly",
        error=None, late=True, members_total=44, grouped_by="run", members=(
            Member("k#1", "firing", "asset_failure", "ERROR", asset="orders", partition="2024-01-01", more=2,
                   message="Full"),
            Member("k#2", "digest", "check_failure", "WARNING", asset="stg", check="no_duplicates", count=3),
            Member("k#3", "resolved", "run_failure", "ERROR", job="nightly", step_key="vacuum"),
        ),
    ),
    "several": msgspec.structs.replace(
        SEED, asset="dbt/stg", assets=tuple(f"dbt/m{n}" for n in range(7)), step_key="dbt_models", failing=7
    ),
    "several-digest": msgspec.structs.replace(
        SEED, state="digest", asset="dbt/stg", assets=("dbt/stg", "dbt/m1"), step_key="dbt_models", failing=2, count=3
    ),
    "cut": msgspec.structs.replace(
        SEED, acknowledged_by="ana", error=ErrorInfo("DatabaseError", "\n".join(f"line {n}" for n in range(40)))
    ),
    "hostile": HOSTILE,
}  # fmt: skip


ENVELOPE = mail.Envelope("dagtel <alerts@example.com>", ("data@example.com", "oncall@example.com"), prefix="[dagtel]")


def held_json(name: str, value: object) -> None:
    held(name, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def held(name: str, text: str) -> None:
    path = GOLDEN / name
    if os.environ.get("GOLDEN") == "write":
        path.write_text(text)
    assert path.read_text() == text


@pytest.mark.parametrize("case", CASES)
def test_console(case: str) -> None:
    said = message(CASES[case])
    assert said is not None
    held(f"{case}.txt", console.render(said))


@pytest.mark.parametrize("case", CASES)
def test_slack(case: str) -> None:
    said = message(CASES[case])
    assert said is not None
    style: slack_blocks.Style = "buttons" if case == "digest" else "links"
    held_json(f"{case}.slack.json", slack_blocks.body(said, style, {"@oncall-data": "S0123ABCD"}))


@pytest.mark.parametrize("case", CASES)
def test_slack_thread(case: str) -> None:
    job = slack_threads.job(CASES[case], "links", {"@oncall-data": "S0123ABCD"})
    held_json(f"{case}.slack-reply.json", job.reply)


@pytest.mark.parametrize("case", CASES)
def test_pagerduty(case: str) -> None:
    held_json(f"{case}.pagerduty.json", pagerduty.events(CASES[case], "data-platform"))


@pytest.mark.parametrize("case", CASES)
def test_email(case: str) -> None:
    made = mail.mail(CASES[case], ENVELOPE)
    held(f"{case}.eml", made.decode().replace("\r\n", "\n"))


@pytest.mark.parametrize("case", CASES)
def test_alertmanager(case: str) -> None:
    held_json(
        f"{case}.alertmanager.json", msgspec.to_builtins(alertmanager.change(CASES[case], {"environment": "prod"}))
    )


@pytest.mark.parametrize("case", CASES)
def test_apprise(case: str) -> None:
    held_json(f"{case}.apprise.json", json.loads(apprise.render(CASES[case])))


@pytest.mark.parametrize("case", ["firing", "run"])
def test_json(case: str) -> None:
    held_json(f"{case}.alert.json", json.loads(alert_json(CASES[case])))


@pytest.mark.parametrize("case", ["firing", "escalated"])
def test_the_docs_show_what_is_sent(case: str) -> None:
    docs = (GOLDEN.parents[3] / "docs" / "alerts.md").read_text()
    assert (GOLDEN / f"{case}.txt").read_text().strip() in docs


@pytest.mark.parametrize(
    "name",
    [
        "escalated.slack.json", "escalated.slack-reply.json", "firing.pagerduty.json", "resolved.pagerduty.json",
        "firing.alert.json", "firing.alertmanager.json", "firing.apprise.json", "escalated.txt",
    ],
)  # fmt: skip
def test_the_docs_show_each_notifiers_messages(name: str) -> None:
    docs = (GOLDEN.parents[3] / "docs" / "notifiers.md").read_text()
    assert (GOLDEN / name).read_text().strip() in docs


def test_the_first_failure_is_the_seeds_picture() -> None:
    said = message(msgspec.structs.replace(SEED, links=Links()))
    assert said is not None
    assert console.render(said).strip() == PICTURE.strip()


PICTURE = """
🔴 Asset Materialization Failed

Asset: glucose_entries
Partition: 2024-01-15
Run ID: abc123-def456

Error: Connection timeout after 30s
  File: ingestion/nightscout/readings.py
  Line: 45

Downstream Impact:
  • 5 assets will be stale until resolved
  • Dashboard "Glucose Overview" affected
"""


def test_the_escalation_is_the_seeds_picture() -> None:
    alert = msgspec.structs.replace(
        CASES["escalated"], links=Links(), impact=None, error=ErrorInfo("TimeoutError", "Connection timeout after 30s")
    )
    said = message(alert)
    assert said is not None
    assert console.render(said).strip() == ESCALATED.strip()


ESCALATED = """
🔴 Persistent Failure: glucose_entries

This asset has failed 72 times in the last 6 hours.
First failure: 2024-01-15 02:00 UTC
Latest failure: 2024-01-15 08:00 UTC

Error (consistent): Connection timeout after 30s

Escalating to: @oncall-data, pagerduty

This alert will repeat every 2 hours until resolved.
"""


@pytest.mark.parametrize(
    ("severity", "mark", "colour"),
    [("INFO", "ℹ️", "#0099FF"), ("WARNING", "⚠️", "#FF9900"), ("ERROR", "🔴", "#FF0000"), ("CRITICAL", "🔴", "#FF0000")],
)
def test_mark_and_colour_are_the_severitys(severity: Severity, mark: str, colour: str) -> None:
    said = message(msgspec.structs.replace(SEED, severity=severity))
    assert said is not None
    assert (said.mark, said.colour) == (mark, colour)


def test_without_dedup_a_finding_reads_as_a_first_failure_and_a_recovery_is_not_told() -> None:
    assert message(msgspec.structs.replace(SEED, state="failing")) == message(SEED)
    assert message(msgspec.structs.replace(SEED, state="recovered")) is None


@pytest.mark.parametrize(
    ("window", "words"),
    [
        (HOUR, "in the last hour"),
        (90 * MINUTE, "in the last 90 minutes"),
        (48 * HOUR, "in the last 2 days"),
        (0, "once"),
    ],
)
def test_spans_are_said_as_people_say_them(window: int, words: str) -> None:
    said = message(msgspec.structs.replace(SEED, state="digest", count=1, window_ns=window))
    assert said is not None
    assert said.text[0] == f"This asset has failed 1 time {words}.".replace(" once", "")


# --- laws ------------------------------------------------------------------------------------------------------------

texts = st.text(max_size=200) | st.sampled_from(
    ["<!channel>", "&" * 4000, "\x1b]0;x\x07", "a\nb", "*x* <@U1>", "\u202e"]
)
alerts = st.builds(
    Alert,
    kind=st.just("asset_failure"),
    state=st.sampled_from(["firing", "digest", "escalated", "repeated", "resolved", "failing"]),
    severity=st.sampled_from(["INFO", "WARNING", "ERROR", "CRITICAL"]),
    fingerprint=st.just("v1:x"),
    now_ns=st.integers(-(10**30), 10**30),
    first_ns=st.integers(-(10**30), 10**30),
    last_ns=st.integers(0, 10**18),
    title=texts,
    summary=texts,
    asset=texts,
    check=texts,
    step_key=texts,
    job=texts,
    partition=texts,
    owners=st.lists(texts, max_size=8).map(tuple),
    error=st.builds(ErrorInfo, type=texts, message=texts, file=texts, line=st.integers(0, 10**9)),
    impact=st.builds(Impact, assets=st.just({"a": 1}), exposures=st.lists(texts, max_size=9).map(tuple)),
    count=st.integers(0, 10**9),
    window_ns=st.integers(0, 10**15),
)


LINK = re.compile(r"<https?://[^<>|\s]+\|[A-Za-z0-9 ]+>")


@given(alerts)
def test_slacks_limits_hold_and_nothing_from_outside_is_markup(alert: Alert) -> None:
    said = message(alert)
    assert said is not None
    body: Any = slack_blocks.body(said)
    blocks = [block for attachment in body.get("attachments", ()) for block in attachment["blocks"]]
    assert len(body["blocks"] + blocks) <= 50
    (header,) = body["blocks"]
    assert 0 < len(header["text"]["text"]) <= 150
    for section in blocks:
        text = LINK.sub("", section["text"]["text"])
        assert 0 < len(section["text"]["text"]) <= 3000
        assert not re.search(r"[<>]", text)
        assert not re.search(r"&(?!amp;|lt;|gt;)", text)
        assert section["text"]["verbatim"] is True


@given(alerts)
def test_the_terminal_sees_no_control_characters_and_no_line_that_an_event_made_up(alert: Alert) -> None:
    said = message(alert)
    assert said is not None
    text = console.render(said)
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e]", text)
    assert "\n" not in said.heading
    assert all("\n" not in value for _, value in said.fields)
    assert len(text) < 30_000


@given(st.text(), st.integers(1, 50))
def test_one_line_is_one_line(text: str, limit: int) -> None:
    line = one_line(text, limit)
    assert len(line) <= limit
    assert len(line.splitlines()) <= 1
    assert one_line(line, limit) == line


@given(alerts)
def test_the_json_reads_back(alert: Alert) -> None:
    data = json.loads(alert_json(alert))
    assert (data["state"], data["asset"], data["count"]) == (alert.state, alert.asset, alert.count)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{6})?Z", data["first_at"])
