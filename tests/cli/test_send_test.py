"""`dagtel alerts send-test`: who is told as routes say, what is sent says TEST, and each answer is reported."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Dagtel

CONFIG = """
receivers: {file: {path: events.jsonl}}
processors:
  run_ledger:
  dedup: {group_wait: 10s, routes: [{when: 'asset == "raw/orders"', channels: [webhook/orders]}]}
connectors: {alerts: }
exporters:
  slack: {webhook_url: "URL/slack"}
  slack/off: {}
  pagerduty: {routing_key: "0123456789abcdef0123456789abcdef", endpoint: "URL/refuses"}
  webhook/orders: {url: "URL/orders"}
  webhook/away: {url: "http://127.0.0.1:1/"}
  file: {path: never.jsonl}
service:
  pipelines:
    events: {receivers: [file], processors: [run_ledger], exporters: [alerts]}
    alerts:
      receivers: [alerts]
      processors: [dedup]
      exporters: [slack, slack/off, pagerduty, webhook/orders, webhook/away, file]
"""


@pytest.fixture
def taken(folder: Path) -> Iterator[list[tuple[str, Any]]]:
    """What a server was sent: path and body. What goes to /refuses is refused for ever."""
    found: list[tuple[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            found.append((self.path, body))
            refused = self.path.startswith("/refuses")
            self.send_response(400 if refused else 200)
            self.end_headers()
            self.wfile.write(b'{"message": "invalid key"}' if refused else b"ok")

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    (folder / "dagtel.yaml").write_text(CONFIG.replace("URL", f"http://127.0.0.1:{server.server_port}"))
    yield found
    server.shutdown()
    thread.join()
    server.server_close()


def fired(dagtel: Dagtel, *options: str) -> tuple[int, dict[str, dict[str, Any]]]:
    done = dagtel("alerts", "send-test", "--config", "dagtel.yaml", "--json", "--by", "Ann", *options)
    return done.exit_code, {row["notifier"]: row for row in json.loads(done.stdout)}


def test_a_test_alert_goes_to_whom_the_routes_name_and_its_end_follows(
    dagtel: Dagtel, taken: list[tuple[str, Any]], folder: Path
) -> None:
    code, rows = fired(dagtel, "--severity", "INFO", "--asset", "raw/orders")
    assert (code, rows["webhook/orders"]["outcome"], rows["webhook/orders"]["messages"]) == (0, "sent", 2)
    assert {row["outcome"] for id, row in rows.items() if id != "webhook/orders"} == {"not meant"}
    assert [path for path, _ in taken] == ["/orders", "/orders"]
    bodies = [json.dumps(body) for _, body in taken]
    assert all("TEST" in body for body in bodies)
    assert '"firing"' in bodies[0] and '"resolved"' in bodies[1]
    assert "Nothing is broken" in bodies[0] and "by Ann" in bodies[0]
    assert not (folder / "never.jsonl").exists() and not (folder / "dagtel-state.db").exists()


def test_what_each_notifier_answers_is_reported_and_one_that_fails_makes_it_fail(
    dagtel: Dagtel, taken: list[tuple[str, Any]]
) -> None:
    code, rows = fired(dagtel, "--severity", "CRITICAL", "--no-end")
    assert code == 1
    assert {id: row["outcome"] for id, row in rows.items()} == {
        "slack": "sent",
        "slack/off": "off",
        "pagerduty": "refused",
        "webhook/orders": "sent",
        "webhook/away": "no answer",
    }
    assert "invalid key" in rows["pagerduty"]["detail"]
    assert (rows["slack"]["messages"], len([path for path, _ in taken if path == "/slack"])) == (1, 1)


def test_a_named_notifier_is_told_whatever_the_routes_say(dagtel: Dagtel, taken: list[tuple[str, Any]]) -> None:
    code, rows = fired(dagtel, "--severity", "INFO", "--to", "webhook/orders")
    assert (code, [row["outcome"] for row in rows.values()].count("not meant")) == (0, 4)
    assert [path for path, _ in taken] == ["/orders", "/orders"]
    assert fired(dagtel, "--to", "slack/off")[0] == 1  # named, and off


def test_a_name_that_names_none_is_told_with_those_that_there_are(dagtel: Dagtel, taken: list[tuple[str, Any]]) -> None:
    refused = dagtel("alerts", "send-test", "--config", "dagtel.yaml", "--to", "sack")
    assert refused.exit_code == 2
    assert "sack is no notifier of this configuration; there are: pagerduty, slack, slack/off" in refused.output
    assert taken == []
