"""What is published, when, and in which words; read back by Prometheus' own parsers, and by Prometheus itself."""

import gzip
import json
import math
import os
import subprocess
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import ParamSpec, TypeVar, cast
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import urlopen

import anyio
import msgspec
import pytest
import uvicorn
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from exporters import prometheus_holding
from exporters.prometheus import SPEC, Prometheus, PrometheusConfig, prefers
from exporters.prometheus_text import Figures, number
from pipeline.batch import WHOLE, Batch
from pipeline.clock import SECOND
from pipeline.components import Payload, Receipt
from pipeline.errors import RetryableError
from pipeline.http import AsgiMessage
from pipeline.signals import HistogramValue, Labels, Sample
from pipeline.testing.context import FakeContext
from tests.ports import free_port

pytestmark = pytest.mark.anyio

P = ParamSpec("P")
R = TypeVar("R")

T0 = 1_700_000_000 * SECOND
HOLD = 60 * SECOND


def counter(
    value: float | None, asset: str = "a", at: int = T0, since: int = 1, name: str = "runs_total", begins: bool = True
) -> Sample:
    return Sample(name, "counter", (("asset_name", asset),), value, at, "Runs.", since, begins)


def histogram(asset: str = "a", at: int = T0, since: int = 1) -> Sample:
    value = HistogramValue((0.5, 10), (1, 3), 4, 61.5)
    return Sample("took_seconds", "histogram", (("asset_name", asset),), value, at, "Took.", since, True)


@asynccontextmanager
async def opened(
    address: str = "127.0.0.1:8889", once: bool = False, receipt: bytes | None = None, textfile: str = ""
) -> AsyncIterator[Prometheus]:
    context = FakeContext("prometheus", once=once, receipt=receipt)
    async with SPEC.build(PrometheusConfig(address=address, textfile=textfile), context) as exporter:
        assert set(context.mounted) == ({(address, "/metrics")} if address else set())
        yield cast("Prometheus", exporter)


def built(exporter: Prometheus, *samples: Sample) -> Payload:
    (payload,) = exporter.build(Batch(samples, WHOLE, T0))
    return payload


async def publish(exporter: Prometheus, *samples: Sample) -> None:
    """Send them, and commit what that gave."""
    commit(exporter, await exporter.send(built(exporter, *samples)))


def commit(exporter: Prometheus, receipt: Receipt | None) -> None:
    cast("FakeContext", exporter._context).receipt = receipt


class Answer:
    def __init__(self, messages: list[AsgiMessage]) -> None:
        start, body = messages
        self.status = start["status"]
        self.headers = dict(cast("list[tuple[bytes, bytes]]", start["headers"]))
        self.raw = cast("bytes", body["body"])

    @property
    def text(self) -> str:
        raw = gzip.decompress(self.raw) if b"content-encoding" in self.headers else self.raw
        return raw.decode()


async def scrape(exporter: Prometheus, accept: str = "", encoding: str = "", method: str = "GET") -> Answer:
    messages: list[AsgiMessage] = []

    async def receive() -> AsgiMessage:
        return {"type": "http.request", "body": b""}

    async def send(message: AsgiMessage) -> None:
        messages.append(message)

    headers = [(b"accept", accept.encode()), (b"accept-encoding", encoding.encode())]
    await exporter.serve({"type": "http", "method": method, "path": "/metrics", "headers": headers}, receive, send)
    return Answer(messages)


def samples_of(text: str, parse: Callable[..., object] = parse_text) -> dict[tuple[str, Labels], float]:
    families = list(parse(text))  # type: ignore[call-overload]  # an iterable of families, by either parser
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for family in families for s in family.samples}


# --- what is published ---


async def test_nothing_is_seen_before_it_is_sent() -> None:
    async with opened() as exporter:
        payload = built(exporter, counter(3))
        assert (await scrape(exporter)).text == ""
        await exporter.send(payload)
        assert (await scrape(exporter)).text == (
            '# HELP runs_total Runs.\n# TYPE runs_total counter\nruns_total{asset_name="a"} 3\n'
        )


async def test_a_large_page_is_made_beside_the_loop_and_never_shows_half_of_a_flush() -> None:
    async with opened() as exporter:
        names = [f"asset_{number}" for number in range(5000)]
        await publish(exporter, *(counter(1, name, since=0) for name in names))
        pages: list[Answer] = []
        threads: list[threading.Thread] = []
        text = exporter.figures.text

        def noted(holding: bool) -> str:
            threads.append(threading.current_thread())
            return text(holding)

        exporter.figures.text = noted  # type: ignore[method-assign]

        async def scraped() -> None:
            pages.append(await scrape(exporter))

        async with anyio.create_task_group() as tasks:
            for value in (2, 3, 4):
                tasks.start_soon(scraped)
                tasks.start_soon(publish, exporter, *(counter(value, name, since=0) for name in names))
        shown = [set(samples_of(page.text).values()) for page in pages]
        assert len(shown) == 3
        assert all(len(values) == 1 for values in shown), shown
        assert len(threads) == 3
        assert threading.main_thread() not in threads, "others have the loop meanwhile"


async def test_the_same_batch_gives_the_same_bytes_and_no_samples_no_payload() -> None:
    async with opened() as exporter:
        assert built(exporter, counter(3), histogram()) == built(exporter, counter(3), histogram())
        assert exporter.build(Batch((), WHOLE, T0)) == ()


async def test_series_are_sorted_and_the_later_sample_wins() -> None:
    async with opened() as exporter:
        await publish(exporter, counter(1, "b"), counter(1, "a"), histogram(), counter(2, "b"))
        await publish(exporter, counter(5, "a"))
        text = (await scrape(exporter)).text
        assert text == (
            "# HELP runs_total Runs.\n# TYPE runs_total counter\n"
            'runs_total{asset_name="a"} 5\nruns_total{asset_name="b"} 2\n'
            "# HELP took_seconds Took.\n# TYPE took_seconds histogram\n"
            'took_seconds_bucket{asset_name="a",le="0.5"} 1\ntook_seconds_bucket{asset_name="a",le="10.0"} 3\n'
            'took_seconds_bucket{asset_name="a",le="+Inf"} 4\n'
            'took_seconds_sum{asset_name="a"} 61.5\ntook_seconds_count{asset_name="a"} 4\n'
        )


async def test_a_sample_without_a_value_ends_its_series() -> None:
    async with opened() as exporter:
        await publish(exporter, counter(1, "a"), counter(1, "b"))
        await publish(exporter, counter(None, "a"), counter(None, "never there"))
        assert samples_of((await scrape(exporter)).text) == {("runs_total", (("asset_name", "b"),)): 1}
        await publish(exporter, counter(None, "b"))
        assert (await scrape(exporter)).text == ""


async def test_a_metric_keeps_its_first_kind_and_the_rest_of_the_figures_is_fine(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with opened() as exporter:
        odd = Sample("runs_total", "gauge", (), 7.0)
        await publish(exporter, counter(1), odd, odd, Sample("x", "gauge", (), HistogramValue((), (), 0, 0)))
        assert samples_of((await scrape(exporter)).text) == {("runs_total", (("asset_name", "a"),)): 1}
        assert len(caplog.records) == 2


# --- formats ---


async def test_openmetrics_names_counters_without_total_and_ends_with_eof() -> None:
    async with opened() as exporter:
        quoted = Sample("g", "gauge", (), 1.5, help='a "b" \\ c\nd')
        await publish(exporter, counter(3), quoted, counter(1, name="odd"))
        answer = await scrape(exporter, "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5")
        assert answer.headers[b"content-type"].startswith(b"application/openmetrics-text; version=1.0.0")
        assert answer.text == (
            '# HELP g a \\"b\\" \\\\ c\\nd\n# TYPE g gauge\ng 1.5\n'
            '# HELP odd Runs.\n# TYPE odd unknown\nodd{asset_name="a"} 1\n'
            '# HELP runs Runs.\n# TYPE runs counter\nruns_total{asset_name="a"} 3\n# EOF\n'
        )


@pytest.mark.parametrize(
    ("accept", "openmetrics"),
    [
        ("", False),
        ("*/*", False),
        ("text/plain", False),
        ("application/openmetrics-text", True),
        ("application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.9", False),
        (
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
            "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;q=0.4,*/*;q=0.2",
            True,
        ),
        ("application/openmetrics-text;q=nonsense", False),
    ],
)
async def test_the_format_is_what_the_scraper_asks_for(accept: str, openmetrics: bool) -> None:
    async with opened() as exporter:
        kind = (await scrape(exporter, accept)).headers[b"content-type"]
        assert kind.startswith(b"application/openmetrics-text" if openmetrics else b"text/plain; version=0.0.4")


async def test_gzip_is_used_where_it_is_accepted() -> None:
    async with opened() as exporter:
        await publish(exporter, *(counter(n, f"asset {n}") for n in range(2000)))
        plain, packed = await scrape(exporter), await scrape(exporter, encoding="deflate, gzip;q=1.0")
        assert b"content-encoding" not in plain.headers
        assert packed.headers[b"content-length"] == str(len(packed.raw)).encode()
        assert packed.text == plain.text
        assert len(packed.raw) < len(plain.raw) / 5
        assert not prefers("gzip;q=0", "gzip", ())


async def test_only_get_and_head_are_answered() -> None:
    async with opened() as exporter:
        await publish(exporter, counter(1))
        head = await scrape(exporter, method="HEAD")
        assert (head.status, head.raw) == (200, b"")
        assert (await scrape(exporter, method="POST")).status == 405


def test_numbers_read_back_as_they_were() -> None:
    assert [number(v) for v in (3.0, 0.1, -2.0, 1e15, 1e22, math.inf, -math.inf, math.nan)] == [
        "3", "0.1", "-2", "1000000000000000.0", "1e+22", "+Inf", "-Inf", "NaN",
    ]  # fmt: skip


_labels = st.dictionaries(
    st.sampled_from(["asset_name", "b", "schema"]),
    # The parsers of the Python client split lines as Python does; Prometheus does not, but such values never come:
    # the connector replaces control characters.
    st.text(st.characters(exclude_categories=("Cs", "Cc", "Zl", "Zp")), max_size=12).map(
        lambda t: t.replace("q", '\\"\n')
    ),
).map(lambda found: tuple(sorted(found.items())))
_values = st.floats(allow_nan=False)


@settings(deadline=None)
@given(st.dictionaries(st.tuples(st.sampled_from(["a_total", "b"]), _labels), _values, max_size=8))
def test_any_figures_read_back_by_prometheus_own_parsers(figures: dict[tuple[str, Labels], float]) -> None:
    published = Figures()
    for (name, labels), value in figures.items():
        if name == "b":
            published.set(name, "gauge", 'a "quoted" \\ help\n', labels, value)
        else:
            published.set(name, "counter", "help", labels, abs(value))
    expected = {key: abs(value) if key[0] == "a_total" else value for key, value in figures.items()}
    assert samples_of(published.text(holding=False)) == expected
    assert samples_of(published.openmetrics(holding=False), parse_openmetrics) == expected


async def test_names_that_prometheus_does_not_allow_do_not_cost_the_scrape() -> None:
    async with opened() as exporter:
        await publish(exporter, Sample("9 bad.name", "gauge", (("a-b", "x"), ("ok", "\ud800")), 1.0))
        assert samples_of((await scrape(exporter)).text) == {("_9_bad_name", (("a_b", "x"), ("ok", "?"))): 1}


_odd = st.builds(
    lambda name, labels: Sample(name, "gauge", tuple(sorted(labels.items())), 1.0, T0),
    st.sampled_from(["ok", "9 bad.name", "é"]),
    st.dictionaries(st.sampled_from(["ok", "a-b", "é", "9"]), st.sampled_from(["x", "\ud800", "a\nb", ""]), max_size=3),
)


@settings(deadline=None)
@given(st.lists(_odd, min_size=1, max_size=6))
async def test_a_sample_s_line_is_the_same_whatever_stands_beside_it(samples: list[Sample]) -> None:
    async with opened() as exporter:
        (together,) = exporter.build(Batch(samples, WHOLE, T0))
        alone = [exporter.build(Batch([sample], WHOLE, T0))[0] for sample in samples]
    assert lines_in(together) == [line for payload in alone for line in lines_in(payload)]


def lines_in(payload: Payload) -> list[object]:
    return list(msgspec.msgpack.decode(payload.body)[2])


# --- holding ---


def checkpoint(exporter: Prometheus) -> None:
    """What was given to be stored is."""
    context = cast("FakeContext", exporter._context)
    for receipt in context.receipts:
        context.receipt = receipt
    context.receipts = []


async def shown(exporter: Prometheus, asset: str = "a") -> float:
    """What a scrape shows, and a checkpoint after it."""
    value = await scraped(exporter, asset)
    checkpoint(exporter)
    return value


async def scraped(exporter: Prometheus, asset: str = "a") -> float:
    return samples_of((await scrape(exporter)).text)["runs_total", (("asset_name", asset),)]


async def test_a_counter_that_begins_shows_as_zero_until_one_scrape_has_seen_it() -> None:
    async with opened() as exporter:
        await publish(exporter, counter(1, since=T0))
        await publish(exporter, counter(2, at=T0 + SECOND, since=T0))
        assert await shown(exporter) == 0
        assert await shown(exporter) == 2


async def test_a_histogram_that_begins_shows_as_empty_first() -> None:
    async with opened() as exporter:
        await publish(exporter, histogram(since=T0))
        first = samples_of((await scrape(exporter)).text)
        checkpoint(exporter)
        second = samples_of((await scrape(exporter)).text)
        assert set(first.values()) == {0}
        assert second["took_seconds_count", (("asset_name", "a"),)] == 4


async def test_gauges_history_and_series_of_unknown_age_are_not_held() -> None:
    async with opened() as exporter:
        gauge = Sample("g", "gauge", (), 5.0, T0, "", T0)
        await publish(exporter, gauge, counter(5, "last week", T0, T0 - HOLD), counter(6, "unknown", T0, 0))
        assert samples_of((await scrape(exporter)).text)["g", ()] == 5
        assert [await shown(exporter, asset) for asset in ("last week", "unknown")] == [5, 6]


async def test_nothing_is_held_longer_than_the_bound() -> None:
    async with opened() as exporter:
        await publish(exporter, counter(1, "a", since=T0))
        await publish(exporter, counter(1, "b", at=T0 + HOLD - 1, since=T0 + HOLD - 1))
        await publish(exporter, counter(1, "c", at=T0 + HOLD, since=T0 + HOLD))
        assert samples_of((await scrape(exporter)).text) == {
            ("runs_total", (("asset_name", "a"),)): 1,
            ("runs_total", (("asset_name", "b"),)): 0,
            ("runs_total", (("asset_name", "c"),)): 0,
        }


def committed(exporter: Prometheus) -> bytes | None:
    return exporter._context.receipt


async def test_after_a_restart_what_nobody_has_seen_is_held_and_what_somebody_may_have_seen_is_shown() -> None:
    async with opened() as before:
        await publish(before, counter(1, "seen", since=T0))
        assert [await shown(before, "seen"), await shown(before, "seen")] == [0, 1]
        await publish(before, counter(2, "unseen", at=T0 + 1, since=T0 + 1))
        left_over = built(before, counter(3, "left over", at=T0 + 2, since=T0 + 2))
        await before.send(left_over)
        assert await scraped(before, "left over") == 0
    async with opened(receipt=committed(before)) as exporter:
        commit(exporter, await exporter.send(left_over))
        whole = {"seen": 5.0, "unseen": 6.0, "left over": 7.0, "begun since": 8.0}
        later = {"at": T0 + 10 * HOLD, "since": T0 + 10 * HOLD - 1}
        await publish(
            exporter,
            *(counter(value, name, **later, begins=name == "begun since") for name, value in whole.items()),
        )
        await scrape(exporter)  # it sees them, and nothing is committed
    assert [await scraped(exporter, name) for name in whole] == [5, 0, 0, 0]
    checkpoint(exporter)
    assert [await scraped(exporter, name) for name in whole] == [5, 6, 7, 8]


async def test_a_value_is_shown_only_once_it_is_committed_that_its_0_was_seen() -> None:
    """Else a crash would forget it, and the next start would show 0: a reset."""
    async with opened() as exporter:
        await publish(exporter, counter(3, since=T0))
        assert [await scraped(exporter), await scraped(exporter)] == [0, 0]
        checkpoint(exporter)
        assert await scraped(exporter) == 3


async def test_what_a_scrape_sees_while_its_payload_is_sent_is_not_seen_yet(tmp_path: Path) -> None:
    """That payload may be sent again, and then the series begins once more."""
    async with opened(textfile=str(tmp_path / "metrics.prom")) as exporter, anyio.create_task_group() as tasks:
        async with exporter._at_rest:
            tasks.start_soon(exporter.send, built(exporter, counter(3, since=T0)))
            await anyio.sleep(0)
        while not exporter.figures.held():  # published, and on its way into the file
            await anyio.sleep(0)
        assert await shown(exporter) == 0
        assert cast("FakeContext", exporter._context).receipt is None


async def test_a_receipt_of_an_earlier_version_says_that_all_was_seen() -> None:
    async with opened(receipt=str(T0).encode()) as exporter:
        await publish(exporter, counter(3, "old", at=T0 + 1, since=T0 - 1, begins=False), counter(4, "new", since=T0))
        assert [await scraped(exporter, "old"), await scraped(exporter, "new")] == [3, 0]


async def test_the_first_publication_of_all_holds_what_began_a_moment_ago() -> None:
    """An exporter that is added to a running service: nobody has seen anything."""
    async with opened() as exporter:
        await publish(exporter, counter(3, since=T0, begins=False), counter(4, "old", since=T0 - HOLD, begins=False))
        assert [await shown(exporter), await shown(exporter, "old"), await shown(exporter)] == [0, 4, 3]


async def test_a_receipt_that_comes_after_it_was_built_counts() -> None:
    """Of the one that it replaces when the configuration is read anew."""
    async with opened() as before:
        await publish(before, counter(3, since=T0))
        async with opened(receipt=committed(before)) as exporter:
            assert await shown(before) == 0
            commit(exporter, committed(before))
            await publish(exporter, counter(3, since=T0, begins=False))
            assert [await shown(before), await shown(exporter)] == [3, 3]


async def test_a_receipt_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prometheus_holding, "MOST", 3)
    async with opened() as exporter:
        await publish(exporter, *(counter(1, str(number), since=T0) for number in range(10)))
        assert len(committed(exporter) or b"") < 40


async def test_a_counter_that_begins_with_0_and_counts_on_before_a_scrape_shows_its_0_too() -> None:
    async with opened() as exporter:
        await publish(exporter, counter(0, since=T0))
        await publish(exporter, counter(2, at=T0 + 1, since=T0))
        assert [await shown(exporter), await shown(exporter)] == [0, 2]


async def test_with_once_nothing_is_held() -> None:
    async with opened(once=True) as exporter:
        await publish(exporter, counter(1, since=T0))
        assert await shown(exporter) == 1


async def test_a_series_that_ended_and_began_anew_is_held_again() -> None:
    async with opened() as exporter:
        await publish(exporter, counter(9, since=T0))
        assert [await shown(exporter), await shown(exporter)] == [0, 9]
        await publish(exporter, counter(None, at=T0 + 5), counter(1, at=T0 + 5, since=T0 + 5))
        assert [await shown(exporter), await shown(exporter)] == [0, 1]


# --- the text file ---


async def test_the_text_file_holds_the_true_figures_after_each_send(tmp_path: Path) -> None:
    path = tmp_path / "out" / "metrics.prom"
    async with opened("", textfile=str(path)) as exporter:
        assert path.read_text() == ""
        await publish(exporter, counter(1, since=T0))
        await publish(exporter, counter(2, at=T0 + 1, since=T0))
        assert samples_of(path.read_text()) == {("runs_total", (("asset_name", "a"),)): 2}
        assert [entry.name for entry in path.parent.iterdir()] == ["metrics.prom"]


async def test_what_is_left_over_from_a_crash_does_not_replace_the_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "metrics.prom"
    async with opened("", textfile=str(path)) as before:
        left_over = built(before, counter(2, at=T0 - 1))
        await publish(before, counter(2, at=T0 - 1), counter(1, "b", at=T0 - 1))
    async with opened("", textfile=str(path), receipt=b"published") as exporter:
        await exporter.send(left_over)
        assert len(samples_of(path.read_text())) == 2
        await publish(exporter, counter(2), counter(1, "b"), counter(1, "c"))
        assert len(samples_of(path.read_text())) == 3


async def test_the_text_file_is_written_however_the_time_goes(tmp_path: Path) -> None:
    """Domain time is the wall's until every receiver has come; what is read then may be days behind."""
    path = tmp_path / "metrics.prom"
    async with opened("", textfile=str(path)) as exporter:
        for at, value in (T0, 1), (T0 - HOLD, 2):
            await publish(exporter, counter(value, at=at))
            assert f'runs_total{{asset_name="a"}} {value}' in path.read_text()


async def test_a_text_file_that_cannot_be_written_is_tried_again(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    async with opened("", textfile=str(tmp_path / "taken")) as exporter:
        with pytest.raises(RetryableError, match="cannot be written"):
            await publish(exporter, counter(1))


# --- Prometheus itself ---

_SCRIPT = Path(__file__).parent.parent / "backends" / "prometheus"
_HOW = os.environ.get("DAGTEL_TEST_PROMETHEUS", "")
real = pytest.mark.skipif(not _HOW, reason="DAGTEL_TEST_PROMETHEUS (apt or go) is not set: no real Prometheus")


def backend(*command: str, environment: dict[str, str], text: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(_SCRIPT), *command], env=environment, input=text, capture_output=True, text=True, timeout=150, check=True
    )


async def in_thread(call: Callable[P, R], *args: P.args, **options: P.kwargs) -> R:
    return await anyio.to_thread.run_sync(partial(call, *args, **options))


def asked(url: str, query: str) -> list[dict[str, object]]:
    with urlopen(f"{url}/api/v1/query?{urlencode({'query': query})}", timeout=5) as answer:
        return cast("list[dict[str, object]]", json.load(answer)["data"]["result"])


@asynccontextmanager
async def served(exporter: Prometheus) -> AsyncIterator[int]:
    port = free_port()
    server = uvicorn.Server(
        uvicorn.Config(exporter.serve, port=port, log_level="warning", lifespan="off", interface="asgi3")
    )
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(checkpoints, exporter)
        async with anyio.create_task_group() as serving:
            serving.start_soon(server.serve)
            yield port
            server.should_exit = True
        tasks.cancel_scope.cancel()


async def checkpoints(exporter: Prometheus) -> None:
    """One after another."""
    while True:
        checkpoint(exporter)
        await anyio.sleep(0.2)


async def until(found: Callable[[], bool]) -> None:
    with anyio.fail_after(40):
        while True:
            try:
                if await in_thread(found):
                    return
            except URLError:
                pass
            await anyio.sleep(0.2)


@real
@pytest.mark.integration
async def test_prometheus_scrapes_every_series_and_sees_the_first_increments(tmp_path: Path) -> None:
    environment = {**os.environ, "BACKENDS_RUN": str(tmp_path / "run"), "PROM_PORT": str(free_port())}
    if _HOW in ("apt", "go"):
        environment["PROM_FROM"] = _HOW
    awkward = 'a "b" \\ c\nd 市場'
    async with opened() as exporter, served(exporter) as port:
        await publish(exporter, counter(4, awkward, since=1), histogram(since=1))
        text = exporter.figures.text(holding=False)
        await in_thread(backend, "promtool", "check", "metrics", environment=environment, text=text)
        config = tmp_path / "prometheus.yml"
        config.write_text(
            "global: {scrape_interval: 1s}\n"
            f"scrape_configs: [{{job_name: dagtel, static_configs: [{{targets: ['127.0.0.1:{port}']}}]}}]\n"
        )
        environment["PROM_CONFIG"] = str(config)
        url = (await in_thread(backend, "up", environment=environment)).stdout.strip().splitlines()[-1]
        try:
            await until(lambda: len(asked(url, "runs_total == 4")) == 1)
            assert cast("dict[str, str]", asked(url, "runs_total")[0]["metric"])["asset_name"] == awkward
            assert len(asked(url, "took_seconds_bucket")) == 3
            await publish(exporter, counter(3, "new", at=T0 + SECOND, since=T0 + SECOND))
            await until(lambda: len(asked(url, 'increase(runs_total{asset_name="new"}[1m]) >= 3')) == 1)
        finally:
            await in_thread(backend, "wipe", environment=environment)
