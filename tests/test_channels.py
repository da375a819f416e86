"""A channel is a name of one notifier, of a type of them, or of all."""

import pytest

from pipeline.channels import meant_for, urgency
from pipeline.signals import Alert, Severity, Urgency


def alert(*channels: str, severity: Severity = "ERROR", asked: Urgency = "") -> Alert:
    return Alert("asset_failure", "firing", severity, "p", 1, 1, 1, channels=channels, urgency=asked)


@pytest.mark.parametrize(
    ("channels", "id", "meant"),
    [
        ((), "slack", True),
        (("slack",), "slack", True),
        (("slack",), "slack/data", True),
        (("slack/data",), "slack/data", True),
        (("slack/data",), "slack", False),
        (("slack/data",), "slack/ops", False),
        (("email", "pagerduty"), "slack", False),
        (("*",), "apprise/x", True),
    ],
)
def test_a_notifier_takes_what_names_its_id_its_type_or_all(channels: tuple[str, ...], id: str, meant: bool) -> None:
    assert meant_for(alert(*channels), id) is meant


def test_urgency_is_what_was_routed_else_high_for_what_is_critical() -> None:
    assert [urgency(alert(severity=s)) for s in ("INFO", "WARNING", "ERROR", "CRITICAL")] == ["low"] * 3 + ["high"]
    assert urgency(alert(severity="CRITICAL", asked="low")) == "low"
