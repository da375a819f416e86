"""`dagtel run`, and `dagtel bridge`, which is `run` with a configuration that is shipped."""

from collections.abc import Sequence
from pathlib import Path

import anyio
import typer

from pipeline.cli.arguments import ConfigFiles, Once, Overrides, Sets
from pipeline.cli.output import complain, inert
from pipeline.cli.planning import CONFIG_PROBLEMS, RUNTIME_FAILURE, plan_or_exit
from pipeline.cli.shipped import shipped
from pipeline.errors import ConfigError, DagtelError


def run(config: ConfigFiles, set_: Sets = None, once: Once = False) -> None:
    """Run the daemon until it is told to stop.

    Exits with 0 when all is done, 1 when it could not start or go on, 2 when the configuration is wrong.
    """
    _run(config, set_, once)


def bridge(config: Overrides = None, set_: Sets = None, once: Once = False) -> None:
    """Carry Dagster's event log from its storage to Kafka.

    Runs the shipped configs/bridge.yaml, with your own configurations merged on top.
    """
    _run([shipped("bridge.yaml"), *(config or ())], set_, once)


def _run(config: Sequence[Path], sets: Sequence[str] | None, once: bool) -> None:
    plan = plan_or_exit(config, sets)
    from pipeline.runtime.service import run_service  # here, so that a wrong configuration is told at once
    from pipeline.web.app import serve

    try:
        code = anyio.run(run_service, plan, once, serve)
    except ConfigError as error:
        complain(error.problems)
        raise typer.Exit(CONFIG_PROBLEMS) from error
    except DagtelError as error:
        typer.echo(f"dagtel: {inert(str(error))}", err=True)
        raise typer.Exit(RUNTIME_FAILURE) from error
    raise typer.Exit(code)
