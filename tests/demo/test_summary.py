"""When a round counts as whole, and what is said of it."""

from demo.seen import Seen
from demo.sink import Received, Span
from demo.summary import impact_alert, missing, text

RUN = "f5f4f85e-7092-4214-af59-fecdda4a5dea"
ALERT = ["🔴 Asset Materialization Failed", "", "Asset: x", "Downstream Impact:", "  • 6 assets will be stale"]


def whole_round() -> Seen:
    received = Received()
    trace = RUN.replace("-", "")
    spans = [
        Span(trace, "a", "", "RUN job", "dagster", 0, 9, False),
        Span(trace, "b", "a", "fetch", "glucose", 1, 2, False),
    ]
    received.add_spans(spans)
    received.add_lines([{"message": "hi"}])
    seen = Seen("way", "127.0.0.1:1", "127.0.0.1:2", received)
    seen.play_line(f"run fine ok {RUN}")
    for line in ALERT:
        seen.alert_line(line)
    seen.series = {("dagster_runs_total", ()): 1.0, ("asset_executions_total", ()): 1.0}
    seen.own_series = {("dagtel_receiver_accepted_events_total", ()): 42.0}
    return seen


def test_a_round_with_all_signals_lacks_nothing() -> None:
    assert missing(whole_round()) == []


def test_each_signal_that_does_not_come_is_named() -> None:
    assert missing(Seen("way", "", "", Received())) == [
        "events at the daemon",
        "a trace of every run",
        "user spans nested in the daemon's",
        "log lines",
        "metric series of the runs",
        "metric series of the assets",
        "an alert with its downstream impact",
    ]


def test_a_run_without_a_trace_is_missed() -> None:
    seen = whole_round()
    seen.play_line("run down failed 41c6fc5a-79c4-4692-8628-837c8ec8fdd2")
    assert missing(seen) == ["a trace of every run"]


def test_the_summary_counts_and_shows_a_trace_and_the_alert() -> None:
    said = text(whole_round())
    assert "events     42" in said
    assert "spans      2, 1 of user code nested in them" in said
    assert "└─ fetch" in said
    assert "6 assets will be stale" in said


def test_a_backend_of_the_users_that_does_not_answer_is_said() -> None:
    seen = whole_round()
    assert "unsent" not in text(seen)
    seen.own_series["dagtel_exporter_send_failed_total", (("exporter", "jaeger"),)] = 4.0
    assert "unsent     jaeger failed 4 times and is retried" in text(seen)


def test_a_title_begins_another_alert_and_lines_before_the_first_are_nobodys() -> None:
    seen = Seen("way", "", "", Received())
    for line in ["banner", *ALERT, "⚠️ Check Failed", "Asset: y"]:
        seen.alert_line(line)
    assert [alert[0] for alert in seen.alerts] == [ALERT[0], "⚠️ Check Failed"]
    assert impact_alert(seen) == ALERT
