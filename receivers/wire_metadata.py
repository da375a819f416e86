"""Dagster's metadata values as plain ones: label → number, text, list or dict.

On the wire an entry is an object whose payload key depends on its class, and whose class has two spellings
(`IntMetadataEntryData`, `IntMetadataValue`). Events hold a list of labelled entries, checks a dict by label.
"""

from typing import Final

import msgspec

from pipeline.facts import Json, Metadata
from receivers import wire_repair

_PAYLOADS: Final = {
    "Int": "value", "Float": "value", "Bool": "value", "Timestamp": "value", "Text": "text", "Url": "url",
    "Path": "path", "Notebook": "path", "Json": "data", "Markdown": "md_str", "TableSchema": "schema",
    "DagsterRun": "run_id", "DagsterJob": "job_name", "DagsterAsset": "asset_key", "CodeReferences": "code_references",
    "Pool": "pool", "Object": "class_name",
}  # fmt: skip
_SUFFIXES: Final = ("MetadataEntryData", "MetadataValue")
PAYLOADS: Final = {f"{kind}{suffix}": key for kind, key in _PAYLOADS.items() for suffix in _SUFFIXES}
"""By the class of a value, the name of its one payload."""
_SCALARS: Final = frozenset({str, bool, float, type(None)})

_decode = msgspec.json.Decoder().decode


def metadata(raw: msgspec.Raw) -> Metadata:
    """The metadata in `raw`: a list of entries, a dict of values, or null. What is of another shape is left out.

    A TableColumnLineage becomes {column: [{"asset_key": "a/b", "column_name": "c"}, …]}, a table {"records", "schema"},
    an asset key its parts joined by "/", a Python artifact "module.name".
    """
    if len(raw) <= 4:  # [], {}, null
        return {}
    entries = _parsed(raw)
    found: Metadata = {}
    if isinstance(entries, list):
        for entry in entries:
            label = entry.get("label") if isinstance(entry, dict) else None
            if isinstance(label, str):
                found[label] = _value(entry.get("entry_data"))
    elif isinstance(entries, dict):
        for label, value in entries.items():
            if label != "__class__":
                found[label] = _value(value)
    return found


def value(raw: bytes) -> Json:
    """One value, as JSON."""
    return _value(_parsed(raw))


def _parsed(raw: bytes) -> object:
    try:
        return _decode(raw)
    except (msgspec.MsgspecError, ValueError):
        pass
    try:
        return wire_repair.lenient(bytes(raw))
    except (ValueError, RecursionError):
        return None


def _value(value: object) -> Json:
    if type(value) is not dict:
        return plain(value)
    kind = value.get("__class__")
    if type(kind) is not str:
        return plain(value)
    key = PAYLOADS.get(kind)
    if key is not None and key in value:
        payload = value[key]
        return payload if type(payload) in _SCALARS else plain(payload)
    return _compound(kind, value)


def _compound(kind: str, value: dict[str, object]) -> Json:
    for suffix in _SUFFIXES:
        kind = kind.removesuffix(suffix)
    if kind == "Null":
        return None
    if kind == "TableColumnLineage":
        return _lineage(value.get("column_lineage"))
    if kind == "Table":
        records = value.get("records")
        rows = [r.get("data") if isinstance(r, dict) else r for r in records] if isinstance(records, list) else []
        return {"records": plain(rows), "schema": plain(value.get("schema"))}
    if kind == "PythonArtifact":
        return f"{value.get('module')}.{value.get('name')}"
    rest = [item for key, item in value.items() if key != "__class__"]
    return plain(rest[0]) if len(rest) == 1 else plain(value)


def _lineage(value: object) -> Json:
    deps = value.get("deps_by_column") if isinstance(value, dict) else None
    try:
        return {
            column: [
                {"asset_key": "/".join(dep["asset_key"]["path"]), "column_name": dep["column_name"]} for dep in found
            ]
            for column, found in deps.items()  # type: ignore[union-attr]  # another shape is caught below
        }
    except (AttributeError, KeyError, TypeError):
        return plain(deps)


def plain(value: object, depth: int = 0) -> Json:
    """A value without Dagster's wrappers: `__class__` dropped, enums by name, asset keys joined, sets as lists.

    Nothing nested more deeply than `wire_repair.DEEPEST` is kept.
    """
    kind = type(value)
    if kind in _SCALARS:
        return value  # type: ignore[return-value]  # one of the scalars of Json
    if depth < wire_repair.DEEPEST:
        if kind is dict:
            return _unwrapped(value, depth)  # type: ignore[arg-type]  # a dict, by its type
        if kind is list:
            return [plain(item, depth + 1) for item in value]  # type: ignore[attr-defined]  # a list, by its type
    return wire_repair.number(value) if isinstance(value, int) else None


def _unwrapped(value: dict[str, object], depth: int) -> Json:
    kind = value.get("__class__")
    if kind == "AssetKey":
        path = value.get("path")
        if isinstance(path, list):
            return "/".join(map(str, path))
    elif kind is None:
        name = value.get("__enum__")
        if isinstance(name, str):
            return name.rpartition(".")[2]
        for wrapper in ("__set__", "__frozenset__"):
            if wrapper in value:
                return plain(value[wrapper], depth + 1)
    return {key: plain(item, depth + 1) for key, item in value.items() if key != "__class__"}
