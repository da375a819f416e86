"""Which components there are: found by entry points, loaded when the configuration names them.

A registry is a value: a test fills one by hand, and a plugin that is broken and that nobody names breaks nothing.
"""

from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Final, Literal, TypeAlias

from pipeline.components import AnySpec, ConnectorSpec, ExporterSpec, ExtensionSpec, ProcessorSpec, ReceiverSpec
from pipeline.config.near import hint as near
from pipeline.errors import DagtelError
from pipeline.topology.function import adapted

Kind: TypeAlias = Literal["receivers", "processors", "connectors", "exporters", "extensions"]
Loader: TypeAlias = Callable[[], object]

KINDS: Final[tuple[Kind, ...]] = ("receivers", "processors", "connectors", "exporters", "extensions")

_SPECS: Final[Mapping[Kind, type[AnySpec]]] = {
    "receivers": ReceiverSpec,
    "processors": ProcessorSpec,
    "connectors": ConnectorSpec,
    "exporters": ExporterSpec,
    "extensions": ExtensionSpec,
}


class NoComponent(DagtelError):
    """There is no such component, or its plugin is broken; the text says which and what to do."""


class Registry:
    """Components by kind and name. Loading one twice gives the same spec."""

    def __init__(self, loaders: Mapping[Kind, Mapping[str, Loader]]) -> None:
        self._loaders: dict[Kind, dict[str, Loader]] = {kind: dict(loaders.get(kind, {})) for kind in KINDS}
        self._specs: dict[tuple[Kind, str], AnySpec] = {}

    @classmethod
    def installed(cls) -> "Registry":
        """What the environment's packages publish in the groups `dagtel.receivers` … `dagtel.extensions`."""
        return cls({kind: _found(kind) for kind in KINDS})

    @classmethod
    def of(cls, *specs: AnySpec) -> "Registry":
        """These and no others."""
        return cls({}).extended(*specs)

    def extended(self, *specs: AnySpec) -> "Registry":
        """A registry with these as well; they stand before others of their name."""
        loaders: dict[Kind, dict[str, Loader]] = {kind: dict(self._loaders[kind]) for kind in KINDS}
        for spec in specs:
            loaders[kind_of(spec)][spec.name] = lambda spec=spec: spec  # type: ignore[misc]  # bound in the loop
        return Registry(loaders)

    def names(self, kind: Kind) -> tuple[str, ...]:
        """The types of this kind, sorted; none of them is loaded for it."""
        return tuple(sorted(self._loaders[kind]))

    def spec(self, kind: Kind, name: str) -> AnySpec:
        """The component type, loaded. Raises NoComponent."""
        if (kind, name) not in self._specs:
            if name not in self._loaders[kind]:
                raise NoComponent(self._unknown(kind, name))
            self._specs[kind, name] = _checked(kind, name, self._loaders[kind][name]())
        return self._specs[kind, name]

    def _unknown(self, kind: Kind, name: str) -> str:
        others = [other for other in KINDS if other != kind and name in self._loaders[other]]
        if others:
            return f"there is no {singular(kind)} `{name}`; `{name}` is {article(others[0])}"
        return f"there is no {singular(kind)} `{name}`{near(name, self._loaders[kind])}"


def kind_of(spec: AnySpec) -> Kind:
    """The section of the configuration in which a component of this spec stands."""
    return next(kind for kind, cls in _SPECS.items() if isinstance(spec, cls))


def singular(kind: str) -> str:
    """`receiver` for `receivers`."""
    return kind.removesuffix("s")


def article(kind: str) -> str:
    """`an exporter`, `a receiver`."""
    return f"{'an' if kind[0] in 'aeiou' else 'a'} {singular(kind)}"


def _found(kind: Kind) -> dict[str, Loader]:
    points: dict[str, list[EntryPoint]] = {}
    for point in entry_points(group=f"dagtel.{kind}"):
        same = points.setdefault(point.name, [])
        if point.value not in [other.value for other in same]:  # one package seen twice on sys.path
            same.append(point)
    return {name: _loader(name, found) for name, found in points.items()}


def _loader(name: str, points: Iterable[EntryPoint]) -> Loader:
    def load() -> object:
        first, *others = points
        if others:
            values = ", ".join(_origin(point) for point in (first, *others))
            raise NoComponent(f"the name `{name}` is published twice: {values}; uninstall one of them")
        try:
            return first.load()
        except (Exception, SystemExit) as error:  # importing a plugin runs anybody's code
            reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            raise NoComponent(f"the plugin `{name}` ({_origin(first)}) does not import: {reason}") from error

    return load


def _origin(point: EntryPoint) -> str:
    return f"{point.value} of {point.dist.name} {point.dist.version}" if point.dist else point.value


def _checked(kind: Kind, name: str, loaded: object) -> AnySpec:
    expected = _SPECS[kind]
    if isinstance(loaded, expected):
        return loaded
    if kind == "processors" and callable(loaded) and not isinstance(loaded, type):
        try:
            return adapted(name, loaded)
        except TypeError as error:
            raise NoComponent(f"the plugin `{name}` is no processor: {error}") from error
    raise NoComponent(
        f"the plugin `{name}` is no {singular(kind)}: it is of type {type(loaded).__name__}, not a {expected.__name__}"
    )
