"""From the command's arguments to a plan, or to the exit."""

import os
from collections.abc import Sequence
from pathlib import Path

import typer

from pipeline.cli.output import complain
from pipeline.config.load import load
from pipeline.config.model import Config
from pipeline.errors import ConfigError
from pipeline.topology.plan import Plan
from pipeline.topology.registry import Registry
from pipeline.topology.resolve import resolve

CONFIG_PROBLEMS = 2
"""The exit code for a configuration that cannot run."""

RUNTIME_FAILURE = 1
"""The exit code for a daemon that could not start or go on."""


def read(files: Sequence[Path], sets: Sequence[str] | None) -> Config:
    """The configuration in the process's environment. Raises ConfigError."""
    return load(files, sets or (), os.environ)


def planned(files: Sequence[Path], sets: Sequence[str] | None) -> tuple[Config, Plan]:
    """The configuration and its plan. Raises ConfigError with all problems."""
    config = read(files, sets)
    return config, resolve(config, Registry.installed())


def plan_or_exit(files: Sequence[Path], sets: Sequence[str] | None) -> Plan:
    """The plan; its warnings are printed. With problems: print them all and exit with 2."""
    return planned_or_exit(files, sets)[1]


def planned_or_exit(files: Sequence[Path], sets: Sequence[str] | None) -> tuple[Config, Plan]:
    """The same with the configuration."""
    try:
        config, plan = planned(files, sets)
    except ConfigError as error:
        complain(error.problems)
        raise typer.Exit(CONFIG_PROBLEMS) from error
    complain(plan.warnings, warning=True)
    return config, plan
