"""What several processes of one machine can run side by side, and how they differ."""

from pathlib import Path
from typing import Any

import pytest

from pipeline.config.load import load
from pipeline.topology.plan import Plan
from pipeline.topology.registry import Registry
from pipeline.topology.resolve import resolve
from pipeline.topology.several import against_several, for_worker, moved

CONFIGS = Path(__file__).parents[2] / "configs"
POSTGRES = {"DAGTEL_POSTGRES": "postgresql://u@h/d"}


def plan(name: str, *sets: str) -> Plan:
    return resolve(load([CONFIGS / name], sets, POSTGRES), Registry.installed())


def test_the_configuration_for_several_can_be_run_by_several() -> None:
    assert against_several(plan("cluster.yaml"), 4) == []


def test_a_configuration_whose_counters_read_the_topic_itself_names_the_one_for_several() -> None:
    url = "service.state.postgresql.url=postgresql://u@h/d"
    (problem,) = against_several(plan("full.yaml", url), 2)
    assert str(problem).startswith("receivers.kafka: connectors.metrics, ")
    assert "must see every event" in problem.message
    assert "configs/cluster.yaml" in problem.message


def test_a_state_file_has_one_owner() -> None:
    assert [each.path for each in against_several(plan("full.yaml"), 2)] == ["service.state", "receivers.kafka"]


def test_ports_must_exist() -> None:
    high = plan("cluster.yaml", "service.telemetry.health.address=127.0.0.1:65530")
    assert against_several(high, 1) == []
    (problem,) = against_several(high, 2)
    assert str(problem) == "service.telemetry.health.address: the ports of 2 workers go beyond 65535"


@pytest.mark.parametrize(
    ("address", "number", "found"),
    [
        ("127.0.0.1:8888", 1, "127.0.0.1:8888"),
        ("127.0.0.1:8888", 3, "127.0.0.1:8908"),
        ("[::1]:13133", 2, "[::1]:13143"),
        ("127.0.0.1:0", 3, "127.0.0.1:0"),
        ("", 2, ""),
    ],
)
def test_each_worker_has_ports_of_its_own(address: str, number: int, found: str) -> None:
    assert moved(address, number) == found


def test_only_the_daemons_own_pages_move() -> None:
    whole = plan("cluster.yaml", "service.api.address=127.0.0.1:8890")
    own: Any = for_worker(whole, 2)
    telemetry = own.service.telemetry
    assert (telemetry.metrics.address, telemetry.health.address) == ("127.0.0.1:8898", "127.0.0.1:13143")
    assert own.service.api.address == "127.0.0.1:8900"
    assert own.exporters == whole.exporters
    assert own.receivers == whole.receivers
