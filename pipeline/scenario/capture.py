"""Exporters that send nothing: what they would have told is written down.

Notifiers are the real ones as far as building a message goes, so a scenario sees who takes an alert and what it reads;
every other exporter of alerts takes what it is given, as data.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import msgspec

from pipeline.batch import Batch
from pipeline.components import AnySpec, Context, ExporterSpec, Payload, Receipt
from pipeline.delivery import Delivery
from pipeline.signals import Alert, Signal
from pipeline.topology.plan import Node, PipelinePlan, Plan

TAP: Final = "scenario"
"""The exporter that stands at the end of every alerts pipeline and takes all."""


class Told(msgspec.Struct):
    """One notification, whoever took it. `at_ns` is its domain time; `exporters` are the ids of those that took it,
    `texts` what they would have sent.
    """

    alert: Alert
    exporters: list[str]
    texts: list[str]

    @property
    def at_ns(self) -> int:
        return self.alert.now_ns


class Captured:
    """All that was told, in order."""

    def __init__(self) -> None:
        self.told: list[Told] = []
        self._last: dict[int, Told] = {}

    def add(self, alert: Alert, exporter: str, texts: Sequence[str]) -> None:
        """An exporter took an alert. One that others took, too, is still one notification."""
        told = self._last.get(id(alert))
        if told is None or told.alert is not alert:
            told = Told(alert, [], [])
            self._last[id(alert)] = told
            self.told.append(told)
        if exporter != TAP and exporter not in told.exporters:  # a batch in which one raises is built twice
            told.exporters.append(exporter)
            told.texts += texts


class _NoOptions(msgspec.Struct, frozen=True):
    """Nothing to set."""


class _Silent:
    """Builds what the real exporter would, if there is one, and gives nothing to be sent."""

    def __init__(self, id: str, captured: Captured, real: Any) -> None:
        self._id, self._captured, self._real = id, captured, real

    def build(self, batch: Batch[Any], /) -> Sequence[Payload]:
        for item in batch.items:
            if not isinstance(item, Alert):
                continue
            if self._real is None:
                self._captured.add(item, self._id, ())
                continue
            payloads = self._real.build(Batch((item,), batch.shard, batch.now_ns))
            if payloads:
                self._captured.add(item, self._id, [p.body.decode(errors="replace") for p in payloads])
        return ()

    async def send(self, payload: Payload, /) -> Receipt | None:
        raise AssertionError("a scenario sends nothing")


def silenced(plan: Plan, captured: Captured) -> Plan:
    """The plan with every exporter replaced, time by the wall's clock (which is the scenario's), nothing served."""
    pipelines = {id: _tapped(pipeline, plan) for id, pipeline in plan.pipelines.items()}
    exporters = {id: _silent(node, captured) for id, node in plan.exporters.items()}
    takes = frozenset({Signal.ALERTS})
    tap = ExporterSpec(TAP, _NoOptions, _silent_build(TAP, captured, None), takes)
    exporters[TAP] = Node(TAP, tap, _NoOptions(), Delivery())
    service = msgspec.structs.replace(plan.service, clock="system")
    return msgspec.structs.replace(plan, pipelines=pipelines, exporters=exporters, extensions={}, service=service)


def _tapped(pipeline: PipelinePlan, plan: Plan) -> PipelinePlan:
    if pipeline.signal != Signal.ALERTS or not any(id in plan.exporters for id in pipeline.exporters):
        return pipeline
    return msgspec.structs.replace(pipeline, exporters=(*pipeline.exporters, TAP))


def _silent(node: Node, captured: Captured) -> Node:
    spec = node.spec
    assert isinstance(spec, ExporterSpec)
    real = spec if spec.urgent and Signal.ALERTS in spec.takes else None
    silent = ExporterSpec(spec.name, spec.config, _silent_build(node.id, captured, real), spec.takes, serial=True)
    return msgspec.structs.replace(node, spec=silent)


def _silent_build(id: str, captured: Captured, real: AnySpec | None) -> Callable[[Any, Context], Any]:
    @asynccontextmanager
    async def build(options: Any, context: Context) -> AsyncIterator[_Silent]:
        if real is None:
            yield _Silent(id, captured, None)
            return
        async with real.build(options, context) as exporter:
            yield _Silent(id, captured, exporter)

    return build
