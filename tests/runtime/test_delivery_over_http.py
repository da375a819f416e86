"""Delivery against a real server in every kind of trouble: nothing is lost, the others are not delayed."""

import io
import socket
import struct
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest

from pipeline.components import Context, ExporterSpec, Payload
from pipeline.delivery import CircuitBreaker, Delivery, QueueBatch, RetryOnFailure, SendingQueue
from pipeline.http import HttpClient, expect_ok
from pipeline.options import Duration
from pipeline.runtime.launch import run_service
from pipeline.signals import Signal
from pipeline.store.state import StateStore
from pipeline.testing.fakes import CollectingExporter, MemoryReceiver, NoOptions, a_plan, events
from pipeline.topology.plan import Plan

pytestmark = pytest.mark.anyio

MESSAGES = [f"{number:03}" for number in range(40)]
QUICK = Delivery(
    timeout=Duration("300ms"),
    retry_on_failure=RetryOnFailure(initial_interval=Duration("10ms"), max_interval=Duration("50ms")),
    circuit_breaker=CircuitBreaker(failures=3, cool_down=Duration("100ms")),
    sending_queue=SendingQueue(batch=QueueBatch(max_size=4)),
)


class Backend:
    """Answers as `trouble` says: it gets the handler and the number of the call (from 0); None is 200."""

    def __init__(self) -> None:
        self.trouble: Callable[[BaseHTTPRequestHandler, int], bool] = lambda handler, call: False
        self.taken: list[str] = []
        self.calls: list[float] = []
        backend = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                backend.calls.append(time.monotonic())
                if not backend.trouble(self, len(backend.calls) - 1):
                    backend.taken += msgspec.json.decode(body)
                    answer(self, 200)

            def log_message(self, format: str, *args: object) -> None:
                """Quiet."""

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            block_on_close = False

            def handle_error(self, request: object, client_address: object) -> None:
                """Callers hang up."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def answer(handler: BaseHTTPRequestHandler, status: int, body: bytes = b"", **headers: str) -> None:
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


def cut(handler: BaseHTTPRequestHandler) -> None:
    """As a crash does it: a reset, no answer."""
    handler.close_connection = True
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.connection.close()
    handler.wfile = io.BytesIO()  # its owner flushes and closes it


@pytest.fixture
def backend() -> Iterator[Backend]:
    backend = Backend()
    yield backend
    backend.close()


class Posting(CollectingExporter):
    """Posts its payloads."""

    def __init__(self, http: HttpClient, url: str) -> None:
        super().__init__()
        self._http, self._url = http, url

    async def send(self, payload: Payload) -> bytes | None:
        expect_ok(await self._http.request("POST", self._url, body=payload.body, timeout_s=60), "the sink")
        return None


def plan(path: Path, backend: Backend, other: CollectingExporter, delivery: Delivery = QUICK) -> Plan:
    """Events to the backend and to another exporter."""

    @asynccontextmanager
    async def build(options: NoOptions, context: Context) -> AsyncIterator[Posting]:
        yield Posting(context.http, backend.url)

    receiver = MemoryReceiver(events(*MESSAGES), size=4)
    made = a_plan(
        receiver, [], {"sink": other, "other": other}, path, shutdown_timeout="20s", checkpoint_interval="5ms"
    )
    spec = ExporterSpec("sink", NoOptions, build, frozenset({Signal.EVENTS}))
    sink = msgspec.structs.replace(made.exporters["sink"], spec=spec, delivery=delivery)
    return msgspec.structs.replace(made, exporters={**made.exporters, "sink": sink})


@asynccontextmanager
async def no_web(mounts: Mapping[str, Any]) -> AsyncIterator[None]:
    yield


async def run(made: Plan) -> None:
    with anyio.fail_after(40):
        assert await run_service(made, True, no_web) == 0


def letters(path: Path) -> Sequence[Any]:
    store = StateStore(path)
    found = store.dead_letters()
    store.close()
    return found


def refusing(handler: BaseHTTPRequestHandler, call: int) -> bool:
    if call < 8:
        answer(handler, 503, b"later")
    return call < 8


def cutting(handler: BaseHTTPRequestHandler, call: int) -> bool:
    if call < 8:
        cut(handler)
    return call < 8


def babbling(handler: BaseHTTPRequestHandler, call: int) -> bool:
    if call < 8:
        handler.wfile.write(b"\x16\x03\x01 this is not HTTP \xff\r\n\r\n")
        handler.close_connection = True
    return call < 8


def slow(handler: BaseHTTPRequestHandler, call: int) -> bool:
    if call < 4:
        time.sleep(0.6)
        cut(handler)
    return call < 4


@pytest.mark.parametrize("trouble", [refusing, cutting, babbling, slow])
async def test_a_backend_in_trouble_gets_everything_once_it_is_well_again(
    tmp_path: Path, backend: Backend, trouble: Callable[[BaseHTTPRequestHandler, int], bool]
) -> None:
    backend.trouble = trouble
    other = CollectingExporter()
    await run(plan(tmp_path / "state.db", backend, other))
    assert sorted(backend.taken) == MESSAGES
    assert other.messages == MESSAGES
    assert letters(tmp_path / "state.db") == []


async def test_the_others_go_on_while_a_backend_is_dead_and_it_is_hardly_called(tmp_path: Path) -> None:
    backend = Backend()
    backend.close()  # nobody listens there now
    took = anyio.Event()

    class Other(CollectingExporter):
        async def send(self, payload: Payload) -> bytes | None:
            await super().send(payload)
            if len(self.messages) == len(MESSAGES):
                took.set()
            return None

    made = plan(tmp_path / "state.db", backend, Other())
    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run_service, made, False, no_web)
            await took.wait()
            tasks.cancel_scope.cancel()
    store = StateStore(tmp_path / "state.db")
    unsent = [
        m for row in store.waiting() if row.exporter == "sink" for m in msgspec.json.decode(store.payload(row.id).body)
    ]  # type: ignore[union-attr]  # they wait
    store.close()
    assert unsent == MESSAGES


@pytest.mark.parametrize("form", ["seconds", "date"])
async def test_nobody_calls_before_the_backend_wants_to_be_called_again(
    tmp_path: Path, backend: Backend, form: str
) -> None:
    def later(handler: BaseHTTPRequestHandler, call: int) -> bool:
        if call:
            return False
        at = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 2))
        answer(handler, 429, b"too much", Retry_After="1" if form == "seconds" else at)
        return True

    backend.trouble = later
    one = msgspec.structs.replace(QUICK, sending_queue=SendingQueue(num_consumers=1, batch=QueueBatch(max_size=4)))
    await run(plan(tmp_path / "state.db", backend, CollectingExporter(), one))
    assert sorted(backend.taken) == MESSAGES
    waited = backend.calls[1] - backend.calls[0]
    assert waited >= 0.95, "Retry-After is one second, or a date between one and two seconds away"


async def test_while_the_circuit_is_open_one_call_a_cool_down_is_made(tmp_path: Path, backend: Backend) -> None:
    down = 15

    def away(handler: BaseHTTPRequestHandler, call: int) -> bool:
        if call < down:
            answer(handler, 503)
        return call < down

    backend.trouble = away
    await run(plan(tmp_path / "state.db", backend, CollectingExporter()))
    assert sorted(backend.taken) == MESSAGES
    gaps = [b - a for a, b in zip(backend.calls, backend.calls[1:], strict=False)]
    probes = gaps[7 : down - 1]  # three failures open it; up to three calls of other senders were under way
    assert min(probes) >= 0.09
    assert len(probes) == down - 8


async def test_a_payload_that_is_refused_for_ever_keeps_the_answer(tmp_path: Path, backend: Backend) -> None:
    def refused(handler: BaseHTTPRequestHandler, call: int) -> bool:
        answer(handler, 422, b"the third field is no number")
        return True

    backend.trouble = refused
    await run(plan(tmp_path / "state.db", backend, CollectingExporter()))
    found = letters(tmp_path / "state.db")
    assert {one.reason for one in found} == {"refused: the sink answered 422: the third field is no number"}
    assert sorted(m for one in found for m in msgspec.json.decode(one.body)) == MESSAGES
    assert {one.kind for one in found} == {"payload"}
