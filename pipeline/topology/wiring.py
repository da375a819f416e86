"""Rules across components: references, signals, needs, cycles, what is used on one side only or not at all."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Final

import msgspec

from pipeline.components import ConnectorSpec, ExporterSpec, ProcessorSpec, ReceiverSpec, given_by
from pipeline.config.model import Config, PipelineConfig
from pipeline.config.near import either, hint, nearest
from pipeline.signals import Signal
from pipeline.topology.blocks import Block, Blocks
from pipeline.topology.faults import Faults
from pipeline.topology.graph import Graph
from pipeline.topology.registry import KINDS, Kind, article, singular

_PLACES: Final[dict[str, tuple[Kind, ...]]] = {
    "receivers": ("receivers", "connectors"),
    "processors": ("processors",),
    "exporters": ("exporters", "connectors"),
}
"""What a pipeline's lists may name."""


class Use(msgspec.Struct, frozen=True):
    """One place in a pipeline that names a component."""

    pipeline: str
    role: str  # receivers, processors, exporters
    path: str
    kind: Kind
    block: Block


class Wiring:
    """Checks the pipelines of a configuration; what is wrong goes to `faults`."""

    def __init__(self, config: Config, blocks: Blocks, faults: Faults) -> None:
        self.pipelines = config.service.pipelines
        self.service, self.blocks, self.faults = config.service, blocks, faults
        self.graph = Graph(self.pipelines, blocks["connectors"])
        self.signals = {id: _signal(id) for id in self.pipelines}
        self.unknown: set[str] = set()
        self.uses: list[Use] = []

    def check(self) -> None:
        """Find everything that is wrong with the pipelines and with what the service names."""
        if not self.pipelines and not self.faults.known_at("service"):
            self.faults.add("service.pipelines", "there are none; nothing would run")
        self._clashes()
        for id, pipeline in self.pipelines.items():
            self._pipeline(id, pipeline)
        for use in self.uses:
            self._mismatch(use)
            self._needs(use)
            self._done_before(use)
        self._one_sided()
        for way in self.graph.cycles():
            self.faults.add(f"service.pipelines.{way[0]}", f"cycle: {' -> '.join((*way, way[0]))}")
        self._named_by_service()

    def used(self, kind: Kind) -> tuple[str, ...]:
        """Ids of this kind that something names, as they are written."""
        if kind == "extensions":
            named = set(self.service.extensions)
        else:
            named = {use.block.id for use in self.uses if use.kind == kind}
        if kind == "exporters":
            named.update(self.service.dead_letters.exporters)
        return tuple(id for id in self.blocks[kind] if id in named)

    def unused(self) -> Iterator[tuple[str, str]]:
        """Path and words for each component that is configured and that nothing names."""
        for kind in KINDS:
            where = "service.extensions" if kind == "extensions" else "any pipeline"
            used = self.used(kind)
            for id in self.blocks[kind]:
                if id not in used:
                    yield f"{kind}.{id}", f"is not used: it does not stand in {where}"

    # --- one pipeline ---

    def _pipeline(self, id: str, pipeline: PipelineConfig) -> None:
        path = f"service.pipelines.{id}"
        if self.signals[id] is None:
            near = hint(id.partition("/")[0], [signal.value for signal in Signal])
            self.faults.add(path, f"a pipeline's id begins with its signal{near}")
        for role, kinds in _PLACES.items():
            names: tuple[str, ...] = getattr(pipeline, role)
            if not names and role != "processors" and not self.faults.known_at(f"{path}.{role}"):
                self.faults.add(path, f"is unreachable: it has no {role}" if role == "receivers" else f"has no {role}")
            self._names(f"{path}.{role}", names, kinds, partial(self._use, id, role))

    def _use(self, pipeline: str, role: str, path: str, kind: Kind, block: Block) -> None:
        self.uses.append(Use(pipeline, role, path, kind, block))

    def _names(
        self, path: str, names: Iterable[str], kinds: tuple[Kind, ...], found: Callable[[str, Kind, Block], None]
    ) -> None:
        """Resolve the names of one list: each must be configured, and stand there once."""
        seen: set[str] = set()
        for place, name in self.faults.listed(path, names):
            kind = next((kind for kind in kinds if name in self.blocks[kind]), None)
            if name in seen:
                self.faults.add(place, f"`{name}` stands here twice")
            elif kind is None:
                self.unknown.add(name)
                self.faults.add(place, self._not_configured(name, kinds))
            else:
                found(place, kind, self.blocks[kind][name])
            seen.add(name)

    def _not_configured(self, name: str, kinds: tuple[Kind, ...]) -> str:
        others = [kind for kind in KINDS if kind not in kinds and name in self.blocks[kind]]
        if others:
            return f"`{name}` is {article(others[0])}, not {' or '.join(article(kind) for kind in kinds)}"
        known = [id for kind in kinds for id in self.blocks[kind]]
        close = nearest(name, known)
        what = " or ".join(singular(kind) for kind in kinds)
        return f"no {what} `{name}` is configured{f'; did you mean {either(close)}?' if close else ''}"

    # --- one use ---

    def _mismatch(self, use: Use) -> None:
        signal, spec, id = self.signals[use.pipeline], use.block.spec, use.block.id
        if signal is None or spec is None:
            return
        if use.role == "receivers" and isinstance(spec, ReceiverSpec | ConnectorSpec):
            gives = given_by(spec)
            fits, does = signal in gives, f"gives {_either_signal(gives)}"
        elif isinstance(spec, ConnectorSpec):
            fits, does = spec.takes is signal, f"takes {spec.takes.value}"
        elif isinstance(spec, ProcessorSpec | ExporterSpec):
            fits, does = signal in spec.takes, f"takes {_either_signal(spec.takes)}"
        else:
            return
        if not fits:
            self.faults.add(use.path, f"`{id}` {does}, but this pipeline carries {signal.value}")

    def _needs(self, use: Use) -> None:
        spec = use.block.spec
        if not isinstance(spec, ProcessorSpec | ConnectorSpec) or use.role == "receivers":
            return
        before = self._types_before(use)
        for needed in spec.needs:
            if needed not in before and not any(nearest(name, [needed]) for name in self.unknown):
                own = self.pipelines[use.pipeline].processors
                after = any(id.partition("/")[0] == needed for id in own)
                said = "which stands after it" if after else "which stands neither here nor upstream"
                self.faults.add(use.path, f"`{use.block.id}` needs the processor `{needed}` before it, {said}")

    def _types_before(self, use: Use) -> set[str]:
        ids = list(self.pipelines[use.pipeline].processors)
        if use.role == "processors":
            ids = ids[: ids.index(use.block.id)]
        above = self.graph.upstream(use.pipeline)
        for pipeline in above:
            ids.extend(self.pipelines[pipeline].processors)
        return {id.partition("/")[0] for id in ids} | self._brought((use.pipeline, *above))

    def _brought(self, pipelines: Iterable[str]) -> set[str]:
        """Processor types that all receivers of these pipelines bring the work of."""
        read = [
            (id, self.blocks["receivers"][id])
            for name in pipelines
            for id in self.pipelines[name].receivers
            if id in self.blocks["receivers"]
        ]
        brought = [_brings(block) for _, block in read]
        return set.intersection(*brought) if brought else set()

    def _done_before(self, use: Use) -> None:
        """A processor behind a receiver whose items have been through one of its type."""
        type_name = use.block.id.partition("/")[0]
        if use.role != "processors":
            return
        for pipeline in (use.pipeline, *sorted(self.graph.upstream(use.pipeline))):
            for id in self.pipelines[pipeline].receivers:
                block = self.blocks["receivers"].get(id)
                if block is not None and type_name in _brings(block):
                    message = f"what `{id}` reads has been through `{type_name}` before; take `{use.block.id}` out here"
                    self.faults.add(use.path, message)

    # --- across pipelines ---

    def _clashes(self) -> None:
        for id in self.blocks["connectors"]:
            for kind in ("receivers", "exporters"):
                if id in self.blocks[kind]:
                    message = f"is also the id of {article(kind)}; give one of them a name: `{id}/name`"
                    self.faults.add(f"connectors.{id}", message)

    def _one_sided(self) -> None:
        sides: dict[str, dict[str, Use]] = {}
        for use in self.uses:
            if use.kind == "connectors":
                sides.setdefault(use.block.id, {}).setdefault(use.role, use)
        for id, by_role in sides.items():
            clashes = id in self.blocks["receivers"] or id in self.blocks["exporters"]
            if len(by_role) == 2 or clashes or any(nearest(name, [id]) for name in self.unknown):
                continue
            [use] = by_role.values()
            if use.role == "receivers":
                message = f"the connector `{id}` gets nothing: no pipeline has it among its exporters"
            else:
                message = f"the connector `{id}` goes nowhere: no pipeline has it among its receivers"
            self.faults.add(use.path, message)

    def _named_by_service(self) -> None:
        self._names("service.extensions", self.service.extensions, ("extensions",), lambda path, kind, block: None)
        names = self.service.dead_letters.exporters
        self._names("service.dead_letters.exporters", names, ("exporters",), self._takes_logs)

    def _takes_logs(self, path: str, kind: Kind, block: Block) -> None:
        if isinstance(block.spec, ExporterSpec) and Signal.LOGS not in block.spec.takes:
            message = f"`{block.id}` takes {_either_signal(block.spec.takes)}, but dead letters are logs"
            self.faults.add(path, message)


def _brings(block: Block) -> set[str]:
    return set(block.spec.brings(block.node.options)) if isinstance(block.spec, ReceiverSpec) and block.node else set()


def _signal(id: str) -> Signal | None:
    try:
        return Signal(id.partition("/")[0])
    except ValueError:
        return None


def _either_signal(signals: Iterable[Signal]) -> str:
    taken = frozenset(signals)
    return " or ".join(signal.value for signal in Signal if signal in taken)
