"""What `get_logger` writes into the event log is what the daemon's decoder takes out of it."""

import json

from hypothesis import given
from hypothesis import strategies as st

from dagster_dagtel import logger
from receivers.wire_details import log_fields

values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.text(max_size=40), st.dictionaries(st.text(max_size=8), values, min_size=1, max_size=5))
def test_fields_arrive_as_they_were_written(event: str, fields: dict[str, object]) -> None:
    known = logger._known(fields, None)
    read = log_fields(logger._line(event, known))
    assert read == (event.replace(logger.MARK.strip(), ""), json.loads(json.dumps(known)))


def test_a_line_without_fields_is_a_plain_message() -> None:
    assert log_fields(logger._line("asset_started", {})) is None
