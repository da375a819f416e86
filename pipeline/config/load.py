"""From files to a `Config`: the sections, the blocks by id, the service typed. What plugins must say comes later."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from pipeline.config import source
from pipeline.config.decode import decode_sound
from pipeline.config.model import Config, ServiceConfig
from pipeline.config.near import hint as near
from pipeline.errors import Problem
from pipeline.yaml_tree import Yaml

SECTIONS: Final = ("receivers", "processors", "connectors", "exporters", "extensions")


def load(paths: Sequence[Path], sets: Sequence[str] = (), env: Mapping[str, str] | None = None) -> Config:
    """The merged configuration of `paths` and `sets` (`a.b=c`), with `${env:…}` from `env`.

    Faults that leave something to plan with are in `Config.faults`. Raises ConfigError when nothing is left: a file
    that cannot be read or is no YAML.
    """
    return _config(source.read(paths, sets, env))


def parse(text: str, file: str = "", sets: Sequence[str] = (), env: Mapping[str, str] | None = None) -> Config:
    """The same for one text."""
    return _config(source.parse(text, file, sets, env))


def _config(read: source.Source) -> Config:
    problems = list(read.problems)
    entries = read.tree.value if isinstance(read.tree.value, dict) else {}
    for key, node in entries.items():
        if key not in SECTIONS and key != "service":
            message = f"no such key{near(key, (*SECTIONS, 'service'))}"
            problems.append(Problem(key, message, node.file, node.line))
    sections = {name: _blocks(entries.get(name), name, problems) for name in SECTIONS}
    service = decode_sound(entries.get("service", Yaml(None)), ServiceConfig, "service", problems)
    return Config(
        **sections,
        service=service,
        tree=read.tree,
        files=read.files,
        outside=read.outside,
        faults=tuple(problems),
    )


def _blocks(section: Yaml | None, name: str, problems: list[Problem]) -> dict[str, Yaml]:
    if section is None or section.value is None or section.broken:
        return {}
    if not isinstance(section.value, dict):
        message = "expected a map of components by id, such as `file:` or `file/second:`"
        problems.append(Problem(name, message, section.file, section.line))
        return {}
    return section.value
