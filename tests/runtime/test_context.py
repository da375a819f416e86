"""What a component is given."""

import logging

import pytest

from pipeline.testing.context import FakeContext


def test_a_components_log_keeps_the_facts_of_a_call_beside_its_own(caplog: pytest.LogCaptureFixture) -> None:
    context = FakeContext("loki")
    with caplog.at_level(logging.WARNING, "dagtel.test.loki"):
        context.log.warning("Export failed.", extra={"attempt": 3})
    (record,) = caplog.records
    assert (record.__dict__["component"], record.__dict__["attempt"]) == ("loki", 3)
