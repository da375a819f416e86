"""Servers that keep Slack's and PagerDuty's rules, and can be slow, busy, broken or cut the line.

What they refuse they refuse with the services' own words; `faults` are what the next calls meet instead.
"""

import json
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple


class Fault(NamedTuple):
    """Instead of an answer: a status, or (0) a line that is cut; `after_s` seconds later. `done`: the call took effect
    and only its answer is lost."""

    status: int = 0
    retry_after: str = ""
    after_s: float = 0.0
    done: bool = False


CUT = Fault()
LOST_ANSWER = Fault(done=True)


def busy(seconds: int) -> Fault:
    return Fault(429, str(seconds))


class Service:
    """A server of one service. Subclasses say what a call does."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, dict[str, str], Any]] = []
        """Path, headers (lower case) and JSON of each call, those that met a fault too."""
        self.times: list[float] = []
        """When each call came."""
        self.faults: deque[Fault] = deque()
        self.down: Fault | None = None
        """What every call meets for as long as it is set."""
        self.url = ""
        self.lock = threading.Lock()

    def answer(self, path: str, headers: dict[str, str], body: Any) -> tuple[int, Any]:
        """Status and answer: JSON, or text as it is."""
        raise NotImplementedError

    def meet(self) -> Fault | None:
        return self.down or (self.faults.popleft() if self.faults else None)

    @contextmanager
    def running(self) -> Iterator["Service"]:
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                raw = self.rfile.read(int(self.headers["Content-Length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                body = json.loads(raw)
                with service.lock:
                    service.times.append(time.monotonic())
                    service.calls.append((self.path, headers, body))
                    fault = service.meet()
                    found = service.answer(self.path, headers, body) if fault is None or fault.done else (0, None)
                if fault is not None:
                    time.sleep(fault.after_s)
                    self._fail(fault)
                else:
                    self._answer(*found)

            def _fail(self, fault: Fault) -> None:
                if not fault.status:
                    reset = struct.pack("ii", 1, 0)  # the line is cut, not closed
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
                    self.close_connection = True
                    self.connection.close()
                    return
                self._answer(fault.status, "rate_limited" if fault.status == 429 else "broken", fault.retry_after)

            def _answer(self, status: int, found: Any, retry_after: str = "") -> None:
                text = found if isinstance(found, str) else json.dumps(found)
                self.send_response(status)
                if retry_after:
                    self.send_header("Retry-After", retry_after)
                self.send_header("Content-Length", str(len(text.encode())))
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, format: str, *args: object) -> None:
                """Quiet."""

            def finish(self) -> None:
                try:
                    super().finish()
                except (ValueError, OSError):
                    """The line was cut."""

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: object, client_address: object) -> None:
                """A client that went away."""

        server = Server(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        self.url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield self
        finally:
            server.shutdown()
            thread.join()
            server.server_close()


# --- Slack -----------------------------------------------------------------------------------------------------------

TOKEN = "xoxb-test"
CHANNEL_ID = "C0123"


class Message(NamedTuple):
    """A message of the channel. `thread` is the first message's `ts` of a reply."""

    ts: str
    body: dict[str, Any]
    thread: str = ""
    edits: int = 0


class Slack(Service):
    """An incoming webhook at /hook, and the Web API at /api."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: dict[str, Message] = {}

    @property
    def roots(self) -> list[Message]:
        return [message for message in self.messages.values() if not message.thread]

    @property
    def replies(self) -> list[Message]:
        return [message for message in self.messages.values() if message.thread]

    def answer(self, path: str, headers: dict[str, str], body: Any) -> tuple[int, Any]:
        if path == "/hook":
            problem = _blocks_problem(body)
            if problem:
                return 400, problem
            self._add(body)
            return 200, "ok"
        if headers.get("authorization") != f"Bearer {TOKEN}":
            return 200, {"ok": False, "error": "invalid_auth"}
        if body.get("channel") not in ("#data-alerts", CHANNEL_ID):
            return 200, {"ok": False, "error": "channel_not_found"}
        if problem := _blocks_problem(body):
            return 200, {"ok": False, "error": problem}
        if path == "/api/chat.postMessage":
            return 200, {"ok": True, "channel": CHANNEL_ID, "ts": self._add(body)}
        if path == "/api/chat.update":
            return 200, self._change(body)
        return 404, "no such method"

    def _add(self, body: dict[str, Any]) -> str:
        ts = f"1705284000.{len(self.messages):06}"
        self.messages[ts] = Message(ts, body, body.get("thread_ts", ""))
        return ts

    def _change(self, body: dict[str, Any]) -> dict[str, Any]:
        message = self.messages.get(body["ts"])
        if message is None:
            return {"ok": False, "error": "message_not_found"}
        if body["channel"] != CHANNEL_ID:  # the name is not enough here
            return {"ok": False, "error": "channel_not_found"}
        self.messages[body["ts"]] = message._replace(body=body, edits=message.edits + 1)
        return {"ok": True, "channel": CHANNEL_ID, "ts": body["ts"]}


def _blocks_problem(body: Any) -> str:
    """Slack's word for what is wrong with a message. Source: the limits of Block Kit."""
    if not isinstance(body, dict) or not (body.get("text") or body.get("blocks")):
        return "no_text"
    blocks = [*body.get("blocks", []), *(b for a in body.get("attachments", []) for b in a.get("blocks", []))]
    sizes = {"header": 150, "section": 3000}
    for block in blocks:
        if block["type"] in sizes and not 0 < len(block["text"]["text"]) <= sizes[block["type"]]:
            return "invalid_blocks"
        for element in block.get("elements", []):
            if len(element["text"]["text"]) > 75 or len(element["url"]) > 3000:
                return "invalid_blocks"
    return "invalid_blocks" if len(blocks) > 50 else ""


# --- PagerDuty -------------------------------------------------------------------------------------------------------

ROUTING_KEY = "0123456789abcdef0123456789abcdef"


class PagerDuty(Service):
    """The Events API v2. `incidents` are by key: triggered, acknowledged or resolved."""

    def __init__(self) -> None:
        super().__init__()
        self.incidents: dict[str, str] = {}
        self.log: list[tuple[str, str]] = []

    def answer(self, path: str, headers: dict[str, str], body: Any) -> tuple[int, Any]:
        if path != "/v2/enqueue":
            return 404, "not found"
        errors = list(_event_problems(body))
        if errors:
            return 400, {"status": "invalid event", "message": "Event object is invalid", "errors": errors}
        key, action = body["dedup_key"], body["event_action"]
        self.log.append((key, action))
        if action == "trigger":
            if self.incidents.get(key) != "acknowledged":
                self.incidents[key] = "triggered"
        elif self.incidents.get(key, "resolved") != "resolved":
            self.incidents[key] = f"{action}d"
        return 202, {"status": "success", "message": "Event processed", "dedup_key": key}


def _event_problems(event: Any) -> Iterator[str]:
    if len(json.dumps(event)) > 512 * 1024:
        yield "event is too large"
    if len(event.get("routing_key", "")) != 32:
        yield "Length of 'routing_key' is incorrect (should be 32 characters)"
    if not 0 < len(event.get("dedup_key", "")) <= 255:
        yield "'dedup_key' is missing or too long"
    if event.get("event_action") not in ("trigger", "acknowledge", "resolve"):
        yield "'event_action' is invalid"
    if event.get("event_action") != "trigger":
        return
    payload = event.get("payload", {})
    if not 0 < len(payload.get("summary", "")) <= 1024:
        yield "'payload.summary' is missing or too long"
    if not payload.get("source"):
        yield "'payload.source' is missing or blank"
    if payload.get("severity") not in ("critical", "error", "warning", "info"):
        yield "'payload.severity' is invalid (must be one of the following: 'critical', 'warning', 'error' or 'info')"
    for link in event.get("links", []):
        if set(link) != {"href", "text"}:
            yield "'links' is invalid"


class Hook(Service):
    """Any webhook: takes what comes."""

    def answer(self, path: str, headers: dict[str, str], body: Any) -> tuple[int, Any]:
        return 200, ""
