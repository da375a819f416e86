"""`dagtel schema`: an editor takes what dagtel takes, and names what it refuses.

There is no validator among the dependencies: the few keywords that the schema uses are checked by a dozen lines here.
"""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from pipeline.cli.schema import block_schema
from pipeline.config.model import ServiceConfig
from pipeline.facts import Json
from pipeline.yaml_tree import compose

Dagtel = Callable[..., Result]
Schema = dict[str, Json]

TYPES: dict[str, type | tuple[type, ...]] = {
    "object": dict, "array": list, "string": str, "integer": int, "number": (int, float), "boolean": bool,
    "null": type(None),
}  # fmt: skip
KNOWN = {
    "$schema", "$defs", "$ref", "title", "description", "default", "type", "properties", "patternProperties",
    "additionalProperties", "required", "items", "anyOf", "enum", "pattern", "minimum",
}  # fmt: skip


def fits(value: Json, schema: object, root: Schema) -> bool:
    if not isinstance(schema, dict):
        return bool(schema)
    assert set(schema) <= KNOWN
    if "$ref" in schema:
        definitions = root["$defs"]
        assert isinstance(definitions, dict)
        return fits(value, definitions[str(schema["$ref"]).rpartition("/")[2]], root)
    if "anyOf" in schema and not any(fits(value, below, root) for below in schema["anyOf"]):
        return False
    kinds = [schema["type"]] if isinstance(schema.get("type"), str) else schema.get("type")
    if kinds and not any(_is(value, kind) for kind in kinds):
        return False
    if "enum" in schema and value not in schema["enum"]:
        return False
    if "pattern" in schema and isinstance(value, str) and not re.search(schema["pattern"], value):
        return False
    if "minimum" in schema and isinstance(value, int | float) and value < schema["minimum"]:
        return False
    if isinstance(value, list):
        return all(fits(item, schema.get("items", True), root) for item in value)
    return _map_fits(value, schema, root) if isinstance(value, dict) else True


def _is(value: Json, kind: str) -> bool:
    return isinstance(value, TYPES[kind]) and (kind in ("boolean",) or not isinstance(value, bool))


def _map_fits(value: dict[str, Json], schema: dict[str, object], root: Schema) -> bool:
    properties = schema.get("properties", {})
    patterns = schema.get("patternProperties", {})
    assert isinstance(properties, dict)
    assert isinstance(patterns, dict)
    required = schema.get("required", [])
    assert isinstance(required, list)
    for key, below in value.items():
        matching = [properties[key]] if key in properties else [s for p, s in patterns.items() if re.search(p, key)]
        if not all(fits(below, one, root) for one in matching or [schema.get("additionalProperties", True)]):
            return False
    return all(key in value for key in required)


@pytest.fixture
def schema(dagtel: Dagtel) -> Schema:
    result = dagtel("schema")
    assert result.exit_code == 0
    loaded: Schema = json.loads(result.stdout)
    return loaded


CONFIGS = sorted(
    path for path in (Path(__file__).parents[2] / "configs").glob("*.yaml") if not path.name.endswith(".test.yaml")
)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.name)
def test_shipped_configurations_fit(schema: Schema, path: Path) -> None:
    assert fits(compose(path.read_text(), path.name)[0].plain(), schema, schema)


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "receivers:",
        "exporters: {file: {path: x}, file/b: {path: '${env:X}', timeout: 5, sending_queue: {queue_size: 1GiB}}}",
        "exporters: {console: }",
        "exporters: {file: {path: x, sending_queue: {num_consumers: '${env:N}', batch: {max_size: 5}}}}",
        "service: {clock: events, checkpoint_interval: 2 hours, intake: {max_bytes: 1024, max_items: 10}}",
        "service: {pipelines: {events: {receivers: [a], exporters: '${env:WHERE}'}}}",
        "service: {telemetry: {traces: {headers: {a: b}}, logs: {loki: {url: x}}}}",
    ],
)
def test_what_may_be_written_fits(schema: Schema, text: str) -> None:
    assert fits(compose(text, "f")[0].plain(), schema, schema)


@pytest.mark.parametrize(
    "text",
    [
        "recievers: {}",
        "receivers: []",
        "receivers: {nope: }",
        "exporters: {file: {}}",
        "exporters: {file: {path: x, pth: y}}",
        "exporters: {file: {path: [x]}}",
        "exporters: {file: {path: x, timeout: -1}}",
        "exporters: {file: {path: x, sending_queue: {num_consumers: many}}}",
        "service: {clock: moon}",
        "service: {telemetry: {logs: {loki: {}}}}",
        "service: {pipelines: {events: {receivers: a}}}",
    ],
)
def test_what_may_not_be_written_does_not_fit(schema: Schema, text: str) -> None:
    assert not fits(compose(text, "f")[0].plain(), schema, schema)


def test_options_carry_their_words_and_defaults() -> None:
    properties = block_schema(ServiceConfig)["properties"]
    assert isinstance(properties, dict)
    assert properties["shutdown_timeout"] == {
        "description": "How long a stop may take to finish what is in flight.",
        "$ref": "#/$defs/duration",
        "default": "30s",
    }
