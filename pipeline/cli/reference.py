"""docs/configuration.md, made from the types: `python -m pipeline.cli.reference` writes it.

The words of the options are the docstrings in the code; a test holds the file against them.
"""

import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from pipeline.cli.describe import Component, Option, block_options, component
from pipeline.components import ExporterSpec
from pipeline.config.fields import doc
from pipeline.config.model import PipelineConfig, ServiceConfig
from pipeline.delivery import Delivery
from pipeline.topology.registry import KINDS, Kind, NoComponent, Registry

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"

_INTRO = """\
# Configuration

<!-- Made by `python -m pipeline.cli.reference` from the types in the code. Change the docstrings there. -->

A configuration is YAML in the OpenTelemetry Collector's shape:

```yaml
receivers: # where events come from
  kafka:
    brokers: ["${env:KAFKA:-localhost:9092}"]
processors: # what happens to them on the way
  run_ledger:
connectors: # the end of one pipeline and the start of the next
  spans:
exporters: # where they go
  jaeger:
    endpoint: http://localhost:4318
service: # what is put together
  pipelines:
    events: {receivers: [kafka], processors: [run_ledger], exporters: [spans]}
    traces: {receivers: [spans], exporters: [jaeger]}
```

`dagtel validate --config FILE` names everything that is wrong with it, as `file:line: path: message`, and exits with 2.
`dagtel print-config` shows what is in force, without secrets. `dagtel schema` prints a JSON Schema for editors.
`dagtel components` lists what is installed, `dagtel components NAME` the options of one, as below.

## How it is read

- **Ids** are `type` or `type/name`: `file`, `file/errors`. The name is yours: letters, digits, `-` and `_`. State
  belongs to the id. A block without options is written `type:`; an option without a value (null) has its default.
- **Several files** (`--config a.yaml --config b.yaml`) merge in order: maps deeply, anything else replaces; a list
  replaces the list before it. `--set exporters.loki.endpoint=http://loki:3100` comes on top; its value is YAML.
- **`${env:NAME}`** is an environment variable. It must be set, unless there is a default: `${env:NAME:-default}` stands
  for one that is unset or empty. **`${file:PATH}`** is the text of a file without its last line break, relative to the
  file that says it. They nest: `${env:A:-${env:B}/x}`. `$$` is a dollar sign. What comes out is typed by its place: a
  number where a number is due, a list from `a,b` or `[a, b]` where a list is. It is never read for `${…}` again.
- **Scalars** are those of YAML 1.2: `true` and `false` are the only booleans, `no` and `1:30` are texts. A key stands
  once. Anchors, aliases and `<<` work.
- **Durations**: `5s`, `1h30m`, `250ms`, `2 hours`, or a number of seconds. **Sizes**: `64MiB`, `1GB`, `512k`, or a
  number of bytes. **Secrets** are never printed; give them by `${env:…}` or `${file:…}`.

"""

_DELIVERY_INTRO = """\
## Every exporter: delivery

Every exporter takes these options besides its own. Payloads are committed to disk before they are sent, and sent again
after a crash, byte for byte. The defaults of an exporter can differ; then they stand in its own table.

"""


def page(registry: Registry) -> str:
    """The whole page. Plugins that do not import are left out."""
    parts = [_INTRO, _service(), _DELIVERY_INTRO, _table(block_options(Delivery)), "\n"]
    for kind in KINDS:
        parts.extend(_kind(kind, registry))
    return "".join(parts).rstrip() + "\n"


def missing(registry: Registry) -> tuple[str, ...]:
    """What could not be imported, in words."""
    return tuple(reason for kind in KINDS for name in registry.names(kind) if (reason := _broken(registry, kind, name)))


def _broken(registry: Registry, kind: Kind, name: str) -> str:
    try:
        registry.spec(kind, name)
    except NoComponent as error:
        return str(error)
    return ""


def _service() -> str:
    pipelines = (
        f"### service.pipelines.&lt;id&gt;\n\n{doc(PipelineConfig)}\n\n{_table(block_options(PipelineConfig))}\n"
    )
    own = [option for option in block_options(ServiceConfig) if not option.name.startswith("pipelines.")]
    return f"## service\n\n{doc(ServiceConfig)}\n\n{_table(own)}\n{pipelines}"


def _kind(kind: Kind, registry: Registry) -> Iterator[str]:
    sound = [name for name in registry.names(kind) if not _broken(registry, kind, name)]
    if sound:
        yield f"## {kind}\n\n"
    for name in sound:
        spec = registry.spec(kind, name)
        one = component(name, spec)
        yield f"### {kind}: {name}\n\n{_paragraphs(one)}\n"
        if one.options:
            yield f"{_table(one.options)}\n"
        if isinstance(spec, ExporterSpec) and (changed := _changed(one)):
            yield f"Its own defaults for delivery:\n\n{_table(changed)}\n"


def _paragraphs(one: Component) -> str:
    lines = [one.doc]
    if one.signals:
        lines.append(f"Signals: {one.signals}.".replace(" →.", " →"))
    if one.needs:
        lines.append(f"Needs before it: {', '.join(f'`{needed}`' for needed in one.needs)}.")
    if not one.options:
        lines.append("It has no options.")
    return "".join(f"{line}\n\n" for line in lines if line).removesuffix("\n")


def _changed(one: Component) -> list[Option]:
    usual = {option.name: option.default for option in block_options(Delivery)}
    return [option for option in one.delivery if option.default != usual[option.name]]


def _table(options: Iterable[Option]) -> str:
    rows = ["| option | type | default | meaning |\n|---|---|---|---|\n"]
    for option in options:
        default = "**required**" if option.required else f"`{option.default}`"
        cells = (f"`{option.name}`", option.type, default, option.doc)
        rows.append(f"| {' | '.join(map(_cell, cells))} |\n")
    return "".join(rows)


def _cell(text: str) -> str:
    return re.sub(r"\s+", " ", text.replace("|", "\\|"))


def _write() -> None:
    registry = Registry.installed()
    for reason in missing(registry):
        sys.stderr.write(f"left out: {reason}\n")
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page(registry), encoding="utf-8")


if __name__ == "__main__":
    _write()
