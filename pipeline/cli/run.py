"""`dagtel run`, and `dagtel bridge`, which is `run` with a configuration that is shipped."""

import signal
import threading
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import anyio
import typer

from pipeline.cli.arguments import ConfigFiles, Once, Overrides, Sets, Watch
from pipeline.cli.output import complain, inert
from pipeline.cli.planning import CONFIG_PROBLEMS, RUNTIME_FAILURE, planned, planned_or_exit
from pipeline.cli.shipped import shipped
from pipeline.errors import ConfigError, DagtelError


def run(config: ConfigFiles, set_: Sets = None, once: Once = False, watch: Watch = False) -> None:
    """Run the daemon until it is told to stop. On SIGHUP it takes the configuration over anew, without a restart.

    Exits with 0 when all is done, 1 when it could not start or go on, 2 when the configuration is wrong.
    """
    _run(config, set_, once, watch)


def bridge(config: Overrides = None, set_: Sets = None, once: Once = False, watch: Watch = False) -> None:
    """Carry Dagster's event log from its storage to Kafka.

    Runs the shipped configs/bridge.yaml, with your own configurations merged on top.
    """
    _run([shipped("bridge.yaml"), *(config or ())], set_, once, watch)


def _run(files: Sequence[Path], sets: Sequence[str] | None, once: bool, watch: bool) -> None:
    if once and watch:
        typer.echo("dagtel: --once and --watch: a run to the end of its input has no time to change", err=True)
        raise typer.Exit(CONFIG_PROBLEMS)
    asked = threading.Event()
    signal.signal(signal.SIGHUP, lambda number, frame: asked.set())  # until the service listens: nobody is killed by it
    config, plan = planned_or_exit(files, sets)
    from pipeline.runtime.reload import Loaded, Reloading, loaded  # here, so that a wrong configuration is told at once
    from pipeline.runtime.service import run_service
    from pipeline.web.acting import acting
    from pipeline.web.app import serve

    def again() -> Loaded:
        config, plan = planned(files, sets)
        return loaded(plan, config)

    reloading = Reloading(loaded(plan, config), again, watch, asked)
    try:
        code = anyio.run(partial(run_service, acting=acting), plan, once, serve, None, reloading)
    except ConfigError as error:
        complain(error.problems)
        raise typer.Exit(CONFIG_PROBLEMS) from error
    except DagtelError as error:
        typer.echo(f"dagtel: {inert(str(error))}", err=True)
        raise typer.Exit(RUNTIME_FAILURE) from error
    raise typer.Exit(code)
