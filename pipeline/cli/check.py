"""`dagtel validate`, `print-config` and `schema`: look at a configuration without running it."""

from collections.abc import Iterable

import msgspec
import typer

from pipeline.cli.arguments import AsJson, ConfigFiles, Sets
from pipeline.cli.output import complain, print_json
from pipeline.cli.planning import CONFIG_PROBLEMS, plan_or_exit, read
from pipeline.cli.schema import config_schema
from pipeline.config.redact import redacted
from pipeline.errors import ConfigError, Problem
from pipeline.topology.plan import Plan
from pipeline.topology.registry import Registry
from pipeline.topology.resolve import options, resolve
from pipeline.yaml_tree import dump


class Finding(msgspec.Struct, frozen=True):
    """A problem or a warning, as `validate --json` prints it."""

    severity: str
    file: str
    line: int
    path: str
    message: str


def validate(config: ConfigFiles, set_: Sets = None, json: AsJson = False) -> None:
    """Check a configuration and name all that is wrong with it, a line each.

    Exits with 0 when it could run (there may be warnings), 2 when it could not.
    """
    if not json:
        typer.echo(_summary(plan_or_exit(config, set_)))
        return
    try:
        plan = resolve(read(config, set_), Registry.installed())
    except ConfigError as error:
        print_json(_findings("error", error.problems))
        raise typer.Exit(CONFIG_PROBLEMS) from error
    print_json(_findings("warning", plan.warnings))


def print_config(config: ConfigFiles, set_: Sets = None) -> None:
    """Print the configuration as it is in force: merged, `${…}` filled in, secrets as `[redacted]`.

    Exits with 2 when it could not run; what could be read is printed all the same.
    """
    registry = Registry.installed()
    try:
        read_config = read(config, set_)
        typer.echo(dump(redacted(read_config.tree, options(read_config, registry))), nl=False)
        resolve(read_config, registry)
    except ConfigError as error:
        complain(error.problems)
        raise typer.Exit(CONFIG_PROBLEMS) from error


def schema() -> None:
    """Print the JSON Schema of a configuration, with all components that are installed."""
    print_json(config_schema(Registry.installed()))


def _summary(plan: Plan) -> str:
    count = len(plan.pipelines)
    return f"ok: {count} pipeline{'s' if count > 1 else ''}: {', '.join(plan.pipelines)}"


def _findings(severity: str, problems: Iterable[Problem]) -> list[Finding]:
    return [Finding(severity, p.file, p.line, p.path, p.message) for p in problems]
