"""All commands together. A command parses, calls and prints; what it calls knows nothing of terminals."""

from collections.abc import Iterable
from importlib import import_module
from typing import Final

import typer

COMMANDS: Final = {
    "run": "run:run",
    "bridge": "run:bridge",
    "validate": "check:validate",
    "print-config": "check:print_config",
    "schema": "check:schema",
    "components": "components:components",
    "dlq": "dlq:app",
    "alerts": "alerts:app",
    "silence": "silence:app",
    "test": "scenarios:test",
    "replay": "history:replay",
}
"""Where each command is, in this package: its module and the function, or the group of commands."""


def commands(names: Iterable[str]) -> typer.Typer:
    """The command line with these commands. Only their modules are imported: a daemon starts 0.3 s sooner for it."""
    built = typer.Typer(
        no_args_is_help=True,
        pretty_exceptions_show_locals=False,  # they hold secrets
        rich_markup_mode=None,
        help="Takes Dagster's event log and makes traces, metrics, logs and alerts of it.",
    )
    built.callback()(_as_group)
    for name in names:
        module, _, attribute = COMMANDS[name].partition(":")
        command = getattr(import_module(f"pipeline.cli.{module}"), attribute)
        if isinstance(command, typer.Typer):
            built.add_typer(command, name=name)
        else:
            built.command(name)(command)
    return built


def _as_group() -> None:
    """Takes Dagster's event log and makes traces, metrics, logs and alerts of it."""


def __getattr__(name: str) -> typer.Typer:
    """`app`: all commands."""
    if name == "app":
        return commands(COMMANDS)
    raise AttributeError(name)
