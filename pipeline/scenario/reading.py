"""From a `.test.yaml` to scenarios that can be played. Raises ConfigError with every problem, its file and line."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec

from pipeline.config.decode import decode
from pipeline.config.load import load
from pipeline.config.source import SET
from pipeline.errors import ConfigError, Problem
from pipeline.scenario.model import Scenario, ScenarioFile
from pipeline.topology.plan import Plan
from pipeline.topology.registry import Registry
from pipeline.topology.resolve import resolve
from pipeline.yaml_tree import Yaml, compose, read_text

_LISTS: Final = ("config", "set", "text", "channels", "exporters", "escalate_to", "lines", "also")
"""Where one text may stand for a list of one."""


class Ready(msgspec.Struct, frozen=True):
    """A scenario, where it stands, the lines of its expectations and of its prohibitions, and the plan it runs."""

    scenario: Scenario
    file: str
    line: int
    start_ns: int
    expected_at: tuple[int, ...]
    never_at: tuple[int, ...]
    plan: Plan

    @property
    def folder(self) -> Path:
        """What paths of its events are relative to."""
        return Path(self.file).parent


def ready(path: Path, registry: Registry) -> list[Ready]:
    """All scenarios of a file, each with its plan. Raises ConfigError."""
    tree, problems = compose(read_text(path), str(path))
    if not isinstance(tree.value, dict):
        raise ConfigError([Problem("", "is no test: a map with `config` and `scenarios` is expected", str(path), 1)])
    file = decode(_listed(tree), ScenarioFile, "", problems)
    if file is None or problems:
        raise ConfigError(problems)
    nodes = _items(tree, "scenarios")
    plans: dict[tuple[object, ...], Plan] = {}
    found: list[Ready] = []
    for scenario, node in zip(file.scenarios, nodes, strict=True):
        start_ns = _start_ns(scenario, node, problems)
        sets, env = (*file.set, *scenario.set), {**file.env, **scenario.env}
        key = (sets, tuple(sorted(env.items())))
        if key not in plans:
            try:
                plans[key] = _plan([path.parent / each for each in file.config], sets, env, registry)
            except ConfigError as error:
                problems += [_at_its_scenario(problem, node) for problem in error.problems]
                continue
        expected, never = _lines(node, "expect"), _lines(node, "never")
        found.append(Ready(scenario, str(path), node.line, start_ns, expected, never, plans[key]))
    if problems:
        raise ConfigError(list({str(p): p for p in problems}.values()))
    return found


def _plan(paths: list[Path], sets: tuple[str, ...], env: Mapping[str, str], registry: Registry) -> Plan:
    return resolve(load(paths, sets, env), registry)


def _at_its_scenario(problem: Problem, node: Yaml) -> Problem:
    """A problem of `set` stands in no file of its own."""
    if problem.file != SET:
        return problem
    return Problem(f"set[{problem.line - 1}]: {problem.path}", problem.message, node.file, node.line)


def _start_ns(scenario: Scenario, node: Yaml, problems: list[Problem]) -> int:
    try:
        at = datetime.fromisoformat(scenario.start.strip())
    except ValueError:
        message = f"{scenario.start!r} is no time; write for example `2024-01-15T02:00:00Z`"
        problems.append(Problem(f"{scenario.name}: start", message, node.file, node.line))
        return 0
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return int(at.timestamp()) * 10**9 + at.microsecond * 1000


def _listed(node: Yaml) -> Yaml:
    """The tree with single texts as lists, where lists are due."""
    if isinstance(node.value, list):
        return msgspec.structs.replace(node, value=[_listed(child) for child in node.value])
    if isinstance(node.value, dict):
        return msgspec.structs.replace(node, value={key: _entry(key, child) for key, child in node.value.items()})
    return node


def _entry(key: str, node: Yaml) -> Yaml:
    if key in ("metadata", "env"):
        return node
    if key in _LISTS and isinstance(node.value, str):
        return msgspec.structs.replace(node, value=[node])
    return _listed(node)


def _items(node: Yaml, key: str) -> list[Yaml]:
    child = node.value.get(key) if isinstance(node.value, dict) else None
    return child.value if child is not None and isinstance(child.value, list) else []


def _lines(node: Yaml, key: str) -> tuple[int, ...]:
    return tuple(item.line for item in _items(node, key))
