"""A component without its contract fails the build: what pyproject.toml publishes is held against test_builtins.py."""

import tomllib
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from pipeline.testing.contracts import (
    ConnectorContract,
    ExporterContract,
    ExtensionContract,
    PayloadContract,
    ProcessorContract,
    ReceiverContract,
    SpecContract,
)
from tests.contracts import test_builtins

ROOT = Path(__file__).parents[2]
PUBLISHED: dict[str, dict[str, str]] = {
    group.removeprefix("dagtel."): points
    for group, points in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"].items()
}
CONTRACTS: dict[str, type[SpecContract]] = {
    "receivers": ReceiverContract,
    "processors": ProcessorContract,
    "connectors": ConnectorContract,
    "exporters": ExporterContract,
    "extensions": ExtensionContract,
}
ELSEWHERE: dict[tuple[str, str], tuple[type[SpecContract], str, str]] = {
    ("receivers", "alertmanager"): (
        SpecContract,
        "tests/receivers/test_alertmanager.py",
        "is called rather than reads: what comes, what is refused and what survives is tested there",
    ),
    ("receivers", "dagster"): (
        SpecContract,
        "tests/receivers/test_dagster.py",
        "keeps the ReceiverContract there, beside the storage that it needs",
    ),
    ("receivers", "dagster_api"): (
        SpecContract,
        "tests/receivers/test_dagster_api.py",
        "asks a webserver, which has no records: what it tells and keeps over a restart is tested there",
    ),
    ("receivers", "host"): (
        SpecContract,
        "tests/receivers/test_host.py",
        "reads a machine, which has no records: what is read, told and kept over a restart is tested there",
    ),
    ("receivers", "kafka"): (
        SpecContract,
        "tests/receivers/test_kafka_real.py",
        "reads a broker: positions, restarts and records that cannot be decoded are tested against a real one",
    ),
    ("exporters", "email"): (
        PayloadContract,
        "tests/exporters/notifiers/test_email.py",
        "talks to a mail server: refusals, some recipients refused, cut connections are tested against a real one",
    ),
    ("exporters", "apprise"): (
        PayloadContract,
        "tests/exporters/notifiers/test_apprise.py",
        "calls by a library of its own: refusals and services that are away are tested against a real server",
    ),
    ("exporters", "kafka"): (
        PayloadContract,
        "tests/exporters/test_kafka.py",
        "sends to a broker: refusals, lost answers and cancelled sends are tested against a real one",
    ),
}
"""Components whose whole contract cannot be held here: what is held, where the rest is, and why."""


def loaded(value: str) -> Any:
    """What an entry point names: "exporters.otlp:OTLP"."""
    module, _, name = value.partition(":")
    return getattr(import_module(module), name)


def kept(spec: Any) -> list[type[SpecContract]]:
    """The contract classes of a spec in test_builtins.py."""
    classes = [each for each in vars(test_builtins).values() if isinstance(each, type)]
    return [each for each in classes if issubclass(each, SpecContract) and getattr(each, "spec", None) is spec]


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, points in PUBLISHED.items() for name in points])
def test_every_component_keeps_the_contract_of_its_kind(kind: str, name: str) -> None:
    spec = loaded(PUBLISHED[kind][name])
    contract = ELSEWHERE[kind, name][0] if (kind, name) in ELSEWHERE else CONTRACTS[kind]
    assert any(issubclass(each, contract) for each in kept(spec)), (
        f"{kind}/{name} has no {contract.__name__} in tests/contracts/test_builtins.py"
    )
    assert spec.name == name, f"published as {name}, its spec says {spec.name}"


def test_there_is_a_contract_for_every_kind_of_component() -> None:
    assert set(PUBLISHED) == set(CONTRACTS)


@pytest.mark.parametrize(("kind", "name"), ELSEWHERE)
def test_what_is_held_elsewhere_is_held_there(kind: str, name: str) -> None:
    contract, where, why = ELSEWHERE[kind, name]
    text = (ROOT / where).read_text()
    module = PUBLISHED[kind][name].partition(":")[0]
    assert contract is not CONTRACTS[kind]
    assert why
    assert f"from {module} import" in text, f"{where} tests another component"
