"""`dagtel run`, and `dagtel bridge`, which is `run` with a configuration that is shipped."""

import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import msgspec
import typer

from pipeline.cli.arguments import ConfigFiles, Leave, Once, Overrides, Sets, Watch, Worker, Workers
from pipeline.cli.output import complain, inert
from pipeline.cli.planning import CONFIG_PROBLEMS, RUNTIME_FAILURE, planned, planned_or_exit
from pipeline.cli.shipped import shipped
from pipeline.config.model import Config
from pipeline.errors import ConfigError, DagtelError
from pipeline.topology.plan import Plan
from pipeline.topology.several import against_several, for_worker

if TYPE_CHECKING:
    from pipeline.http import Asgi
    from pipeline.runtime.desk import Desk


class _Way(msgspec.Struct, frozen=True):
    """How to run: to the end of the input, with an eye on the files, as which of several workers (0: the only one)."""

    once: bool
    watch: bool
    worker: int = 0
    leaves: bool = False


def run(
    config: ConfigFiles,
    set_: Sets = None,
    once: Once = False,
    watch: Watch = False,
    workers: Workers = 1,
    leave: Leave = False,
    worker: Worker = 0,
) -> None:
    """Run the daemon until it is told to stop. On SIGHUP it takes the configuration over anew, without a restart.

    Exits with 0 when all is done, 1 when it could not start or go on, 2 when the configuration is wrong.
    """
    if workers > 1:
        _supervise(config, set_, _Way(once, watch, leaves=leave), workers)
    _run(config, set_, _Way(once, watch, worker, leave))


def bridge(config: Overrides = None, set_: Sets = None, once: Once = False, watch: Watch = False) -> None:
    """Carry Dagster's event log from its storage to Kafka.

    Runs the shipped configs/bridge.yaml, with your own configurations merged on top.
    """
    _run([shipped("bridge.yaml"), *(config or ())], set_, _Way(once, watch))


def _run(files: Sequence[Path], sets: Sequence[str] | None, way: _Way) -> None:
    if way.once and way.watch:
        _refuse("--once and --watch: a run to the end of its input has no time to change")
    asked = threading.Event()
    signal.signal(signal.SIGHUP, lambda number, frame: asked.set())  # until the service listens: nobody is killed by it
    if way.worker:
        from pipeline.runtime.workers import attach

        attach()

    def own(config: Config, plan: Plan) -> tuple[Config, Plan]:
        return config, for_worker(plan, way.worker) if way.worker else plan

    config, plan = own(*planned_or_exit(files, sets))
    from pipeline.runtime.launch import run_service
    from pipeline.runtime.reload import Loaded, Reloading, loaded  # here, so that a wrong configuration is told at once
    from pipeline.web.app import serve

    def again() -> Loaded:
        config, plan = own(*planned(files, sets))
        return loaded(plan, config)

    reloading = Reloading(loaded(plan, config), again, way.watch, asked)
    named = str(way.worker or "")
    try:
        serving = partial(run_service, plan, way.once, serve, None, reloading, named, way.leaves, _acting)
        code = anyio.run(serving)
    except ConfigError as error:
        complain(error.problems)
        raise typer.Exit(CONFIG_PROBLEMS) from error
    except DagtelError as error:
        typer.echo(f"dagtel: {inert(str(error))}", err=True)
        raise typer.Exit(RUNTIME_FAILURE) from error
    raise typer.Exit(code)


def _supervise(files: Sequence[Path], sets: Sequence[str] | None, way: _Way, workers: int) -> None:
    if way.once:
        _refuse("--once and --workers: where workers hand one another work, nobody knows when all of it is done")
    signal.signal(signal.SIGHUP, lambda number, frame: None)  # until it is passed on: workers read the newest anyway
    _, plan = planned_or_exit(files, sets)
    if problems := against_several(plan, workers):
        complain(problems)
        raise typer.Exit(CONFIG_PROBLEMS)
    from pipeline.runtime.own_log import OwnLog
    from pipeline.runtime.workers import Supervisor

    command = [sys.executable, "-P", "-m", "pipeline.cli", "run"]
    command += [part for file in files for part in ("--config", str(file))]
    command += [part for set_ in sets or () for part in ("--set", set_)]
    command += [flag for flag, given in (("--watch", way.watch), ("--leave", way.leaves)) if given]
    with OwnLog(plan.service.telemetry.logs):
        code = anyio.run(Supervisor(command, workers).run)
    raise typer.Exit(code)


def _acting(desk: "Desk") -> "Mapping[str, Asgi]":
    """What is served of `service.api`; templates and signatures are imported by those who have an API."""
    from pipeline.web.acting import acting

    return acting(desk)


def _refuse(reason: str) -> None:
    typer.echo(f"dagtel: {reason}", err=True)
    raise typer.Exit(CONFIG_PROBLEMS)
