"""That no input is taken is said once, and so is that it is over."""

import logging

import pytest

from pipeline.runtime.brake import INTAKE, Brake
from pipeline.runtime.status import Status, Statuses


def test_a_brake_that_comes_and_goes_is_said_once_and_is_over_when_it_has_been_off_for_a_while(
    caplog: pytest.LogCaptureFixture,
) -> None:
    statuses = Statuses()
    brake = Brake(statuses, calm_s=10)
    with caplog.at_level(logging.DEBUG, "dagtel.status"):
        brake.look("", 0)
        assert statuses.of(INTAKE) == (Status.OK, "")
        for second in range(1, 60):
            brake.look("the outbox of exporter loki is full" if second % 2 else "", second)
        assert statuses.of(INTAKE) == (
            Status.RECOVERABLE,
            "no input is taken: the outbox of exporter loki is full",
        )
        brake.look("", 68)
        assert statuses.of(INTAKE)[0] is Status.RECOVERABLE
        brake.look("", 69)
        assert statuses.of(INTAKE) == (Status.OK, "")
    said = [(record.levelname, record.status) for record in caplog.records]  # type: ignore[attr-defined]
    assert said == [("DEBUG", "ok"), ("WARNING", "recoverable error"), ("INFO", "ok")]
