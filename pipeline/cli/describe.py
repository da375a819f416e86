"""What a component or a block offers, in words: for `dagtel components`, the reference page and the schema."""

import re
from collections.abc import Iterator
from enum import Enum

import msgspec

from pipeline.components import AnySpec, ConnectorSpec, ExporterSpec, ProcessorSpec, ReceiverSpec, given_by
from pipeline.config.fields import MISSING, bare, doc, entry, fields, item, optional, struct_within, words
from pipeline.delivery import Delivery
from pipeline.facts import Json
from pipeline.options import Duration, Secret, Size
from pipeline.signals import Signal
from pipeline.topology.registry import Kind, kind_of
from pipeline.yaml_tree import scalar


class Option(msgspec.Struct, frozen=True):
    """One option: its path within the block, its type in words, its default as YAML, what it does.

    `default` is "" and `required` true where it has none.
    """

    name: str
    type: str
    default: str
    required: bool
    doc: str


class Component(msgspec.Struct, frozen=True):
    """A component type. `signals` says what it takes and gives: `events → traces`."""

    kind: Kind
    name: str
    summary: str
    doc: str
    signals: str
    needs: tuple[str, ...]
    options: tuple[Option, ...]
    delivery: tuple[Option, ...]


def component(name: str, spec: AnySpec) -> Component:
    """The component type in words."""
    text = doc(spec.config)
    return Component(
        kind=kind_of(spec),
        name=name,
        summary=_first_sentence(text),
        doc=text,
        signals=_signals(spec),
        needs=spec.needs if isinstance(spec, ProcessorSpec | ConnectorSpec) else (),
        options=tuple(block_options(spec.config)),
        delivery=tuple(block_options(Delivery, spec.delivery)) if isinstance(spec, ExporterSpec) else (),
    )


def _first_sentence(text: str) -> str:
    paragraph = " ".join(text.partition("\n\n")[0].split())
    return re.split(r"(?<=[.!?]) ", paragraph, maxsplit=1)[0]


def block_options(cls: type[msgspec.Struct], base: object = None, prefix: str = "") -> Iterator[Option]:
    """The options of a type, those of nested blocks with their path. `base` holds the defaults, where they differ."""
    yield from _options(cls, base, prefix, (cls,))


def _options(
    cls: type[msgspec.Struct], base: object, prefix: str, above: tuple[type[msgspec.Struct], ...]
) -> Iterator[Option]:
    for field in fields(cls):
        name = f"{prefix}{field.name}"
        default = field.default if base is None else getattr(base, field.attribute)
        below = struct_within(field.hint)
        nested = below is not None and isinstance(default, below)
        if not nested:
            shown = "" if field.required else in_yaml(default)
            yield Option(name, words(field.hint), shown, field.required, field.doc)
        if below and below not in above:
            yield from _options(below, default if nested else None, f"{name}{_step(field.hint)}.", (*above, below))


def _step(hint: object) -> str:
    """How a nested block is reached: directly, as an item of a list, as an entry of a map."""
    for kind in map(bare, optional(bare(hint))):
        if item(kind) is not None:
            return "[]"
        if entry(kind) is not None:
            return ".<name>"
    return ""


def in_yaml(value: object) -> str:
    """A default as one writes it: `5s`, `64MiB`, `true`, `[a, b]`, `""`."""
    return _flow(plain_default(value))


def _flow(plain: Json) -> str:
    if isinstance(plain, dict):
        return "{" + ", ".join(f"{key}: {_flow(value)}" for key, value in plain.items()) + "}"
    if isinstance(plain, list):
        return "[" + ", ".join(_flow(value) for value in plain) + "]"
    if isinstance(plain, str) and isinstance(scalar(plain), str):
        return plain
    return "none" if plain is None else msgspec.json.encode(plain).decode()


def plain_default(value: object) -> Json:
    """A default as plain data, durations and sizes as they are written."""
    if value is MISSING or isinstance(value, Secret):
        return "" if not value else "[redacted]"
    if isinstance(value, Duration | Size):
        return str(value)
    if isinstance(value, Enum):
        return plain_default(value.value)
    if isinstance(value, msgspec.Struct):
        return {field.name: plain_default(getattr(value, field.attribute)) for field in fields(type(value))}
    if isinstance(value, dict):
        return {str(key): plain_default(below) for key, below in value.items()}
    if isinstance(value, list | tuple):
        return [plain_default(below) for below in value]
    if isinstance(value, set | frozenset):
        return sorted((plain_default(below) for below in value), key=str)
    return value if isinstance(value, bool | int | float | str) or value is None else str(value)


def _signals(spec: AnySpec) -> str:
    match spec:
        case ReceiverSpec():
            return f"→ {_listed(given_by(spec))}"
        case ConnectorSpec():
            return f"{spec.takes.value} → {_listed(given_by(spec))}"
        case ProcessorSpec():
            return _listed(spec.takes)
        case ExporterSpec():
            return f"{_listed(spec.takes)} →"
        case _:
            return ""


def _listed(signals: frozenset[Signal]) -> str:
    return ", ".join(signal.value for signal in Signal if signal in signals)
