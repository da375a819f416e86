"""What one round has shown, and whether each part of it is there."""

from demo.screen import counts
from demo.seen import Seen
from demo.traces import fullest_tree, nested_user_spans


def missing(seen: Seen) -> list[str]:
    """What should have come by now and has not; empty when the round is whole."""
    spans = seen.received.all_spans()
    roots = {span.trace_id for span in spans if not span.parent_id}
    wanted = {
        "events at the daemon": seen.events > 0,
        "a trace of every run": bool(seen.runs) and all(run.id.replace("-", "") in roots for run in seen.runs),
        "user spans nested in the daemon's": nested_user_spans(spans) > 0,
        "log lines": seen.received.line_count > 0,
        "metric series of the runs": any(name == "dagster_runs_total" for name, _ in seen.series),
        "metric series of the assets": any(name == "asset_executions_total" for name, _ in seen.series),
        "an alert with its downstream impact": impact_alert(seen) is not None,
    }
    return [name for name, there in wanted.items() if not there]


def impact_alert(seen: Seen) -> list[str] | None:
    """The last alert that names what goes stale."""
    return next((alert for alert in reversed(seen.texts()) if any("Downstream Impact" in line for line in alert)), None)


def text(seen: Seen) -> str:
    """The summary, for the end of `make demo ONCE=1`."""
    spans = seen.received.all_spans()
    rows = [
        ("runs", f"{len(seen.runs)}, {sum(not run.ok for run in seen.runs)} failed"),
        ("events", str(seen.events)),
        ("traces", str(len({span.trace_id for span in spans if not span.parent_id}))),
        ("spans", f"{seen.received.span_count}, {nested_user_spans(spans)} of user code nested in them"),
        ("log lines", str(seen.received.line_count)),
        ("series", f"{len(seen.series)} at http://{seen.metrics}/metrics"),
        ("alerts", str(len(seen.alerts))),
    ]
    failed = {
        dict(labels)["exporter"]: count
        for (name, labels), count in seen.own_series.items()
        if name == "dagtel_exporter_send_failed_total"
    }
    rows += [("unsent", f"{exporter} failed {count:.0f} times and is retried") for exporter, count in failed.items()]
    lines = [f"  {name:10} {value}" for name, value in rows]
    tree = [f"  {line}" for line in fullest_tree(spans)[:40]]
    alert = [f"  {line}" for line in impact_alert(seen) or ["none"]]
    return "\n".join(["", seen.way, *lines, "", "One of the traces:", *tree, "", "The alert:", *alert])


def one_line(seen: Seen) -> str:
    """The end of a demo that was stopped."""
    return counts(seen)
