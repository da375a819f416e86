"""One plan, several processes on one machine: what stands against it, and how each differs from the others. Pure."""

from collections.abc import Iterator
from typing import Final

import msgspec

from pipeline.components import ReceiverSpec
from pipeline.errors import Problem
from pipeline.topology.plan import Node, Plan
from pipeline.topology.scopes import whole_components

CONFIGURATION: Final = "configs/cluster.yaml"
"""The configuration for several processes."""
PORTS_APART: Final = 10
"""The daemon's own pages of each further worker have ports so much higher."""


def for_worker(plan: Plan, number: int) -> Plan:
    """The plan of one of several workers, the first of which is 1: its own pages (figures, health, the API) have ports
    of their own, `PORTS_APART` higher than those of the worker before."""
    telemetry = plan.service.telemetry
    api = msgspec.structs.replace(plan.service.api, address=moved(plan.service.api.address, number))
    metrics = msgspec.structs.replace(telemetry.metrics, address=moved(telemetry.metrics.address, number))
    health = msgspec.structs.replace(telemetry.health, address=moved(telemetry.health.address, number))
    own = msgspec.structs.replace(telemetry, metrics=metrics, health=health)
    return msgspec.structs.replace(plan, service=msgspec.structs.replace(plan.service, telemetry=own, api=api))


def moved(address: str, number: int) -> str:
    """The address ("host:port", "" for none) of the worker with this number. A port of 0 is any that is free."""
    host, _, port = address.rpartition(":")
    return f"{host}:{int(port) + PORTS_APART * (number - 1)}" if address and int(port) else address


def against_several(plan: Plan, workers: int) -> list[Problem]:
    """Why a plan cannot be run by so many processes side by side; nothing if it can."""
    return list(_against(plan, workers))


def _against(plan: Plan, workers: int) -> Iterator[Problem]:
    if plan.service.state.postgresql is None:
        yield Problem(
            "service.state",
            "several workers share their state, and a file has one owner: keep it in PostgreSQL "
            f"(service.state.postgresql), as {CONFIGURATION} does",
        )
    for id, node in plan.receivers.items():
        if reason := _alone(plan, id, node):
            yield Problem(f"receivers.{id}", reason)
    own = plan.service.telemetry
    addresses = {
        "telemetry.metrics": own.metrics.address,
        "telemetry.health": own.health.address,
        "api": plan.service.api.address,
    }
    for name, address in addresses.items():
        if address and int(moved(address, workers).rpartition(":")[2]) > 65535:
            yield Problem(f"service.{name}.address", f"the ports of {workers} workers go beyond 65535")


def _alone(plan: Plan, id: str, node: Node) -> str:
    assert isinstance(node.spec, ReceiverSpec)
    if not node.spec.shares:
        return (
            f"several workers would each read all of it: a receiver of type {node.spec.name} does not share its input. "
            "Give it to a process of its own, with a state of its own"
        )
    whole = whole_components(plan, id)
    # Who brings the work of `run_ledger` reads the outcomes of all; that its topic has one partition is seen at work.
    if whole and not node.spec.brings(node.options):
        return (
            f"{', '.join(whole)} must see every event, and several workers would each see a part. "
            f"{CONFIGURATION} shows how one of them gets the outcomes of all"
        )
    return ""
