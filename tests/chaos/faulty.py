"""An HTTP proxy in front of a backend that misbehaves on demand."""

import http.client
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from typing import Final, Literal
from urllib.parse import urlsplit

import msgspec

Fault = Literal["dead", "slow", "refusing", "cutting", "garbage"]
FAULTS: Final[tuple[Fault, ...]] = ("dead", "slow", "refusing", "cutting", "garbage")
SLOW_S: Final = 5.0
RETRY_AFTER_S: Final = 1
NO_HTTP: Final = b"\x16\x03\x01\x02\x00 this is not HTTP \xff\xfe\r\n\r\n"
LOGIN_PAGE: Final = b"<!DOCTYPE html><html><body>Please sign in to the network.</body></html>"


class Call(msgspec.Struct, frozen=True):
    """A request that came: when (wall clock, seconds), whether the backend got it, and whether its answer got back."""

    at: float
    body: bytes
    forwarded: bool
    answered: bool


class Faulty:
    """`fault` None: passes everything. `calls` is what came, in order.

    `takes_pages`: a web page with status 200 is garbage too; a webhook may answer what it likes.
    """

    def __init__(self, backend: str, takes_pages: bool) -> None:
        self.backend, self.takes_pages = urlsplit(backend), takes_pages
        self.calls: list[Call] = []
        self._fault: Fault | None = None
        self._turn = count()
        self._address: tuple[str, int] = ("127.0.0.1", 0)
        self._server: ThreadingHTTPServer | None = None
        self._thread: threading.Thread | None = None
        self.open()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._address[1]}"

    @property
    def fault(self) -> Fault | None:
        return self._fault

    @fault.setter
    def fault(self, fault: Fault | None) -> None:
        self._fault = fault
        if fault == "dead":
            self.close()
        elif self._server is None:
            self.open()

    def open(self) -> None:
        self._server = _server(self, self._address)
        self._address = ("127.0.0.1", self._server.server_port)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def close(self) -> None:
        """Nobody listens any more; connections that are open are cut with their next request."""
        if self._server is None or self._thread is None:
            return
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        self._server = None

    def forwarded_since(self, at: float) -> float | None:
        """When the first call after `at` came that the backend got and whose answer got back."""
        return next((call.at for call in tuple(self.calls) if call.at >= at and call.answered), None)

    def turn(self) -> int:
        return next(self._turn)


def _server(proxy: Faulty, address: tuple[str, int]) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            at = time.time()
            body = self.rfile.read(int(self.headers["Content-Length"]))
            turn = proxy.turn()
            forwarded = answered = False
            match proxy.fault:
                case None:
                    forwarded = answered = self._pass(body)
                case "dead":
                    self._cut()
                case "slow":
                    time.sleep(SLOW_S)
                    forwarded = answered = self._pass(body)
                case "refusing":
                    status = 429 if turn % 2 else 503
                    self._answer(status, b"come back later", {"Retry-After": str(RETRY_AFTER_S)})
                case "cutting" if turn % 2:
                    forwarded = self._ask(body) is not None
                    self._cut()
                case "cutting":
                    self._cut()
                case "garbage":
                    self._babble(turn)
            proxy.calls.append(Call(at, body, forwarded, answered))

        def _babble(self, turn: int) -> None:
            if turn % 3 == 0:
                self.wfile.write(NO_HTTP)
                self._cut()
            elif turn % 3 == 1 and proxy.takes_pages:
                self._answer(200, LOGIN_PAGE, {"Content-Type": "text/html"})
            else:
                self._answer(502, bytes(range(256)), {"Content-Type": "application/json"})

        def _pass(self, body: bytes) -> bool:
            found = self._ask(body)
            if found is None:
                self._cut()
                return False
            try:
                self._answer(*found)
            except OSError:  # the caller had no patience
                self.close_connection = True
                return False
            return True

        def _ask(self, body: bytes) -> tuple[int, bytes, dict[str, str]] | None:
            connection = http.client.HTTPConnection(proxy.backend.netloc, timeout=30)
            try:
                kept = {k: v for k, v in self.headers.items() if k.lower() not in ("host", "connection")}
                connection.request("POST", self.path, body, kept)
                answer = connection.getresponse()
                content = answer.read()
                return answer.status, content, {"Content-Type": answer.headers.get("Content-Type", "text/plain")}
            except (OSError, http.client.HTTPException):
                return None
            finally:
                connection.close()

        def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            if status != 204:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if status != 204:
                self.wfile.write(body)

        def _cut(self) -> None:
            """Reset, as a crash does it: nothing of what was written is certain to arrive."""
            self.close_connection = True
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()

        def finish(self) -> None:
            try:
                super().finish()
            except (OSError, ValueError):
                """Was cut."""

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False
        allow_reuse_address = True

        def handle_error(self, request: object, client_address: object) -> None:
            """The daemon ends connections as it likes."""

    return Server(address, Handler)


@contextmanager
def faulty(backend: str, takes_pages: bool) -> Iterator[Faulty]:
    """A proxy in front of `backend`; passes everything at first."""
    proxy = Faulty(backend, takes_pages)
    try:
        yield proxy
    finally:
        proxy.fault = None
        proxy.close()
