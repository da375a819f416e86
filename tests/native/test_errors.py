"""Errors inside events, and the other details, read by the twin as Python reads them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec import Raw

from pipeline.events import Detail, Event, StepFailed
from pipeline.native import HAS_NATIVE
from receivers import dagster_wire, wire_native
from receivers.wire_details import Reader
from receivers.wire_errors import error_info

pytestmark = pytest.mark.skipif(not HAS_NATIVE, reason="dagtel-native is not installed")

Decoded: TypeAlias = Callable[[bytes], tuple[Event | None, list[str]]]
"""Bytes → what the twin makes of them, and the names of the readers in Python that it called."""

DATA = Path(__file__).parents[1] / "data"
LINES = [line for file in sorted(DATA.glob("dagster-*.jsonl")) for line in file.read_bytes().splitlines()]
HEAD = (
    b'{"__class__": "EventLogEntry", "error_info": null, "level": 40, "user_message": "", "run_id": "r",'
    b' "timestamp": 1.7e9, "dagster_event": {"__class__": "DagsterEvent", "step_key": "s", "event_type_value": "%s",'
    b' "event_specific_data": %s}}'
)

TEXTS = st.text(st.characters(codec="utf-8") | st.sampled_from('\n\r\t\0":. <>/\\\U0001f600'), max_size=12)
NAMES = st.sampled_from(["", "Error", "KeyError", "a.Error", "é"]) | TEXTS
CLASSES = st.builds("{}{}{}".format, st.sampled_from(["", "a.", "."]), NAMES, st.sampled_from([": ", ":", ""]))
MESSAGES = st.builds("{}{}{}".format, CLASSES, TEXTS, st.sampled_from(["", "\n", "\n\n", "\r\n"]))
FILES = TEXTS | st.sampled_from(
    [
        *("/code/assets.py", "/opt/site-packages/x.py", "/OPT/Site-Packages/x.py"),
        *("C:\\Python311\\Lib\\json.py", "<string>", "/usr/lib/python3.11/json.py"),
    ]
)
FRAMES = st.builds(
    '{}File "{}", line {}{}\n    {}'.format,
    st.sampled_from(["", "  ", "\n", "\u00a0", "x"]),
    FILES,
    st.integers() | st.sampled_from(["007", "12345678901", "٣"]),
    st.sampled_from(["", ", in f", ", in  <lambda> ", ", in \u2003"]) | TEXTS,
    TEXTS,
)
LONG = st.builds(
    lambda one, times, frame: one * times + frame, st.sampled_from(" \u00a0a"), st.integers(1950, 2001), FRAMES
)
STACKS = st.lists(FRAMES | TEXTS | LONG, max_size=5)


def error(message: str, stack: list[str], name: str | None) -> dict[str, Any]:
    return {"__class__": "SerializableErrorInfo", "message": message, "stack": stack, "cls_name": name, "context": 1}


CHAINS = st.lists(st.builds(error, MESSAGES, STACKS, st.none() | NAMES), min_size=1, max_size=4)


def chained(errors: list[dict[str, Any]]) -> dict[str, Any]:
    found = None
    for each in reversed(errors):
        found = {**each, "cause": found}
    assert found is not None
    return found


def line(data: bytes, kind: str = "STEP_FAILURE") -> bytes:
    return HEAD % (kind.encode(), data)


@pytest.fixture(scope="module")
def decoded() -> Decoded:
    called: list[str] = []
    read = wire_native._read

    def counted(reader: Reader, data: bytes) -> Detail | None:
        called.append(getattr(reader, "__name__", ""))
        return read(reader, data)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wire_native, "_read", counted)
        twin = wire_native.twin(dagster_wire._KNOWN, dagster_wire._STEP_TYPES, dagster_wire._log_detail)
    assert twin is not None

    def decode(raw: bytes) -> tuple[Event | None, list[str]]:
        called.clear()
        return twin.decode(raw, "test", 1, 0, ()), list(called)

    return decode


def agrees(decoded: Decoded, raw: bytes) -> bool:
    """Whether the twin read the error itself; it is then, as else, told as Python tells it."""
    event, called = decoded(line(b'{"error": %s}' % raw))
    assert event is not None
    assert isinstance(event.detail, StepFailed)
    assert repr(event.detail.error) == repr(error_info(Raw(raw)))
    return not called


@settings(deadline=None, max_examples=400)
@given(errors=CHAINS, ascii_only=st.booleans())
@example(errors=[error("x: y\n", ["\U0001f600" * 1999 + "é" * 3], "x")], ascii_only=False)
@example(errors=[error("x.Error: y: z", [' File "a", line 1' + " " * 3000 + "b"], "Error")], ascii_only=True)
def test_any_error_is_told_as_python_tells_it(decoded: Decoded, errors: list[dict[str, Any]], ascii_only: bool) -> None:
    assert agrees(decoded, json.dumps(chained(errors), ensure_ascii=ascii_only).encode())


ODD = st.none() | st.booleans() | st.integers() | st.just([1]) | st.just({}) | TEXTS | st.lists(TEXTS, max_size=2)


@settings(deadline=None, max_examples=400)
@given(
    errors=CHAINS,
    at=st.integers(0, 3),
    field=st.sampled_from(["message", "stack", "cls_name", "cause"]),
    value=st.just(...) | ODD,
)
def test_an_error_of_another_shape_is_told_as_python_tells_it(
    decoded: Decoded, errors: list[dict[str, Any]], at: int, field: str, value: object
) -> None:
    whole = harmed = chained(errors)
    for _ in range(at):
        harmed = harmed["cause"] or harmed
    harmed[field] = value
    if value is ...:
        del harmed[field]
    agrees(decoded, json.dumps(whole).encode())


@pytest.mark.parametrize("raw", [b"null", b"true", b"1234", b"[]", b"{}", b'""', b'["m", [], "E", null]'])
def test_what_is_no_error_is_told_as_python_tells_it(decoded: Decoded, raw: bytes) -> None:
    assert agrees(decoded, raw) == (raw == b"null")


def test_a_lone_surrogate_is_left_to_python(decoded: Decoded) -> None:
    assert decoded(line(rb'{"error": {"message": "\ud800"}}')) == (None, [])


@pytest.mark.parametrize("depth", [2, 100, 130, 400, 20_000, 200_000])
def test_causes_may_go_deep(decoded: Decoded, depth: int) -> None:
    raw = b'{"message": "m", "cause": ' * depth + b"null" + b"}" * depth
    if depth <= 400:
        assert agrees(decoded, raw) == (depth <= 100)
    else:
        decoded(line(b'{"error": %s}' % raw))


def test_more_frames_than_are_kept_are_told_all_the_same(decoded: Decoded) -> None:
    stack = [f'  File "/code/a{at}.py", line {at}, in f\n' for at in range(5000)]
    raw = json.dumps(error("m", stack, "E")).encode()
    assert agrees(decoded, raw)
    assert agrees(decoded, raw)


KEY = st.fixed_dictionaries({"path": st.lists(TEXTS, max_size=3)})
MEMBER = st.none() | st.just({}) | TEXTS | st.sampled_from(["A.B", "STEP_FAILURE"]).map(lambda name: {"__enum__": name})
FINITE = st.floats(allow_nan=False, allow_infinity=False)  # the others are no JSON, and left to Python
FLOATS = st.none() | FINITE | st.integers(-(2**80), 2**80)
SECONDS = st.floats(1e9, 2.2e9) | st.integers(1_600_000_000, 2_000_000_000) | FINITE
FAILED = {
    "error": st.none() | CHAINS.map(chained),
    "error_source": MEMBER,
    "seconds_to_wait": FLOATS,
    "failure_reason": MEMBER,
    "first_step_failure_event": st.sampled_from([None, {}, 1234, True, "ab", "a"]),
}
ASSET = {
    "asset_key": KEY,
    "partition": st.none() | TEXTS,
    "metadata": st.none() | st.just({"a": {"__class__": "IntMetadataEntryData", "value": 1}}),
    "metadata_entries": st.none() | st.just([]),
    "tags": st.none() | st.dictionaries(TEXTS, TEXTS, max_size=2),
}
NAMED = ("output_name", "input_name", "manager_key", "asset_store_key")
QUEUED = ("code_location_name", "repository_name", "partition_key")
LABELLED = {"label": st.none() | TEXTS, "success": st.booleans()}
FIELDS: dict[str, dict[str, st.SearchStrategy[Any]]] = {
    **dict.fromkeys(["STEP_FAILURE", "STEP_UP_FOR_RETRY", "HOOK_ERRORED", "PIPELINE_FAILURE"], FAILED),
    "PIPELINE_CANCELED": FAILED,
    "ENGINE_EVENT": {"error": FAILED["error"], "marker_start": st.none() | TEXTS, "marker_end": st.none() | TEXTS},
    "HANDLED_OUTPUT": {name: st.none() | TEXTS for name in NAMED},
    "PIPELINE_ENQUEUED": {name: st.none() | TEXTS for name in QUEUED},
    "FRESHNESS_STATE_CHANGE": {
        "key": KEY,
        "new_state": MEMBER,
        "previous_state": MEMBER,
        "state_change_timestamp": SECONDS,
    },
    "ASSET_OBSERVATION": {"asset_observation": st.fixed_dictionaries({}, optional=ASSET)},
    "STEP_EXPECTATION_RESULT": {"expectation_result": st.fixed_dictionaries({}, optional=LABELLED)},
}


@settings(deadline=None, max_examples=1000)
@given(kind=st.sampled_from(sorted(FIELDS)), data=st.data())
def test_any_detail_is_told_as_python_tells_it(decoded: Decoded, kind: str, data: st.DataObject) -> None:
    odd = st.sampled_from([*"........", "x"])
    optional = {name: values if data.draw(odd) == "." else ODD for name, values in FIELDS[kind].items()}
    detail = data.draw(st.fixed_dictionaries({}, optional=optional) | st.none() | ODD)
    raw = line(json.dumps(detail).encode(), kind)
    found, _ = decoded(raw)
    assert repr(found) == repr(dagster_wire.decode_in_python(raw, "test", 1, 0, (), None))


def test_the_twin_reads_nearly_all_details_that_dagster_writes(decoded: Decoded) -> None:
    called = [name for raw in LINES for name in decoded(raw)[1]]
    assert len(called) < 0.002 * len(LINES)
