"""Structured lines outside a run (standard logging), and the line that Dagster stores."""

import json
import logging
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagster_dagtel import get_logger
from dagster_dagtel import logger as module
from dagster_dagtel.logger import MARK, MAX_FIELDS


@pytest.fixture
def records() -> Iterator[list[logging.LogRecord]]:
    kept: list[logging.LogRecord] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            kept.append(record)

    log, handler = logging.getLogger("outside"), Keep()
    log.addHandler(handler)
    log.setLevel(logging.DEBUG)
    yield kept
    log.removeHandler(handler)


def test_outside_a_run_the_fields_are_extra_of_a_standard_record(records: list[logging.LogRecord]) -> None:
    get_logger("outside").bind(table="raw.x").info("merge_complete", inserts=487)
    (record,) = records
    assert (record.getMessage(), record.levelname) == ("merge_complete", "INFO")
    assert (vars(record)["table"], vars(record)["inserts"]) == ("raw.x", 487)


def test_names_that_the_standard_record_owns_get_an_underscore(records: list[logging.LogRecord]) -> None:
    get_logger("outside").info("x", name="n", message="m", args=(1,), asset_name="a", event="e", level="l", self=1)
    fields = vars(records[0])
    assert (fields["name_"], fields["message_"], fields["args_"]) == ("n", "m", [1])
    assert (fields["asset_name"], fields["event"], fields["level"], fields["self"]) == ("a", "e", "l", 1)


def test_every_level_is_there(records: list[logging.LogRecord]) -> None:
    log = get_logger("outside")
    for say in (log.debug, log.info, log.warning, log.error, log.critical):
        say("x")
    log.log(35, "x")
    assert [record.levelno for record in records] == [10, 20, 30, 40, 50, 35]


def test_a_line_below_the_level_costs_nothing(records: list[logging.LogRecord]) -> None:
    class Untouchable:
        def __repr__(self) -> str:
            raise AssertionError("formatted")

    logging.getLogger("outside").setLevel(logging.WARNING)
    get_logger("outside").info("x", value=Untouchable())
    assert records == []


def test_positional_arguments_format_the_event_and_wrong_ones_do_not_raise(records: list[logging.LogRecord]) -> None:
    get_logger("outside").info("%d of %s", 3, "four")
    get_logger("outside").info("100%", "x")
    get_logger("outside").info("100%")
    assert [record.getMessage() for record in records] == ["3 of four", "100% ('x',)", "100%"]


def test_exception_adds_type_message_and_stack_but_the_callers_fields_win(records: list[logging.LogRecord]) -> None:
    try:
        raise TimeoutError("after 30s")
    except TimeoutError as error:
        get_logger("outside").exception("asset_failed", error_message="mine")
        get_logger("outside").warning("given", exc_info=error)
    failed, given_ = records
    assert (vars(failed)["error_type"], vars(failed)["error_message"]) == ("TimeoutError", "mine")
    assert "after 30s" in vars(failed)["error_stack"]
    assert failed.exc_info is not None
    assert vars(given_)["error_message"] == "after 30s"


def test_exception_without_an_exception_is_a_plain_error(records: list[logging.LogRecord]) -> None:
    get_logger("outside").exception("nothing_raised")
    assert (records[0].levelname, "error_type" in vars(records[0])) == ("ERROR", False)


def test_bind_makes_another_logger_and_unbind_takes_fields_off(records: list[logging.LogRecord]) -> None:
    base = get_logger("outside")
    base.bind(a=1).bind(a=2, b=3).unbind("b", "zz").info("x")
    base.info("y")
    assert vars(records[0])["a"] == 2
    assert "b" not in vars(records[0])
    assert "a" not in vars(records[1])


def stored(event: str, fields: dict[str, object]) -> str:
    return module._line(event, module._known(fields, None))


def test_the_stored_line_is_the_event_the_marker_and_compact_json() -> None:
    assert stored("api_fetch_success", {"rows_returned": 487}) == 'api_fetch_success ⟦dagtel⟧{"rows_returned":487}'
    assert stored("plain", {}) == "plain"


@given(st.text(max_size=40), st.dictionaries(st.text(max_size=8), st.text(max_size=30) | st.integers(), min_size=1))
def test_the_marker_stands_in_a_line_exactly_once(event: str, fields: dict[str, object]) -> None:
    line = stored(event + MARK, {**fields, "x": "⟦dagtel⟧", "⟦dagtel⟧": 1})
    assert line.count("⟦dagtel⟧") == 1
    said, found = line.split("⟦dagtel⟧")
    assert said.endswith(" ")
    assert set(json.loads(found)) == {*(key.encode("utf-8", "replace").decode() for key in fields), "x", "⟦dagtel⟧"}


def test_too_many_fields_are_dropped_and_counted() -> None:
    line = stored("x", {f"f{n}": "y" * 4000 for n in range(20)})
    fields = json.loads(line.split(MARK)[1])
    assert len(line) <= MAX_FIELDS + 100
    assert fields["dagtel_fields_dropped"] == 20 - (len(fields) - 1)
