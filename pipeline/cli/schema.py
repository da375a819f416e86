"""The JSON Schema (2020-12) of a configuration, from the types of all installed components. For editors.

It says what may be written, not what may work: `${…}` stands in place of any value, and references are not followed.
"""

from typing import Annotated, Any, Final, Literal, get_args, get_origin

import msgspec

from pipeline.cli.describe import plain_default
from pipeline.components import ExporterSpec
from pipeline.config.fields import Field, bare, doc, entry, fields, is_struct, item, members
from pipeline.config.model import ServiceConfig
from pipeline.delivery import Delivery
from pipeline.facts import Json
from pipeline.options import Duration, Secret, Size
from pipeline.topology.registry import KINDS, Kind, NoComponent, Registry

Schema = dict[str, Json]

_NAMED: Final[dict[object, str]] = {Duration: "duration", Size: "size", Secret: "secret"}
_PLAIN: Final[dict[object, str]] = {int: "integer", float: "number", bool: "boolean", type(None): "null"}
_DEFINITIONS: Final[Schema] = {
    "reference": {"type": "string", "pattern": r"\$\{", "description": "${env:NAME:-default} or ${file:PATH}"},
    "duration": {
        "anyOf": [{"type": "string"}, {"type": "number", "minimum": 0}],
        "description": "A duration: 5s, 1h30m, 2 hours, or a number of seconds.",
    },
    "size": {
        "anyOf": [{"type": "string"}, {"type": "integer", "minimum": 0}],
        "description": "A number of bytes: 64MiB, 1GB, 512k.",
    },
    "secret": {"type": "string", "description": "A secret, never printed; write ${env:NAME} or ${file:PATH}."},
}
_BOUNDS: Final = {
    "ge": "minimum",
    "gt": "exclusiveMinimum",
    "le": "maximum",
    "lt": "exclusiveMaximum",
    "multiple_of": "multipleOf",
    "pattern": "pattern",
}


def config_schema(registry: Registry) -> Schema:
    """The schema of a whole file. A plugin that does not import leaves its block open."""
    sections: Schema = {kind: _section(kind, registry) for kind in KINDS}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "dagtel configuration",
        "type": "object",
        "additionalProperties": False,
        "properties": {**sections, "service": block_schema(ServiceConfig)},
        "$defs": _DEFINITIONS,
    }


def _section(kind: Kind, registry: Registry) -> Schema:
    blocks: Schema = {}
    for name in registry.names(kind):
        try:
            spec = registry.spec(kind, name)
        except NoComponent:
            blocks[rf"^{name}(/[\w-]+)?$"] = {}
            continue
        common = fields(Delivery) if isinstance(spec, ExporterSpec) else ()
        base = spec.delivery if isinstance(spec, ExporterSpec) else None
        blocks[rf"^{name}(/[\w-]+)?$"] = _block(spec.config, (), common, base)
    return {"type": ["object", "null"], "patternProperties": blocks, "additionalProperties": False}


def block_schema(cls: type[msgspec.Struct]) -> Schema:
    """The schema of one block of options."""
    return _block(cls, ())


def _block(
    cls: type[msgspec.Struct], above: tuple[object, ...], common: tuple[Field, ...] = (), base: object = None
) -> Schema:
    if cls in above:
        return {"type": ["object", "null"]}
    own = {field.name: _option(field, field.default, (*above, cls)) for field in fields(cls)}
    theirs = {field.name: _option(field, getattr(base, field.attribute), (*above, cls)) for field in common}
    properties: Schema = {**own, **theirs}
    schema: Schema = {"type": ["object", "null"], "properties": properties, "additionalProperties": False}
    required: list[Json] = [field.name for field in fields(cls) if field.required]
    if required:
        schema |= {"type": "object", "required": required}
    return ({"description": doc(cls)} if doc(cls) else {}) | schema


def _option(field: Field, default: object, above: tuple[object, ...]) -> Schema:
    schema = _value(field.hint, above)
    if field.doc:
        schema = {"description": field.doc, **{key: value for key, value in schema.items() if key != "description"}}
    return schema if field.required else {**schema, "default": plain_default(default)}


def _value(hint: object, above: tuple[object, ...]) -> Schema:
    """A value, or `${…}` in its place."""
    kinds = members(bare(hint))
    alternatives: list[Json] = [_kind(kind, above) for kind in kinds]
    texts = [kind for kind in map(bare, kinds) if kind in (str, Secret) or kind in (Duration, Size)]
    if not texts:
        alternatives.append({"$ref": "#/$defs/reference"})
    schema: Schema = dict(alternatives[0]) if len(alternatives) == 1 and isinstance(alternatives[0], dict) else {}
    return (schema or {"anyOf": alternatives}) | _bounds(hint)


def _kind(hint: object, above: tuple[object, ...]) -> Schema:
    kind = bare(hint)
    if kind in _NAMED:
        return {"$ref": f"#/$defs/{_NAMED[kind]}"}
    if kind in _PLAIN:
        return {"type": _PLAIN[kind]} | _bounds(hint)
    if kind is str:
        return {"type": "string"} | _bounds(hint)
    if get_origin(kind) is Literal:
        return {"enum": list(get_args(kind))}
    if is_struct(kind):
        return _block(kind, above)
    if (of := item(kind)) is not None:
        return {"type": "array", "items": _value(of, above)}
    if pair := entry(kind):
        return {"type": "object", "additionalProperties": _value(pair[1], above)}
    return {}


def _bounds(hint: object) -> Schema:
    """What `Annotated[…, Meta(ge=1)]` says."""
    found: Schema = {}
    if get_origin(hint) is Annotated:
        metas: list[Any] = [meta for meta in get_args(hint)[1:] if isinstance(meta, msgspec.Meta)]
        for meta in metas:
            found |= {name: getattr(meta, key) for key, name in _BOUNDS.items() if getattr(meta, key) is not None}
    return found
