"""The daemon's own log follows a reload: level and format change, and no line is lost or written twice."""

import logging

import pytest

from pipeline.config.model import LogsTelemetry
from pipeline.runtime.own_log import OwnLog

log = logging.getLogger("dagtel.test")


def test_it_follows_level_and_format(capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger("dagtel")
    before = root.level, root.propagate
    with OwnLog(LogsTelemetry(level="warning")) as own:
        log.info("hidden")
        log.warning("first")
        own.follow(LogsTelemetry(level="debug", format="json"))
        log.debug("second")
        own.follow(LogsTelemetry(level="debug", format="json"))
        log.debug("third")
        own.follow(LogsTelemetry(level="error"))
        log.warning("hidden")
        log.error("fourth")
    assert (root.level, root.propagate) == before
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(" ", 1)[1] for line in (lines[0], lines[3])] == ["WARNING first", "ERROR   fourth"]
    assert '"message": "second"' in lines[1]
    assert '"message": "third"' in lines[2]
    assert len(lines) == 4
