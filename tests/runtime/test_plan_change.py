"""What two plans have in common, and what no reload can change."""

from pathlib import Path

import msgspec
import pytest

from pipeline.components import ConnectorSpec, ExporterSpec
from pipeline.config.model import MetricsTelemetry, ServiceConfig, StateConfig, TelemetryConfig, TracesTelemetry
from pipeline.delivery import Delivery
from pipeline.options import Duration
from pipeline.runtime.plan_change import Changed, compared, exporters_compared, needs_restart, owners_changed
from pipeline.signals import Signal
from pipeline.testing.fakes import CollectingExporter, EachItem, MemoryReceiver, NoOptions, a_plan, built
from pipeline.topology.plan import Node, PipelinePlan, Plan


class Options(msgspec.Struct, frozen=True):
    number: int = 0


SPEC = ExporterSpec("x", Options, built(CollectingExporter()), frozenset({Signal.LOGS}))


def node(id: str, number: int = 0, delivery: Delivery | None = None) -> Node:
    return Node(id, SPEC, Options(number), delivery or Delivery())


def test_components_are_the_same_while_type_options_and_delivery_are() -> None:
    old = {"a": node("a"), "b": node("b"), "c": node("c"), "d": node("d")}
    new = {"a": node("a"), "b": node("b", 1), "c": node("c", 0, Delivery(timeout=Duration("1s"))), "e": node("e")}
    found = compared(old, new)
    assert found == Changed(frozenset("a"), frozenset("bc"), frozenset("e"), frozenset("d"))


def figures(options: int, state: Path) -> Plan:
    """Events → a connector → an exporter of metrics."""
    plan = a_plan(MemoryReceiver([]), [EachItem(lambda item: item)], {"figures": CollectingExporter()}, state)
    takes = frozenset({Signal.METRICS})
    exporter = msgspec.structs.replace(plan.exporters["figures"], spec=FIGURES)
    assert exporter.spec.takes == takes
    connector = Node("tally", TALLY, Options(options), None)
    pipelines = {
        "events": PipelinePlan("events", Signal.EVENTS, ("in",), (), ("tally",)),
        "metrics": PipelinePlan("metrics", Signal.METRICS, ("tally",), (), ("figures",)),
    }
    return msgspec.structs.replace(
        plan, exporters={"figures": exporter}, connectors={"tally": connector}, pipelines=pipelines
    )


FIGURES = ExporterSpec("figures", NoOptions, built(CollectingExporter()), frozenset({Signal.METRICS}))
TALLY = ConnectorSpec("tally", Options, built(None), Signal.EVENTS, Signal.METRICS)


def test_an_exporter_that_shows_figures_is_made_anew_when_others_lead_to_it(tmp_path: Path) -> None:
    old = figures(1, tmp_path)
    assert exporters_compared(old, figures(1, tmp_path), old.exporters).kept == {"figures"}
    changed = figures(2, tmp_path)
    assert exporters_compared(old, changed, old.exporters).changed == {"figures"}
    assert owners_changed(old, changed) == {"connectors.tally"}


@pytest.mark.parametrize(
    ("service", "paths"),
    [
        (ServiceConfig(), []),
        (ServiceConfig(checkpoint_interval=Duration("9s")), []),
        (ServiceConfig(state=StateConfig(moved={"a": "b"}, forget=("c",))), []),
        (ServiceConfig(state=StateConfig(path="other.db")), ["service.state.path"]),
        (ServiceConfig(clock="events"), ["service.clock"]),
        (
            ServiceConfig(
                telemetry=TelemetryConfig(
                    metrics=MetricsTelemetry(level="none"), traces=TracesTelemetry(endpoint="http://jaeger")
                )
            ),
            ["service.telemetry.metrics.level", "service.telemetry.traces"],
        ),
    ],
)
def test_what_needs_a_restart_is_named(service: ServiceConfig, paths: list[str]) -> None:
    assert list(needs_restart(ServiceConfig(), service)) == paths
