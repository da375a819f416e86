"""Component blocks decoded: each id with its type loaded and its options typed."""

import re
from collections.abc import Mapping
from typing import Final

import msgspec

from pipeline.components import AnySpec, ExporterSpec
from pipeline.config.decode import decode, split
from pipeline.config.fields import fields
from pipeline.config.model import Config
from pipeline.delivery import Delivery
from pipeline.errors import Problem
from pipeline.topology.plan import Node
from pipeline.topology.registry import KINDS, Kind, NoComponent, Registry
from pipeline.yaml_tree import Yaml

_ID: Final = re.compile(r"\w+(/[\w-]+)?", re.ASCII)
_DELIVERY: Final = tuple(field.name for field in fields(Delivery))


class Block(msgspec.Struct, frozen=True):
    """A configured component. `spec` is None when its type is not there, `node` when anything is wrong with it."""

    id: str
    spec: AnySpec | None = None
    node: Node | None = None


Blocks = Mapping[Kind, Mapping[str, Block]]


def decoded(config: Config, registry: Registry, problems: list[Problem]) -> Blocks:
    """Every configured component, used or not; what is wrong is appended to `problems`."""
    return {
        kind: {id: _block(kind, id, raw, registry, problems) for id, raw in getattr(config, kind).items()}
        for kind in KINDS
    }


def _block(kind: Kind, id: str, raw: Yaml, registry: Registry, problems: list[Problem]) -> Block:
    path = f"{kind}.{id}"
    if not _ID.fullmatch(id):
        message = "is no id; write `type` or `type/name`, the name of letters, digits, `-` and `_`"
        problems.append(Problem(path, message, raw.file, raw.line))
        return Block(id)
    try:
        spec = registry.spec(kind, id.partition("/")[0])
    except NoComponent as error:
        problems.append(Problem(path, str(error), raw.file, raw.line))
        return Block(id)
    if raw.broken:
        return Block(id, spec)
    return Block(id, spec, _node(id, spec, raw, path, problems))


def _node(id: str, spec: AnySpec, raw: Yaml, path: str, problems: list[Problem]) -> Node | None:
    if not isinstance(spec, ExporterSpec):
        options = decode(raw, spec.config, path, problems)
        return None if options is None else Node(id, spec, options, None)
    own, common = split(raw, _DELIVERY)
    options = decode(own, spec.config, path, problems, also=_DELIVERY)
    delivery = decode(common, Delivery, path, problems, base=spec.delivery)
    return None if options is None or delivery is None else Node(id, spec, options, delivery)
