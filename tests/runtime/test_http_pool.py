"""What goes over the wire, and what is left of it."""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from pipeline.runtime.http import open_http

pytestmark = pytest.mark.anyio


@contextmanager
def server() -> Iterator[tuple[str, list[tuple[str | None, str | None, bytes]]]]:
    """Its URL, and of each request Content-Length, Transfer-Encoding and body."""
    seen: list[tuple[str | None, str | None, bytes]] = []

    class Answers(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = self.headers["Content-Length"]
            seen.append((length, self.headers["Transfer-Encoding"], self.rfile.read(int(length or 0))))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as http:
        thread = Thread(target=http.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{http.server_port}", seen
        finally:
            http.shutdown()
            thread.join()


async def test_a_body_is_sent_with_its_length() -> None:
    with server() as (url, seen):
        async with open_http() as http:
            for body in (b"abc", b"", b"x" * 1_000_000):
                assert (await http.request("POST", url, body=body, headers={"X-One": "1"})).status == 200
    assert seen == [("3", None, b"abc"), ("0", None, b""), ("1000000", None, b"x" * 1_000_000)]


async def test_a_body_does_not_wait_for_the_garbage_collector() -> None:
    body = bytes(range(256)) * 100
    with server() as (url, _):
        async with open_http() as http:
            await http.request("POST", url, body=b"opens the connection")
            gc.disable()
            try:
                before = sys.getrefcount(body)
                await http.request("POST", url, body=body)
                assert sys.getrefcount(body) == before
            finally:
                gc.enable()
