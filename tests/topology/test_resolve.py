"""A configuration that is right becomes a plan: what is in it, in which order, with which options."""

import pytest

from pipeline.components import ConnectorSpec
from pipeline.config.load import parse
from pipeline.delivery import Delivery, QueueBatch, SendingQueue
from pipeline.errors import ConfigError
from pipeline.options import Duration
from pipeline.signals import Signal
from pipeline.topology.plan import Plan
from pipeline.topology.registry import Registry
from pipeline.topology.resolve import options, resolve

ROAD = """\
receivers:
  tap: {brokers: [a]}
  tap/second: {brokers: [b]}
processors:
  ledger:
  filter:
  dedup: {window: 2h}
connectors:
  spans:
  alerts:
exporters:
  sink:
  sink/idle:
  lines: {url: u, timeout: 3s}
  pager:
extensions:
  pprof:
  pprof/idle:
service:
  extensions: [pprof]
  dead_letters: {exporters: [lines]}
  pipelines:
    alerts: {receivers: [alerts], processors: [dedup, filter], exporters: [pager]}
    traces: {receivers: [spans], processors: [filter], exporters: [sink]}
    events: {receivers: [tap], processors: [ledger], exporters: [spans, alerts, sink]}
"""


def planned(text: str, registry: Registry) -> Plan:
    return resolve(parse(text, "f.yaml"), registry)


def test_pipelines_come_upstream_first_and_else_as_they_are_written(registry: Registry) -> None:
    plan = planned(ROAD, registry)
    assert list(plan.pipelines) == ["events", "alerts", "traces"]
    events = plan.pipelines["events"]
    assert (events.signal, events.receivers, events.exporters) == (Signal.EVENTS, ("tap",), ("spans", "alerts", "sink"))
    assert [node.id for node in plan.pipelines["alerts"].processors] == ["dedup", "filter"]


def test_only_what_is_used_is_in_the_plan_and_the_rest_is_a_warning(registry: Registry) -> None:
    plan = planned(ROAD, registry)
    assert list(plan.receivers) == ["tap"]
    assert list(plan.connectors) == ["spans", "alerts"]
    assert list(plan.exporters) == ["sink", "lines", "pager"]  # lines: for the dead letters
    assert list(plan.extensions) == ["pprof"]
    assert [str(warning) for warning in plan.warnings] == [
        "f.yaml:3: receivers.tap/second: is not used: it does not stand in any pipeline",
        "f.yaml:13: exporters.sink/idle: is not used: it does not stand in any pipeline",
        "f.yaml:18: extensions.pprof/idle: is not used: it does not stand in service.extensions",
    ]


def test_options_are_typed_and_exporters_have_their_delivery(registry: Registry) -> None:
    plan = planned(ROAD, registry)
    assert plan.receivers["tap"].options == registry.spec("receivers", "tap").config(brokers=("a",))
    assert plan.pipelines["alerts"].processors[0].options == registry.spec("processors", "dedup").config(
        window=Duration("2h")
    )
    assert plan.receivers["tap"].delivery is None
    assert plan.exporters["sink"].delivery == Delivery()
    assert plan.exporters["lines"].delivery == Delivery(
        timeout=Duration("3s"), sending_queue=SendingQueue(batch=QueueBatch(max_size=7))
    )


def test_one_processor_in_two_pipelines_is_one_node(registry: Registry) -> None:
    plan = planned(ROAD, registry)
    assert plan.pipelines["alerts"].processors[1] is plan.pipelines["traces"].processors[0]


def test_a_need_is_met_by_a_pipeline_upstream(registry: Registry) -> None:
    text = """\
receivers: {tap: {brokers: [a]}}
processors: {ledger: }
connectors: {spans: , forward: }
exporters: {sink: }
service:
  pipelines:
    events: {receivers: [tap], processors: [ledger], exporters: [forward]}
    events/second: {receivers: [forward], exporters: [spans]}
    traces: {receivers: [spans], exporters: [sink]}
"""
    spans = registry.spec("connectors", "spans")
    forward = ConnectorSpec("forward", spans.config, spans.build, takes=Signal.EVENTS, gives=Signal.EVENTS)  # type: ignore[arg-type]
    assert list(planned(text, registry.extended(forward)).pipelines) == ["events", "events/second", "traces"]
    with pytest.raises(ConfigError, match="`spans` needs the processor `ledger` before it, which stands neither"):
        planned(text.replace("processors: [ledger], ", ""), registry.extended(forward))


def test_a_plugin_that_is_broken_hurts_only_who_names_it(registry: Registry) -> None:
    def broken() -> object:
        raise AssertionError("loaded though nobody named it")

    fragile = Registry({"receivers": {"broken": broken, "tap": lambda: registry.spec("receivers", "tap")}})
    text = "receivers: {tap: {brokers: [a]}}\nservice: {pipelines: {events: {receivers: [tap], exporters: []}}}"
    with pytest.raises(ConfigError) as caught:
        planned(text, fragile)
    assert [p.message for p in caught.value.problems] == ["has no exporters"]


def test_the_types_of_all_blocks_are_known_by_path(registry: Registry) -> None:
    config = parse("receivers: {tap: , nope: }\nexporters: {lines: {url: u}}", "f.yaml")
    types = options(config, registry)
    assert types["receivers.nope"] is None
    assert set(types["exporters.lines"] or ()) == {
        *("url", "labels", "tries"),
        *("timeout", "retry_on_failure", "circuit_breaker", "sending_queue"),
    }
    assert "clock" in (types["service"] or ())
