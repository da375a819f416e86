"""Loki's pushes as `dagtel_native` writes them, against those that Python writes: byte for byte."""

import math
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from connectors.logs import SPEC as LOGS
from exporters.log_lines import OURS
from exporters.loki import Loki, LokiConfig
from pipeline.batch import WHOLE, Batch
from pipeline.clock import HOUR, MINUTE
from pipeline.components import Payload
from pipeline.native import HAS_NATIVE, native
from pipeline.options import Duration, Size
from pipeline.signals import LogRecord
from pipeline.testing.clock import VirtualClock
from pipeline.testing.context import FakeContext, FakeHttp
from tests.native.recorded import RECORDED, annotated

pytestmark = pytest.mark.skipif(not HAS_NATIVE, reason="dagtel-native is not installed")

T0 = 1_795_403_982_610_659_072
REQUIRED = {"at_ns": T0, "level": "INFO", "event": "LOG", "message": "hello", "event_id": "r1:1"}

CONFIGS = (
    LokiConfig(),
    LokiConfig(late_after=Duration(0), max_bytes=Size("10KiB"), max_line_bytes=Size("1KiB")),
    LokiConfig(labels={}, label_fields=("job_name",), structured_metadata=("run_id", "partition", "status", "run_id")),
    LokiConfig(labels={"jöb": '"\\\n'}, label_fields=()),
    LokiConfig(label_fields=("level", "event", "status", "job_name", "code_location")),
)
configs = pytest.mark.parametrize("config", CONFIGS, ids=range(len(CONFIGS)))


class Odd(str):
    __slots__ = ()


class Further(LogRecord, frozen=True, gc=False, omit_defaults=True):
    further: int = 7


def record(**fields: Any) -> LogRecord:
    return LogRecord(**{**REQUIRED, **fields})


def exporter(config: LokiConfig) -> Loki:
    return Loki(config, FakeHttp(), VirtualClock(T0))


def twin(records: Any, config: LokiConfig) -> list[tuple[bytes, int]] | None:
    loki = exporter(config)
    assert loki._push is not None
    late_ns = T0 - config.late_after.ns if config.late_after else 0
    return loki._push.build(records, late_ns, loki._line, loki._encoded_labels)


def in_python(records: Sequence[LogRecord], config: LokiConfig) -> Sequence[Payload]:
    loki = exporter(config)
    loki._push = None
    return loki.build(Batch(records, WHOLE, 0))


def said(records: Sequence[LogRecord], config: LokiConfig) -> list[tuple[bytes, int]]:
    return [(payload.body, payload.items) for payload in in_python(records, config)]


async def records_of(name: str) -> list[LogRecord]:
    batch = await annotated(name)
    async with LOGS.build(LOGS.config(), FakeContext()) as logs:
        return list(await logs.process(batch))


@pytest.mark.anyio
@pytest.mark.parametrize("name", RECORDED)
async def test_recorded_events_make_the_same_pushes(name: str) -> None:
    records = await records_of(name)
    assert len(records) > 100
    for config in CONFIGS:
        assert twin(records, config) == said(records, config)


@pytest.mark.anyio
@pytest.mark.parametrize("name", RECORDED)
async def test_recorded_events_are_hardly_ever_left_to_python(name: str) -> None:
    records, loki, left = await records_of(name), exporter(LokiConfig()), []

    def line(record: LogRecord) -> str:
        left.append(record)
        return loki._line(record)

    assert loki._push is not None
    assert loki._push.build(records, 0, line, loki._encoded_labels) is not None
    assert len(left) <= len(records) // 1000, left


texts = st.text(st.characters(codec=None), max_size=40)
valid = st.text(st.sampled_from('ab"\\\n\x00\x1f\x7fü€😀'), max_size=40) | st.text(max_size=40)
floats = st.floats() | st.sampled_from([0.0, -0.0, 1e16, 1e17, 1e-5, 1e-7, 5e-324, math.pi, 152.0, 1e22, 123456789.125])
odd = st.sampled_from([None, 7, 2**63, 2**64, -(2**70), True, False, 1.5, Odd("x"), Odd(""), "", [], {}, (), b"x"])
plain = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | floats | valid
values = st.recursive(
    plain,
    lambda inner: st.lists(inner, max_size=3) | st.tuples(inner) | st.dictionaries(valid, inner, max_size=3),
    max_leaves=6,
)
extras = st.dictionaries(valid | st.sampled_from(sorted(OURS)), values, max_size=4)
times = st.integers(T0 - 3 * HOUR, T0 + MINUTE) | st.integers(-(2**63), 2**63 - 1)


def some(text: st.SearchStrategy[str]) -> st.SearchStrategy[LogRecord]:
    optional = {
        name: text
        for name in LogRecord.__struct_fields__
        if name not in REQUIRED and LogRecord.__annotations__[name] is str
    }
    return st.builds(
        record,
        at_ns=times,
        level=st.sampled_from(["INFO", "ERROR", ""]) | text,
        event=text,
        message=text,
        event_id=text,
        **{name: st.just("") | inner for name, inner in optional.items()},
        partition=st.none() | text,
        duration_ms=st.none() | floats | st.integers(-9, 9),
        slow=st.booleans(),
        dagster_level=st.none() | st.integers(-(2**63), 2**63 - 1),
        derived=st.booleans(),
        extra=st.just({}) | extras,
    )


@configs
@given(st.lists(some(valid), min_size=1, max_size=8))
def test_any_record_makes_the_same_push_without_python(config: LokiConfig, records: list[LogRecord]) -> None:
    assert twin(records, config) == said(records, config)


@given(
    st.lists(some(texts), min_size=1, max_size=4),
    st.data(),
)
def test_what_is_wrong_is_as_in_python(records: list[LogRecord], data: st.DataObject) -> None:
    """The same bytes, or the same error."""
    wrong = {data.draw(st.sampled_from(LogRecord.__struct_fields__)): data.draw(odd) for _ in range(2)}
    records.append(msgspec.structs.replace(records[0], **wrong))
    config = data.draw(st.sampled_from(CONFIGS))
    try:
        expected = in_python(records, config)
    except Exception as error:
        with pytest.raises(type(error)):
            exporter(config).build(Batch(records, WHOLE, 0))
    else:
        assert exporter(config).build(Batch(records, WHOLE, 0)) == expected


@given(floats)
@example(math.nan)
@example(-math.inf)
def test_floats_are_written_alike(number: float) -> None:
    records = [record(duration_ms=number, extra={"number": [number]})]
    assert twin(records, LokiConfig()) == said(records, LokiConfig())


@given(st.lists(st.sampled_from(["x", '"', "\\", "\n", "\x00", "ü", "😀"]) | st.integers(1, 40).map("a".__mul__)))
def test_escapes_stand_anywhere_in_a_text(pieces: list[str]) -> None:
    records = [record(message="".join(pieces), extra={"".join(pieces): "".join(pieces)})]
    assert twin(records, LokiConfig()) == said(records, LokiConfig())


@pytest.mark.parametrize("letter", ["a", "ü", "😀", '"', "\\", "\n", "\x00"])
@pytest.mark.parametrize("room", range(900, 1030, 3))
def test_long_lines_are_cut_where_python_cuts_them(letter: str, room: int) -> None:
    config = LokiConfig(max_line_bytes=Size("1KiB"))
    one = len(letter.encode()) + (5 if letter == "\x00" else letter in '"\\\n')
    records = [record(message=letter * (room // one)), record(error_stack=letter * 5000, extra={"a": 1})]
    assert twin(records, config) == said(records, config)


@pytest.mark.parametrize("letter", ["a", "ü", '"', "\n"])
@pytest.mark.parametrize("most", range(1024, 9000, 97))
def test_pushes_are_split_where_python_splits_them(letter: str, most: int) -> None:
    config = LokiConfig(max_line_bytes=Size(1024), max_bytes=Size(most), label_fields=("job_name",))
    records = [record(at_ns=T0 + n * 7 % 40, message=letter * n, job_name=str(n % 5)) for n in range(40)]
    built = twin(records, config)
    assert built == said(records, config)
    assert sum(count for _, count in built) == 40


def test_records_of_one_time_keep_their_order() -> None:
    records = [record(at_ns=T0 + n % 2, message=str(n)) for n in range(50)]
    assert twin(tuple(records), LokiConfig()) == said(records, LokiConfig())


def test_labels_are_asked_for_once_a_stream() -> None:
    asked: list[tuple[str, bool]] = []

    def head(record: LogRecord, late: bool) -> bytes:
        asked.append((record.level, late))
        return b"{}"

    records = [record(at_ns=T0 + n % 2 * HOUR, level=("INFO", "ERROR")[n % 3 % 2]) for n in range(60)]
    loki = exporter(LokiConfig())
    assert loki._push is not None
    assert loki._push.build(records, T0 + 1, loki._line, head) is not None
    assert sorted(asked) == [("ERROR", False), ("ERROR", True), ("INFO", False), ("INFO", True)]


@pytest.mark.parametrize(
    "wrong",
    [
        {"code_location": "\ud800"},
        {"level": Odd("INFO")},
        {"level": None},
        {"at_ns": 2**63},
        {"at_ns": 1.5},
        {"at_ns": True},
    ],
)
def test_a_batch_with_a_wrong_label_or_time_is_left_to_python(wrong: dict[str, Any]) -> None:
    assert twin([record(), record(**wrong)], LokiConfig()) is None


def test_what_is_no_log_record_is_left_to_python() -> None:
    assert twin([record(), None], LokiConfig()) is None
    assert twin([Further(**REQUIRED)], LokiConfig()) is None


def test_metadata_that_is_no_text_is_left_to_python() -> None:
    config = LokiConfig(structured_metadata=("run_id",))
    assert twin([record(run_id=7)], config) is None
    assert twin([record(run_id="\ud800")], config) is None


@pytest.mark.parametrize("extra", [{"a": "\ud800"}, {"\ud800": 1}, {1: 2}, {"a": 2**64 - 1}, {"a": {1: 2}}])
def test_a_line_that_is_odd_is_left_to_python(extra: dict[Any, Any]) -> None:
    records = [record(), record(extra=extra)]
    assert twin(records, LokiConfig()) == said(records, LokiConfig())


def test_what_is_deep_is_left_to_python() -> None:
    deep: Any = 1
    for _ in range(100):
        deep = [deep]
    records = [record(extra={"deep": deep}), record(extra={"level": deep, "x": 1})]
    assert twin(records, LokiConfig()) == said(records, LokiConfig())
    endless: dict[str, Any] = {}
    endless["again"] = endless
    with pytest.raises(RecursionError):
        exporter(LokiConfig()).build(Batch([record(extra=endless)], WHOLE, 0))


def test_a_class_with_other_fields_is_refused() -> None:
    with pytest.raises(ValueError, match="further"):
        native.LokiPush(Further, (), (), 1024, 1024)
    with pytest.raises(ValueError, match="nothing"):
        native.LokiPush(LogRecord, ("nothing",), (), 1024, 1024)
