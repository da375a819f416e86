"""What Loki is sent: lines, labels, order, sizes; what its answers mean; and that a real Loki answers the question."""

import gzip
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

import httpx
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporters.log_lines import OURS, json_lines, rfc3339
from exporters.loki import SPEC, Loki, LokiConfig
from pipeline.batch import WHOLE, Batch
from pipeline.clock import HOUR, MINUTE
from pipeline.components import Payload
from pipeline.errors import PartialError, PermanentError, RetryableError
from pipeline.http import Response, Tls
from pipeline.options import Duration, Secret, Size
from pipeline.signals import LogRecord
from pipeline.testing.clock import VirtualClock
from pipeline.testing.context import FakeContext, FakeHttp

pytestmark = pytest.mark.anyio

T0 = 1_795_403_982_610_659_072


def record(at: int = T0, message: str = "hello", level: str = "INFO", **more: object) -> LogRecord:
    fields: dict[str, object] = {"event": "LOG", "event_id": f"r1:{at}", "run_id": "r1", **more}
    return LogRecord(at_ns=at, level=level, message=message, **fields)  # type: ignore[arg-type]


def exporter(config: LokiConfig | None = None, http: FakeHttp | None = None) -> Loki:
    return Loki(config or LokiConfig(), http or FakeHttp(), VirtualClock(T0))


def payloads(*records: LogRecord, config: LokiConfig | None = None) -> list[Payload]:
    return list(exporter(config).build(Batch(records, WHOLE, T0)))


def streams(*records: LogRecord, config: LokiConfig | None = None) -> list[dict[str, object]]:
    (payload,) = payloads(*records, config=config)
    found: list[dict[str, object]] = json.loads(payload.body)["streams"]
    return found


def test_the_line_is_the_record_in_its_order_without_what_says_nothing() -> None:
    (line,) = json_lines([record(asset_name="raw/orders", status="success", duration_ms=152.0, code_location="shop")])
    assert line == (
        '{"level":"INFO","event":"LOG","message":"hello","event_id":"r1:1795403982610659072","run_id":"r1",'
        '"asset_name":"raw/orders","status":"success","duration_ms":152.0}'
    )


def test_extra_fields_stand_at_the_top_level_and_never_over_ours() -> None:
    extra = {"rows": 487, "level": "x", "time": "y", "deep": {"a": [1, None]}}
    for location in ("", "shöp"):
        line = json.loads(json_lines([record(extra=extra, code_location=location)])[0])
        assert (line["rows"], line["level"], line["deep"]) == (487, "INFO", {"a": [1, None]})
        assert not {"time", "code_location", "at_ns", "extra"} & set(line)
    assert json.loads(json_lines([record(extra={"level": "x"})])[0])["level"] == "INFO"


texts = st.text(st.characters(codec=None), max_size=30)
plain = st.one_of(st.none(), st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False), texts)
json_values = st.recursive(plain, lambda inner: st.one_of(st.lists(inner), st.dictionaries(texts, inner)), max_leaves=5)


@given(
    at=st.integers(-(2**63), 2**63 - 1),
    message=texts,
    location=texts,
    partition=st.none() | texts,
    error=texts,
    extra=st.dictionaries(texts | st.sampled_from(sorted(OURS)), json_values, max_size=4),
)
def test_any_text_makes_a_line_of_json_that_says_it(
    at: int, message: str, location: str, partition: str | None, error: str, extra: dict[str, object]
) -> None:
    said = record(at, message, code_location=location, partition=partition, error_message=error, extra=extra)
    (line,) = json_lines([said])
    assert "\n" not in line
    found = json.loads(line)
    assert found["message"] == message.encode("utf-8", "replace").decode()
    assert "at_ns" not in found
    assert "code_location" not in found
    assert found.get("error_message", "") == error.encode("utf-8", "replace").decode()
    assert {k.encode("utf-8", "replace").decode() for k in extra if k not in OURS} <= set(found)


@given(st.integers(-(2**70), 2**70))
def test_any_time_is_written(at: int) -> None:
    text = rfc3339(at)
    assert len(text) == 30
    assert text.endswith("Z")


def test_times_are_written_to_the_nanosecond() -> None:
    assert rfc3339(T0) == "2026-11-23T03:19:42.610659072Z"
    assert rfc3339(-1) == "1969-12-31T23:59:59.999999999Z"


def test_labels_are_the_fixed_ones_and_the_allowed_fields_alone() -> None:
    found = streams(record(code_location="shop", asset_name="a"), record(level="ERROR"))
    assert [s["stream"] for s in found] == [
        {"job": "dagster", "level": "INFO", "code_location": "shop"},
        {"job": "dagster", "level": "ERROR"},
    ]


def test_labels_are_those_of_each_record_however_many_there_were_before() -> None:
    loki = exporter()
    for n in [*range(2100), 5]:
        (payload,) = loki.build(Batch([record(T0, code_location=f"location-{n}")], WHOLE, 0))
        (stream,) = json.loads(payload.body)["streams"]
        assert stream["stream"]["code_location"] == f"location-{n}"


def test_labels_are_configurable() -> None:
    config = LokiConfig(labels={"job": "x", "env": "prod"}, label_fields=("status",))
    assert streams(record(status="success"), config=config)[0]["stream"] == {
        "job": "x",
        "env": "prod",
        "status": "success",
    }
    alone = LokiConfig(label_fields=())
    assert streams(record(), config=alone)[0]["stream"] == {"job": "dagster"}


def test_what_comes_late_has_a_stream_of_its_hour() -> None:
    records = [record(T0 - minutes * MINUTE, str(minutes)) for minutes in (0, 44, 46, 90, 95)]
    (payload,) = exporter().build(Batch(records, "dagster.events/3", T0))
    assert {
        (s["stream"].get("late"), tuple(json.loads(line)["message"] for _, line in s["values"]))
        for s in json.loads(payload.body)["streams"]
    } == {(None, ("44", "0")), ("2026-11-23T02", ("46",)), ("2026-11-23T01", ("95", "90"))}
    (payload,) = exporter(LokiConfig(late_after=Duration(0))).build(Batch(records, "dagster.events/3", T0))
    assert [s["stream"].get("late") for s in json.loads(payload.body)["streams"]] == [None]


def test_entries_of_a_stream_are_ordered_by_time() -> None:
    (stream,) = streams(record(T0 + 2), record(T0), record(T0 + 1))
    assert [entry[0] for entry in stream["values"]] == [str(T0), str(T0 + 1), str(T0 + 2)]  # type: ignore[attr-defined]


def test_structured_metadata_goes_beside_the_line() -> None:
    config = LokiConfig(structured_metadata=("run_id", "trace_id"))
    (stream,) = streams(record(trace_id="abc"), record(T0 + 1), config=config)
    assert [entry[2] for entry in stream["values"]] == [{"run_id": "r1", "trace_id": "abc"}, {"run_id": "r1"}]  # type: ignore[attr-defined]


def test_a_payload_is_split_above_its_limit_and_nothing_is_lost() -> None:
    config = LokiConfig(max_bytes=Size("16KiB"), max_line_bytes=Size("8KiB"))
    built = payloads(*(record(T0 + n, '"\\' * 200) for n in range(200)), config=config)
    times = [entry[0] for p in built for s in json.loads(p.body)["streams"] for entry in s["values"]]
    assert times == [str(T0 + n) for n in range(200)]
    assert sum(p.items for p in built) == 200
    assert max(len(p.body) for p in built) <= 16 * 1024


def test_a_line_that_loki_would_refuse_loses_its_middle() -> None:
    long = record(message="a" * 300_000 + "z" * 300_000, error_stack="\x00" * 400_000, extra={"big": "x" * 10**6})
    (stream,) = streams(long, record(T0 + 1))
    first, second = stream["values"]  # type: ignore[misc]
    line = json.loads(first[1])
    assert len(first[1].encode()) <= 250 * 1024
    assert line["truncated"] is True
    assert (line["message"][0], line["message"][-1]) == ("a", "z")
    assert "truncated" not in second[1]


def test_the_same_batch_gives_the_same_bytes_and_an_empty_one_nothing() -> None:
    batch = [record(T0 + n, level=("INFO", "ERROR")[n % 2]) for n in range(10)]
    one, two = exporter(), exporter()
    assert [one.seal(p) for p in one.build(Batch(batch, WHOLE, 0))] == [
        two.seal(p) for p in two.build(Batch(batch, WHOLE, 9))
    ]
    assert payloads() == []


@pytest.mark.parametrize("compression", ["gzip", "none"])
def test_pushes_are_sealed_as_one_that_says_the_same(compression: Literal["gzip", "none"]) -> None:
    loki = exporter(LokiConfig(compression=compression, max_bytes=Size("1MiB")))
    records = [record(T0 + n, f"message {n}", "INFO" if n % 3 else "ERROR") for n in range(12)]
    apart = [payload for n in range(0, 12, 3) for payload in loki.build(Batch(records[n : n + 3], WHOLE, 0))]
    sealed = loki.seal(*apart)
    said = json.loads(gzip.decompress(sealed.body) if compression == "gzip" else sealed.body)
    assert said == {"streams": [stream for payload in apart for stream in json.loads(payload.body)["streams"]]}
    assert (sealed.items, loki.joins) == (12, 1 << 20)


def test_sealing_compresses_and_says_so() -> None:
    (payload,) = payloads(record())
    sealed = exporter().seal(payload)
    assert gzip.decompress(sealed.body) == payload.body
    assert sealed.headers == {"Content-Encoding": "gzip"}
    assert exporter(LokiConfig(compression="none")).seal(payload) is payload


async def test_it_is_pushed_with_tenant_and_headers() -> None:
    http = FakeHttp(lambda method, url, body: Response(204, {}, b""))
    config = LokiConfig(endpoint="http://loki:3100/", tenant="team-a", headers={"Authorization": Secret("Bearer x")})
    loki = exporter(config, http)
    (payload,) = loki.build(Batch([record()], WHOLE, 0))
    await loki.send(loki.seal(payload))
    ((method, url, _, headers),) = http.requests
    assert (method, url) == ("POST", "http://loki:3100/loki/api/v1/push")
    assert headers == {
        "Content-Type": "application/json",
        "Content-Encoding": "gzip",
        "X-Scope-OrgID": "team-a",
        "Authorization": "Bearer x",
    }


async def test_a_whole_push_address_is_taken_as_it_is() -> None:
    http = FakeHttp(lambda method, url, body: Response(204, {}, b""))
    await exporter(LokiConfig(endpoint="http://gateway/custom/push"), http).send(Payload(b"{}", 1))
    assert http.requests[0][1] == "http://gateway/custom/push"


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (400, b"unmarshal: bad JSON", PermanentError),
        (
            400,
            b"entry with timestamp 1970 ignored, reason: 'entry too far behind', total ignored: 1 out of 2",
            PartialError,
        ),
        (400, b"max entry size '262144' bytes exceeded for stream '{}'", PartialError),
        (400, b"entry for stream '{}' has timestamp too new", PartialError),
        (401, b"no org id", PermanentError),
        (404, b"no such tenant", PermanentError),
        (408, b"", PermanentError),
        (413, b"too large", PermanentError),
        (429, b"ingestion rate limit exceeded", RetryableError),
        (500, b"", RetryableError),
        (503, b"", RetryableError),
    ],
)
async def test_an_answer_says_whether_to_try_again(status: int, body: bytes, error: type[Exception]) -> None:
    http = FakeHttp(lambda method, url, sent: Response(status, {}, body))
    with pytest.raises(error):
        await exporter(http=http).send(Payload(b"{}", 1))


@pytest.mark.parametrize(
    "bad",
    [
        {"labels": {}, "label_fields": ()},
        {"labels": {"level": "x"}},
        {"labels": {"late": "x"}},
        {"late_after": Duration(-1)},
        {"max_line_bytes": Size(10)},
        {"max_bytes": Size("1KiB")},
    ],
)
def test_a_configuration_that_loki_would_refuse_is_refused(bad: Mapping[str, object]) -> None:
    with pytest.raises(ValueError, match=r"label|max_line_bytes|late"):
        LokiConfig(**bad)  # type: ignore[arg-type]


def test_a_field_of_many_values_is_no_label() -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"label_fields": ["run_id"]}, LokiConfig)


class _Http:
    """The runtime's client in small."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def request(
        self,
        method: str,
        url: str,
        *,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        timeout_s: float = 5.0,
        tls: Tls | None = None,
    ) -> Response:
        answer = await self._client.request(method, url, content=body, headers=dict(headers or {}), timeout=timeout_s)
        return Response(answer.status_code, {k.lower(): v for k, v in answer.headers.items()}, answer.content)


LOKI = os.environ.get("DAGTEL_TEST_LOKI", "")
loki_needed = pytest.mark.skipif(not LOKI, reason="DAGTEL_TEST_LOKI names no Loki (http://127.0.0.1:3100)")


async def ask(client: httpx.AsyncClient, query: str) -> list[dict[str, object]]:
    now = time.time_ns()
    window = {"start": now - 6 * HOUR, "end": now + 10**9, "limit": 1000}
    answer = await client.get(f"{LOKI}/loki/api/v1/query_range", params={"query": query, **window})
    answer.raise_for_status()
    found = answer.json()["data"]["result"]
    return [{**json.loads(line), "stream": s["stream"]} for s in found for _, line in s["values"]]


@pytest.mark.integration
@loki_needed
async def test_a_real_loki_answers_by_asset_and_status_and_stores_a_payload_sent_twice_once() -> None:
    instance, now = uuid4().hex, time.time_ns()
    records = [
        record(
            now + n,
            f"Succeeded in {n}ms “ü”",
            asset_name="raw/x" if n % 2 else "raw/y",
            status="success",
            event_id=str(n),
        )
        for n in range(100)
    ]
    twins = [record(now, "twin", event_id=f"t{n}", asset_name="raw/t") for n in range(2)]
    config = LokiConfig(
        endpoint=LOKI,
        labels={"job": "dagster", "test": instance},
        structured_metadata=("run_id",),
        max_bytes=Size("8KiB"),
        max_line_bytes=Size("4KiB"),
    )
    async with httpx.AsyncClient() as client, SPEC.build(config, FakeContext(http=_Http(client))) as loki:
        for _ in range(2):
            for payload in loki.build(Batch([*records, *twins], WHOLE, now)):
                await loki.send(loki.seal(payload))
        answer = await ask(
            client, f'{{job="dagster", test="{instance}"}} | json | asset_name="raw/x" | status="success"'
        )
        assert len(answer) == 50
        assert {r["asset_name"] for r in answer} == {"raw/x"}
        by_run = await ask(client, f'{{test="{instance}"}} | run_id="r1"')
        assert len(by_run) == 102


@pytest.mark.integration
@loki_needed
async def test_a_real_loki_takes_a_push_that_was_joined_whose_streams_stand_in_it_more_than_once() -> None:
    instance, now = uuid4().hex, time.time_ns()
    records = [record(now + n, f"message {n}", "INFO" if n % 2 else "ERROR", event_id=str(n)) for n in range(60)]
    config = LokiConfig(endpoint=LOKI, labels={"test": instance})
    async with httpx.AsyncClient() as client, SPEC.build(config, FakeContext(http=_Http(client))) as loki:
        parts = [p for n in range(0, 60, 20) for p in loki.build(Batch(records[n : n + 20], WHOLE, now))]
        await loki.send(loki.seal(*parts))
        found = await ask(client, f'{{test="{instance}"}}')
        assert sorted(int(str(line["event_id"])) for line in found) == list(range(60))


@pytest.mark.integration
@loki_needed
async def test_a_real_loki_takes_what_is_hours_old_after_what_is_new() -> None:
    """From a partition that is behind, or a dead letter that is replayed; in any order."""
    instance, now = uuid4().hex, time.time_ns()
    async with httpx.AsyncClient() as client:

        async def push(hours: int, **options: Any) -> None:
            config = LokiConfig(endpoint=LOKI, labels={"test": instance}, **options)
            async with SPEC.build(config, FakeContext(http=_Http(client))) as loki:
                (payload,) = loki.build(Batch([record(now - hours * HOUR, str(hours))], WHOLE, now - hours * HOUR))
                await loki.send(loki.seal(payload))

        for hours in (0, 20, 2, 9, 1, 5):
            await push(hours)
        found = await ask(client, f'{{test="{instance}"}}')
        assert {"0", "1", "2"} <= {line["message"] for line in found}  # Loki looks for older ones in what it has stored
        with pytest.raises(PartialError, match="too far behind"):
            await push(5, late_after=Duration(0))


@pytest.mark.integration
@loki_needed
async def test_a_real_loki_takes_long_lines_and_keeps_what_it_can_of_a_payload() -> None:
    instance, now = uuid4().hex, time.time_ns()
    config = LokiConfig(endpoint=LOKI, labels={"test": instance}, late_after=Duration(0))
    async with httpx.AsyncClient() as client, SPEC.build(config, FakeContext(http=_Http(client))) as loki:
        (payload,) = loki.build(Batch([record(now, "ü" * 10**6)], WHOLE, now))
        await loki.send(loki.seal(payload))
        (stored,) = await ask(client, f'{{test="{instance}"}}')
        assert stored["truncated"] is True
        (payload,) = loki.build(Batch([record(1, "far too old"), record(now + 1, "fine")], WHOLE, now))
        with pytest.raises(PartialError, match="too far behind"):
            await loki.send(loki.seal(payload))
        assert "fine" in {r["message"] for r in await ask(client, f'{{test="{instance}"}}')}


def test_the_corpus_makes_lines_as_its_texts_are() -> None:
    data = Path(__file__).parent.parent / "data" / "dagster-1.13.jsonl"
    messages = [json.loads(line)["user_message"] for line in data.read_text().splitlines()]
    lines = json_lines([record(message=m) for m in messages])
    assert [json.loads(line)["message"] for line in lines] == messages


@pytest.mark.parametrize(("body", "count"), [(b"total ignored: 7 out of 9", 7), (b"entry for stream '{}' too new", 1)])
async def test_what_loki_refused_is_counted(body: bytes, count: int) -> None:
    http = FakeHttp(lambda method, url, sent: Response(400, {}, b"entry with timestamp 1970 ignored, " + body))
    with pytest.raises(PartialError) as caught:
        await exporter(http=http).send(Payload(b"{}", 9))
    assert caught.value.count == count
