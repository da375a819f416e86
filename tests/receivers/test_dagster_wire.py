"""Any bytes in: an event, or a DecodeError that says why."""

import json
import math
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw, structs

from pipeline import events as ev
from pipeline.errors import DecodeError
from pipeline.events import Event
from pipeline.native import HAS_NATIVE
from pipeline.testing.builders import CHECK_FAILED, Fault, Log
from receivers import dagster_wire, wire_metadata
from receivers.dagster_wire import decode
from receivers.kafka_partition import Partition
from receivers.kafka_positions import begin_at
from receivers.kafka_records import KafkaRecord
from receivers.wire_repair import nanos

DATA = Path(__file__).parents[1] / "data"
VERSIONS = ("1.13", "1.10", "1.7")
CORPUS = {version: (DATA / f"dagster-{version}.jsonl").read_bytes().splitlines() for version in VERSIONS}
LINES = [line for lines in CORPUS.values() for line in lines if len(line) < 20_000]


def decoded(raw: bytes) -> Event:
    return decode(raw, source="test", offset=1)


def entry(**changes: Any) -> dict[str, Any]:
    """A log entry as JSON, with changes."""
    base: dict[str, Any] = json.loads(Log().log("hello", step="a").lines()[0])
    return {**base, **changes}


def step_event(**changes: Any) -> dict[str, Any]:
    base: dict[str, Any] = json.loads(Log().step_start("a").lines()[0])
    base["dagster_event"].update(changes)
    return base


def of(value: object) -> Event:
    return decoded(json.dumps(value).encode())


def without(value: dict[str, Any], key: str) -> dict[str, Any]:
    return {k: v for k, v in value.items() if k != key}


# --- what Dagster writes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
def test_every_recorded_event_is_read_with_its_type_and_place(version: str) -> None:
    truth = json.loads((DATA / f"truth-{version}.json").read_text())
    counts: dict[str, int] = {}
    levels: dict[str, int] = {}
    for place, line in enumerate(CORPUS[version], 1):
        event = decode(line, source="file:x", offset=place)
        counts[event.type] = counts.get(event.type, 0) + 1
        levels[str(event.level)] = levels.get(str(event.level), 0) + 1
        wire = json.loads(line)
        assert event.raw is line
        assert (event.source, event.offset) == ("file:x", place)
        assert event.at_ns == int(Decimal(repr(wire["timestamp"])) * 10**9)
        assert event.run_id == wire["run_id"]
        assert event.step_key == (wire["step_key"] or "")
    assert counts == truth["events_by_type"]
    assert levels == truth["events_by_level"]


@pytest.mark.parametrize("version", VERSIONS)
def test_every_recorded_detail_that_somebody_reads_is_there(version: str) -> None:
    expected = {
        "ASSET_MATERIALIZATION": ev.Materialized,
        "ASSET_MATERIALIZATION_PLANNED": ev.MaterializationPlanned,
        "ASSET_CHECK_EVALUATION": ev.CheckResult,
        "ASSET_CHECK_EVALUATION_PLANNED": ev.CheckPlanned,
        "ASSET_OBSERVATION": ev.Observed,
        "STEP_FAILURE": ev.StepFailed,
        "STEP_UP_FOR_RETRY": ev.RetryScheduled,
        "STEP_SUCCESS": ev.StepSucceeded,
        "STEP_EXPECTATION_RESULT": ev.Expectation,
        "PIPELINE_FAILURE": ev.RunFailed,
        "PIPELINE_CANCELED": ev.RunCanceled,
        "PIPELINE_ENQUEUED": ev.RunQueued,
        "ENGINE_EVENT": ev.Marker,
        "RESOURCE_INIT_FAILURE": ev.Marker,
        "STEP_WORKER_STARTED": ev.Marker,
        "HANDLED_OUTPUT": ev.IoHandled,
        "LOADED_INPUT": ev.IoHandled,
        "HOOK_ERRORED": ev.HookFailed,
        "FRESHNESS_STATE_CHANGE": ev.FreshnessChanged,
        "STEP_OUTPUT": type(None),
        "LOGS_CAPTURED": type(None),
    }
    for line in CORPUS[version]:
        event = decoded(line)
        assert event.type not in expected or isinstance(event.detail, expected[event.type])


def test_a_builder_s_event_is_what_the_decoder_makes_of_its_line() -> None:
    deep = Fault("DagsterExecutionStepExecutionError", "Error in a", "dagster.core", cause=Fault("KeyError", "'JPY'"))
    log = (
        Log("run-1")
        .run_queued("2026-01-01").run_starting().run_start()
        .plan("raw/a", "a", "p").plan_check("raw/a", "rows", "a").marker("STEP_WORKER_STARTING", start="go", step="a")
        .step_start("a").log("hello", step="a").loaded_input("a").step_output("a").handled_output("a")
        .observe("raw/a", "a", metadata={"lag": 3}).materialize("raw/a", "a", "p", {"dagster/row_count": 7, "x": "y"})
        .check("raw/a", "rows", False, "a", "WARN", True, {"rows_failed": 2, "share": 0.5}).step_success("a")
        .step_up_for_retry("b", deep).step_restarted("b").step_failure("b", CHECK_FAILED).step_skipped("c")
        .not_executed("d", "b").hook_errored("b").marker("RESOURCE_INIT_FAILURE", end="resources", error=Fault())
        .run_failure(deep).run_success().run_canceled()
    )  # fmt: skip
    runless = Log("").materialize("raw/a").freshness("raw/a").wiped("raw/a", "p1")
    for told in (log, runless):
        for event, line in zip(told.events(), told.lines(), strict=True):
            again = decode(line, source="test", offset=event.offset)
            assert structs.replace(again, now_ns=event.now_ns) == event


def test_metadata_becomes_plain_values() -> None:
    metadata: dict[str, Any] = {}
    for line in CORPUS["1.13"]:
        detail = decoded(line).detail
        if isinstance(detail, ev.Materialized | ev.CheckResult | ev.Observed):
            metadata.update(detail.metadata)
        elif isinstance(detail, ev.Marker):  # nobody reads it of an engine event, but its values are of more kinds
            said = json.loads(line)["dagster_event"]["event_specific_data"]["metadata_entries"]
            metadata.update(wire_metadata.metadata(Raw(json.dumps(said).encode())))
    assert type(metadata["dagster/row_count"]) is int
    assert metadata["bot_share"] == 0.0381
    assert metadata["source_file"] == "crm/export.csv"
    assert metadata["run_url"] == "https://bi.example.com/rev"
    assert metadata["price_list"] == {"eur": 1932, "usd": 1400}
    assert metadata["notes"].startswith("**2 rows dropped**")
    assert metadata["io_manager"] == "dagster._core.storage.fs_io_manager.PickledObjectFilesystemIOManager"
    assert metadata["dagster/column_lineage"]["customer_id"] == [
        {"asset_key": "raw/orders", "column_name": "customer_id"}
    ]
    assert metadata["dagster/column_schema"]["columns"][0]["name"] == "order_id"


def test_an_error_is_its_innermost_cause_at_the_user_s_own_line() -> None:
    failures = [decoded(line) for line in CORPUS["1.13"] if b'"event_type_value": "STEP_FAILURE"' in line]
    error = next(
        e.detail.error for e in failures if e.step_key == "raw__fx_rates" and isinstance(e.detail, ev.StepFailed)
    )
    assert error is not None
    assert (error.type, error.message) == ("KeyError", "'JPY'")
    assert (error.file, error.function) == ("/opt/demo/shop/definitions.py", "raw_fx_rates")
    assert error.line > 0
    assert error.frames == ("/opt/demo/shop/definitions.py:raw_fx_rates",)
    assert error.chain[0] == "DagsterExecutionStepExecutionError"
    assert error.chain[-3:] == ("IngestError", "ValueError", "KeyError")
    assert "partial document" in error.stack


def test_an_error_without_a_frame_of_the_user_s_is_where_it_was_raised() -> None:
    crash = next(line for line in CORPUS["1.13"] if b'"STEP_FAILURE"' in line and b'"segfault"' in line)
    detail = decoded(crash).detail
    assert isinstance(detail, ev.StepFailed)
    assert detail.error is not None
    assert (detail.error.type, detail.error.message) == ("ChildProcessCrashException", "")
    assert detail.error.file.endswith(".py")
    assert detail.error.line > 0
    assert detail.error.frames == ()


def test_a_run_failure_says_whether_it_repeats_a_step() -> None:
    reasons = {}
    for line in CORPUS["1.13"]:
        detail = decoded(line).detail
        if isinstance(detail, ev.RunFailed):
            reasons[detail.reason] = detail.repeats_step
    assert reasons["STEP_FAILURE"] is True


# --- two generations of names ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["ENQUEUED", "STARTING", "START", "SUCCESS", "FAILURE", "CANCELING", "CANCELED"])
def test_names_of_runs_are_stored_values_whichever_generation_wrote_them(state: str) -> None:
    assert of(step_event(event_type_value=f"RUN_{state}")).type == f"PIPELINE_{state}"
    assert of(step_event(event_type_value=f"PIPELINE_{state}")).type == f"PIPELINE_{state}"


@pytest.mark.parametrize("name", ["EventLogEntry", "DagsterEventRecord", "LogMessageRecord", "EventRecord"])
def test_records_of_old_versions_are_entries(name: str) -> None:
    assert of(entry(__class__=name)).message == "hello"


def test_a_job_may_be_spelled_as_a_job() -> None:
    assert of({**without(entry(), "pipeline_name"), "job_name": "nightly"}).job == "nightly"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("STEP_MATERIALIZATION", "ASSET_MATERIALIZATION"),
        ("PIPELINE_INIT_FAILURE", "PIPELINE_FAILURE"),
        ("PIPELINE_PROCESS_STARTED", "ENGINE_EVENT"),
    ],
)
def test_types_that_were_renamed_have_their_present_name(old: str, new: str) -> None:
    assert of(step_event(event_type_value=old)).type == new


def test_an_asset_store_operation_is_an_io_manager_s_work() -> None:
    data = {"op": "SET_ASSET", "output_name": "result", "asset_store_key": "store"}
    stored = of(step_event(event_type_value="ASSET_STORE_OPERATION", event_specific_data=data))
    assert (stored.type, stored.detail) == ("HANDLED_OUTPUT", ev.IoHandled("result", "store"))
    loaded = of(step_event(event_type_value="ASSET_STORE_OPERATION", event_specific_data={**data, "op": "GET_ASSET"}))
    assert loaded.type == "LOADED_INPUT"


def test_a_step_without_a_key_is_known_by_its_handle() -> None:
    handle = {"__class__": "SolidHandle", "name": "inner", "parent": {"__class__": "SolidHandle", "name": "graph"}}
    wire = step_event(step_key=None, solid_handle=handle)
    wire["step_key"] = None
    assert of(wire).step_key == "graph.inner"
    wire["dagster_event"]["step_handle"] = {"solid_handle": handle, "mapping_key": "m", "key": "graph.inner[m]"}
    assert of(wire).step_key == "graph.inner[m]"


def test_an_event_of_an_unknown_type_passes_without_a_detail() -> None:
    event = of(step_event(event_type_value="MOON_PHASE_CHANGED", event_specific_data={"phase": 3}, colour="white"))
    assert (event.type, event.detail, event.step_key) == ("MOON_PHASE_CHANGED", None, "a")


def test_levels_may_be_names() -> None:
    assert of(entry(level="warn")).level == 30
    assert of(entry(level="CRITICAL")).level == 50
    assert of(entry(level=10**30)).level == 100


def test_an_event_without_a_run_has_no_job() -> None:
    assert of(entry(run_id="", pipeline_name="<runless>")).job == ""


# --- what must not lose the event ------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [None, 3, "text", [], {}, {"materialization": 5}, {"error": [1]}, {"asset_key": None}])
@pytest.mark.parametrize("line", [Log().materialize("a", "a"), Log().step_failure("a"), Log().check("a", "c")])
def test_details_of_another_shape_do_not_lose_the_event(line: Log, data: object) -> None:
    wire = json.loads(line.lines()[0])
    wire["dagster_event"]["event_specific_data"] = data
    assert of(wire).type == wire["dagster_event"]["event_type_value"]


def test_a_materialization_counts_whatever_stands_beside_its_key() -> None:
    wire = json.loads(Log().materialize("raw/a", "a", metadata={"dagster/row_count": 7}).lines()[0])
    made = wire["dagster_event"]["event_specific_data"]["materialization"]
    made.update(partition=7, description=["x"], tags={"a": 1})
    assert of(wire).detail == ev.Materialized("raw/a", None, {"dagster/row_count": 7}, {})
    made["metadata_entries"] = [{"label": "n", "entry_data": {"__class__": "IntMetadataEntryData", "value": 3}}, 5, {}]
    assert of(wire).detail == ev.Materialized("raw/a", None, {"n": 3}, {})


def test_a_check_counts_whatever_stands_beside_its_result() -> None:
    wire = json.loads(Log().check("raw/a", "c", passed=False).lines()[0])
    wire["dagster_event"]["event_specific_data"].update(blocking="yes", description=1, severity=4)
    assert of(wire).detail == ev.CheckResult("raw/a", "c", False, "ERROR", False, None, None, {})


def test_nan_and_lone_surrogates_pass_because_dagster_writes_them() -> None:
    line = Log().materialize("raw/a", "a", metadata={"mean": math.nan, "most": math.inf, "n": 1}).lines()[0]
    detail = decoded(line).detail
    assert isinstance(detail, ev.Materialized)
    assert detail.metadata == {"mean": None, "most": None, "n": 1}
    assert of(entry(user_message="a\udcffb")).message == "a\ufffdb"


def test_numbers_that_no_backend_holds_are_cut_to_size() -> None:
    line = Log().materialize("raw/a", "a", metadata={"big": 10**40, "huge": 10**400, "fits": 2**63}).lines()[0]
    detail = decoded(line).detail
    assert isinstance(detail, ev.Materialized)
    assert detail.metadata == {"big": 1e40, "huge": None, "fits": 2**63}


def test_metadata_nested_too_deeply_for_an_encoder_is_cut_off() -> None:
    deep: object = 1
    for _ in range(400):
        deep = [deep]
    wire = json.loads(Log().materialize("raw/a", "a", metadata={"x": 1}).lines()[0])
    entries = wire["dagster_event"]["event_specific_data"]["materialization"]["metadata_entries"]
    entries[0]["entry_data"] = {"__class__": "JsonMetadataEntryData", "data": deep}
    detail = of(wire).detail
    assert isinstance(detail, ev.Materialized)
    json.dumps(detail.metadata)
    assert str(detail.metadata["x"]).count("[") == 64


def test_a_message_of_ten_megabytes_is_read() -> None:
    assert len(of(entry(user_message="x" * 10_000_000)).message) == 10_000_000


# --- structured log messages -----------------------------------------------------------------------------------------


def test_fields_behind_the_marker_are_the_message_s_fields() -> None:
    event = of(entry(user_message='api_fetch_success ⟦dagtel⟧{"rows_returned":487,"nested":{"a":[1]}}'))
    assert event.message == "api_fetch_success"
    assert event.detail == ev.LogFields({"rows_returned": 487, "nested": {"a": [1]}})


@pytest.mark.parametrize("tail", ["{", "[1]", "", "{]", '{"a":1} and more', "[" * 5000])
def test_a_marker_without_an_object_behind_it_is_plain_text(tail: str) -> None:
    message = f"x ⟦dagtel⟧{tail}"
    event = of(entry(user_message=message))
    assert (event.message, event.detail) == (message, None)


def test_an_error_beside_a_log_message_is_kept() -> None:
    fault = Fault("KeyError", "'JPY'")
    assert of(entry(error_info=fault.wire())).detail == ev.LogFields({}, fault.info())


# --- times -----------------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.floats(min_value=0, max_value=2**32, exclude_max=True))
def test_a_time_is_exactly_what_its_shortest_text_says(seconds: float) -> None:
    assert nanos(seconds, 0) == int((Decimal(repr(seconds)) * 10**9).to_integral_value())


@settings(deadline=None)
@given(st.integers(2**30 * 10**7, 2**31 * 10**7 - 1))
def test_a_time_of_our_days_keeps_its_seven_decimals(tenths: int) -> None:
    seconds = float(Decimal(tenths) / 10**7)
    assert nanos(seconds, 0) == int(Decimal(repr(seconds)) * 10**9)


@pytest.mark.parametrize("text", ["NaN", "-Infinity", "-1", "-1e300"])
def test_a_time_before_all_times_is_the_record_s_or_1970(text: str) -> None:
    raw = json.dumps(entry(timestamp=12345.5)).encode().replace(b"12345.5", text.encode())
    assert decode(raw, source="s", offset=1, record_ns=7).at_ns == 7
    assert decode(raw, source="s", offset=1).at_ns == 0


@pytest.mark.parametrize("text", ["1e300", "Infinity", "1e400", "9e18"])
def test_a_time_after_all_times_is_the_record_s_or_2106(text: str) -> None:
    raw = json.dumps(entry(timestamp=12345.5)).encode().replace(b"12345.5", text.encode())
    assert decode(raw, source="s", offset=1, record_ns=7).at_ns == 7
    assert decode(raw, source="s", offset=1).at_ns == 2**32 * 10**9 < 2**63


# --- what is no event ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "empty"),
        (b" ", "not JSON"),
        (b"hello", "not JSON"),
        (b'{"__class__": "EventLogEntry"', "not JSON"),
        (b"\xff\xfe", "not UTF-8"),
        (b"null", "another shape"),
        (b"[]", "another shape"),
        (b'"text"', "another shape"),
        (b"3", "another shape"),
        (b"{}", "another shape"),
        (b'{"__class__": "DagsterRun", "run_id": "x"}', "another shape"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a":' * 100_000, "nested too deeply"),
        (json.dumps(entry(timestamp="yesterday")).encode(), "timestamp"),
        (json.dumps(entry(timestamp=None)).encode(), "timestamp"),
        (json.dumps(entry(run_id=None)).encode(), "run_id"),
        (json.dumps(entry(level="loud")).encode(), "level"),
        (json.dumps(entry(step_key=4)).encode(), "step_key"),
        (json.dumps(entry(dagster_event="x")).encode(), "dagster_event"),
        (json.dumps(step_event(__class__="Other")).encode(), "dagster_event"),
        (json.dumps(entry(dagster_event={"__class__": "DagsterEvent"})).encode(), "event_type_value"),
        *((json.dumps(without(entry(), key)).encode(), key) for key in ("run_id", "timestamp", "level", "error_info")),
        (json.dumps(entry()).encode().replace(b"hello", b"\xc3\x28"), "not UTF-8"),
    ],
)  # fmt: skip
def test_what_is_no_entry_says_why(raw: bytes, reason: str) -> None:
    with pytest.raises(DecodeError, match=reason):
        decoded(raw)


def test_equal_texts_of_a_batch_are_one_object() -> None:
    good = Log().run_start().lines()[0]
    texts: dict[str, str] = {}
    one, other = (decode(raw, "dagster.events/3", at, texts=texts) for at, raw in enumerate((good, bytes(good))))
    assert one.run_id is other.run_id
    assert one.job is other.job


# --- the compiled twin ---------------------------------------------------------------------------------------------


def agrees(raw: bytes) -> bool:
    """Whether the twin takes the bytes; what it makes of them is then what Python makes of them."""
    if dagster_wire.TWIN is None:
        return False
    found = dagster_wire.TWIN.decode(raw, "test", 1, 0, ())
    if found is not None:
        assert repr(found) == repr(dagster_wire.decode_in_python(raw, "test", 1, 0, (), None))
    return found is not None


@pytest.mark.skipif(not HAS_NATIVE, reason="dagtel-native is not installed")
@pytest.mark.parametrize("version", VERSIONS)
def test_the_twin_takes_nearly_all_that_dagster_writes(version: str) -> None:
    taken = [line for line in CORPUS[version] if agrees(line)]
    assert len(taken) > 0.99 * len(CORPUS[version])


@pytest.mark.skipif(not HAS_NATIVE, reason="dagtel-native is not installed")
@pytest.mark.parametrize("depth", [100, 990, 5000])
def test_the_twin_leaves_to_python_what_is_nested_too_deeply(depth: int) -> None:
    line = json.dumps(step_event()).encode().replace(b'"pid": ', b'"x": ' + b"[" * depth + b"]" * depth + b', "pid": ')
    assert line.count(b"[") > depth - 1
    assert agrees(line) == (depth == 100)


@pytest.mark.skipif(not HAS_NATIVE, reason="dagtel-native is not installed")
@pytest.mark.parametrize("record_ns", [0, 5, -1, 2**63, -(2**70)])
def test_the_twin_bears_any_time_of_a_record(record_ns: int) -> None:
    line = CORPUS["1.13"][0]
    assert decode(line, "test", 1, record_ns) == dagster_wire.decode_in_python(line, "test", 1, record_ns, (), None)


# --- any bytes -------------------------------------------------------------------------------------------------------


def survives(raw: bytes) -> None:
    agrees(raw)
    try:
        event = decoded(raw)
    except DecodeError as error:
        assert str(error)
        return
    assert 0 <= event.at_ns < 2**63
    assert 0 <= event.level <= 100
    for text in (event.type, event.run_id, event.job, event.step_key, event.message):
        text.encode()


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_bytes_never_raise_anything_else(raw: bytes) -> None:
    survives(raw)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
PLACES = st.sampled_from(["entry", "event", "data", "inside"])


@settings(deadline=None, max_examples=300)
@given(st.sampled_from(LINES), PLACES, st.data())
def test_any_value_in_any_place_is_an_event_or_a_decode_error(line: bytes, place: str, data: st.DataObject) -> None:
    wire = json.loads(line)
    target = wire
    for name in {"entry": (), "event": ("dagster_event",)}.get(place, ("dagster_event", "event_specific_data")):
        target = target[name] if isinstance(target.get(name), dict) else target
    if place == "inside":
        inner = [value for value in target.values() if isinstance(value, dict)]
        target = data.draw(st.sampled_from(inner)) if inner else target
    key = data.draw(st.sampled_from([*sorted(target), "x"]) | st.text())
    if data.draw(st.booleans()):
        target[key] = data.draw(JSON)
    else:
        target.pop(key, None)
    survives(json.dumps(wire).encode())


@settings(deadline=None, max_examples=500)
@given(st.sampled_from(LINES), st.data())
def test_a_recorded_line_with_its_bytes_changed_is_an_event_or_a_decode_error(line: bytes, data: st.DataObject) -> None:
    raw = bytearray(line)
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(raw) - 1))
        change = data.draw(st.sampled_from(["byte", "cut", "drop", "repeat", "insert"]))
        if change == "byte":
            raw[at] = data.draw(st.integers(0, 255))
        elif change == "cut":
            del raw[at + 1 :]
        elif change == "drop":
            del raw[at : min(len(raw) - 1, at + data.draw(st.integers(1, 40)))]
        elif change == "repeat":
            raw[at:at] = raw[at : at + data.draw(st.integers(1, 60))]
        else:
            raw[at:at] = data.draw(st.sampled_from([b"{", b"[", b'"', b"\\ud800", b"NaN", b"1e999", b"null,", b"\x00"]))
    survives(bytes(raw))


RECORDS = st.builds(
    KafkaRecord,
    st.integers(0, 2**63 - 1),
    st.sampled_from([-1, 0, 1_767_000_000_000]) | st.integers(-(2**63), 2**63 - 1),
    st.none(),
    st.sampled_from(LINES) | st.sampled_from([None, b"", b"{}", LINES[0][:-1], LINES[0].replace(b": 10", b": 10.0")]),
    st.lists(st.tuples(st.text(max_size=3), st.none() | st.binary(max_size=3)), max_size=2).map(tuple),
)


@pytest.mark.skipif(not HAS_NATIVE, reason="dagtel-native is not installed")
@settings(deadline=None)
@given(st.lists(RECORDS, min_size=1, max_size=8))
def test_records_read_all_at_once_are_read_as_one_by_one(records: list[KafkaRecord]) -> None:
    assert dagster_wire.TWIN is not None
    reads = []
    for decode_all in (None, dagster_wire.TWIN.decode_all):
        partition = Partition("t/0", begin_at(0), 0, 1, "fail", decode, decode_all)
        reads.append(partition.take(records, records[-1].offset + 1, None))
    assert repr(reads[0]) == repr(reads[1])
