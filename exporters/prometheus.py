"""The `prometheus` exporter: figures to be scraped, as the last committed checkpoint holds them.

Commit, then publish: `build` encodes the samples, the runtime commits the payload, and only then `send` puts them
where a scrape can see them. A figure that was published and then lost by a crash would go back, which `increase()`
takes for a reset. Later samples of a series win, so payloads are sent in order, by one sender.

A counter that begins shows as 0 until one scrape has seen it (docs/metrics.md, `prometheus_holding`). What began longer
ago than `hold` when it is first published is not held: then we are catching up, and history is no burst of today.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

import msgspec
from anyio import Lock, to_thread

from exporters.gzipped import gzipped
from exporters.prometheus_holding import Holding
from exporters.prometheus_text import Figures, Kind, label_name, metric_name
from pipeline.addresses import address_fault
from pipeline.batch import Batch
from pipeline.components import Context, ExporterSpec, Payload, Receipt
from pipeline.delivery import Delivery, QueueBatch, SendingQueue
from pipeline.errors import RetryableError
from pipeline.http import AsgiMessage
from pipeline.options import Duration
from pipeline.signals import HistogramValue, Labels, Sample, Signal

T = TypeVar("T")


class PrometheusConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Publishes metric samples for Prometheus: `/metrics` of an address, a text file, or both.

    What is published is what the last committed checkpoint holds.
    """

    address: str = "127.0.0.1:8889"
    """Where `/metrics` is served; empty: nowhere."""
    textfile: str = ""
    """A file that holds the same figures, replaced as a whole (node exporter's textfile collector, `--once`)."""
    hold: Duration = Duration("60s")
    """A counter that begins shows as 0 until one scrape has seen it, so that `rate()` sees its first increments; no
    longer than this. 0: never."""

    def problems(self) -> Iterator[tuple[str, str]]:
        """Path and message of each fault."""
        yield from address_fault("address", self.address, "0.0.0.0:8889")


class Line(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """One sample in a payload."""

    name: str
    kind: Kind
    labels: Labels
    value: float | HistogramValue | None
    since_ns: int
    begins: bool = False


class Body(msgspec.Struct, frozen=True, array_like=True):
    """A payload: samples at one time, and the help text of each metric once."""

    at_ns: int
    helps: dict[str, str]
    lines: list[Line]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Body).decode
_TEXT: Final = b"text/plain; version=0.0.4; charset=utf-8"
_OPENMETRICS: Final = b"application/openmetrics-text; version=1.0.0; charset=utf-8"
_ASIDE: Final = 1 << 16  # bytes from which on compressing is worth a thread
_MANY: Final = 2000  # series from which on rendering is: 10,000 assets have 240,000 lines, a second if all are new


class Prometheus:
    """The exporter, and the ASGI application that serves its figures."""

    def __init__(self, config: PrometheusConfig, context: Context) -> None:
        self.figures = Figures()
        self._log = context.log
        self._textfile = Path(config.textfile) if config.textfile else None
        self._hold_ns = 0 if context.once else config.hold.ns
        self._context = context
        self._holding = Holding(self.figures, self._hold_ns)
        self._built: set[int] | None = set()
        """Hashes of what this process has built, until the first of it is sent."""
        self._odd: set[str] = set()
        self._at_rest = Lock()
        """Held while figures change, and while they are rendered: no scrape sees half of a flush."""

    # --- publishing ---

    def build(self, batch: Batch[Sample], /) -> Sequence[Payload]:
        """One payload for all samples, whose order it keeps."""
        if not batch.items:
            return ()
        at_ns = max(sample.at_ns for sample in batch.items) or batch.now_ns
        body = _encode(Body(at_ns, {s.name: s.help for s in batch.items}, _lines(batch.items)))
        if self._built is not None:
            self._built.add(hash(body))
        return (Payload(body, len(batch.items)),)

    async def send(self, payload: Payload, /) -> Receipt | None:
        """Publish. Raises RetryableError when the text file cannot be written."""
        body, text = _decode(payload.body), None
        is_ours = self._is_ours(payload.body)
        async with self._at_rest:
            self._holding.begin(self._context.receipt)
            for line in body.lines:
                self._publish(line, body)
            # A payload left over from before a crash is a part of the figures; the whole of them follows at once.
            if self._textfile is not None and is_ours:
                text = await self._aside(partial(self.figures.text, holding=False))
        if self._textfile is not None and text is not None:
            await to_thread.run_sync(write_whole, self._textfile, text)
        return self._holding.sent(body.at_ns if is_ours else None)

    def _is_ours(self, body: bytes) -> bool:
        """Payloads that the process before left over come first; the first one of this process ends them.

        Not told by their time: domain time is the wall's until every receiver has come, and may then be behind.
        """
        if self._built is not None and hash(body) in self._built:
            self._built = None
        return self._built is None

    def _publish(self, line: Line, body: Body) -> None:
        if line.value is None:
            ended = self.figures.drop(line.name, line.labels)
            if ended is not None:
                self._holding.end(ended)
            return
        try:
            new = self.figures.set(line.name, line.kind, body.helps.get(line.name, ""), line.labels, line.value)
        except ValueError as error:
            self._say_odd(line.name, str(error))
            return
        if new is not None and self._begins(line, body.at_ns):
            self._holding.hold(new)

    def _begins(self, line: Line, at_ns: int) -> bool:
        """Whether nobody can have seen this series, and somebody should see it at 0 first.

        Also one that begins with 0: it may count on before the next scrape.
        """
        if line.kind == "gauge" or not line.since_ns or not self._hold_ns:
            return False
        if line.begins or self._holding.first:
            return at_ns - line.since_ns < self._hold_ns
        return self._holding.unseen_before(line.name, line.labels)

    def _say_odd(self, name: str, reason: str) -> None:
        if name not in self._odd:
            self._odd.add(name)
            self._log.error("A sample does not fit its metric and is left out.", extra={"metric": name, "why": reason})

    # --- serving ---

    async def serve(
        self,
        scope: AsgiMessage,
        receive: Callable[[], Awaitable[AsgiMessage]],
        send: Callable[[AsgiMessage], Awaitable[None]],
    ) -> None:
        """Bare ASGI: GET and HEAD give the figures in the format and encoding that the scraper asks for."""
        if scope["type"] != "http":
            return
        if scope["method"] not in ("GET", "HEAD"):
            await _answer(send, 405, [(b"allow", b"GET, HEAD")], b"")
            return
        asked = _headers(scope)
        async with self._at_rest:
            self._holding.commit(self._context.receipt)
            held = self.figures.held()
            kind, body = await self._aside(partial(self._rendered, asked.get("accept", "")))
        headers = [(b"content-type", kind), (b"vary", b"accept, accept-encoding")]
        if prefers(asked.get("accept-encoding", ""), "gzip", ()):
            body = await to_thread.run_sync(gzipped, body) if len(body) >= _ASIDE else gzipped(body)
            headers.append((b"content-encoding", b"gzip"))
        headers.append((b"content-length", str(len(body)).encode()))
        shown = scope["method"] == "GET"
        await _answer(send, 200, headers, body if shown else b"")
        if shown:
            async with self._at_rest:
                new = self._holding.see(held)
            if new:
                await self._context.store_receipt(self._holding.receipt())

    async def _aside(self, render: Callable[[], T]) -> T:
        """What `render` gives, beside the loop where there is much to render."""
        return await to_thread.run_sync(render) if len(self.figures) >= _MANY else render()

    def _rendered(self, accept: str) -> tuple[bytes, bytes]:
        if prefers(accept, "application/openmetrics-text", ("text/plain", "text/*", "*/*")):
            return _OPENMETRICS, self.figures.openmetrics(holding=True).encode()
        return _TEXT, self.figures.text(holding=True).encode()


def prefers(header: str, wanted: str, others: Sequence[str]) -> bool:
    """Whether an Accept header takes `wanted`, and no other more gladly. Source: RFC 9110 §12.4.2 (q values)."""
    best = dict.fromkeys((wanted, *others), 0.0)
    for part in header.lower().split(","):
        name, *parameters = (piece.strip() for piece in part.split(";"))
        if name in best:
            best[name] = max(best[name], _quality(parameters))
    return best[wanted] > 0 and all(best[wanted] >= best[other] for other in others)


def write_whole(path: Path, text: str) -> None:
    """Replace a file in one step; a reader sees the old text or the new. Raises RetryableError when it cannot."""
    part = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    except OSError as error:
        raise RetryableError(f"{path} cannot be written: {error}") from error


def _quality(parameters: Sequence[str]) -> float:
    for parameter in parameters:
        if parameter.startswith("q="):
            try:
                return float(parameter[2:])
            except ValueError:
                return 0.0
    return 1.0


def _headers(scope: AsgiMessage) -> dict[str, str]:
    pairs = scope.get("headers")
    found: dict[str, str] = {}
    if isinstance(pairs, list | tuple):
        for name, value in pairs:
            key = name.decode("latin-1").lower()
            found[key] = f"{found[key]},{value.decode('latin-1')}" if key in found else value.decode("latin-1")
    return found


async def _answer(
    send: Callable[[AsgiMessage], Awaitable[None]], status: int, headers: list[tuple[bytes, bytes]], body: bytes
) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _lines(samples: Sequence[Sample]) -> list[Line]:
    """The samples with names and values that Prometheus takes: one bad label would cost it the whole scrape.

    Names are few and come again with every sample, so each is looked at once (0.8 → 0.3 µs a sample).
    """
    lines: list[Line] = []
    names: dict[str, str] = {}
    fit: set[str] = set()
    for sample in samples:
        name = names.get(sample.name)
        if name is None:
            name = names[sample.name] = metric_name(sample.name)
        labels = sample.labels
        for label, value in labels:
            if label not in fit and label.isidentifier() and label.isascii():
                fit.add(label)
            if label not in fit or not value.isprintable():
                labels = tuple(sorted((label_name(n), v.encode("utf-8", "replace").decode()) for n, v in labels))
                break
        lines.append(Line(name, sample.kind, labels, sample.value, sample.since_ns, sample.begins))
    return lines


@asynccontextmanager
async def build(config: PrometheusConfig, context: Context) -> AsyncIterator[Prometheus]:
    """Mount `/metrics`; the figures come with the first flush, which brings them all."""
    exporter = Prometheus(config, context)
    if config.textfile and not await to_thread.run_sync(Path(config.textfile).exists):
        await to_thread.run_sync(write_whole, Path(config.textfile), "")
    if config.address:
        context.mount(config.address, "/metrics", exporter.serve)
    yield exporter


SPEC = ExporterSpec(
    "prometheus",
    PrometheusConfig,
    build,
    takes=frozenset({Signal.METRICS}),
    serial=True,
    # A flush stays one payload, so that no scrape sees half of it.
    delivery=Delivery(sending_queue=SendingQueue(num_consumers=1, batch=QueueBatch(max_size=1_000_000))),
)
