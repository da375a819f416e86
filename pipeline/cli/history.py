"""`dagtel replay`: what history would have led to with another configuration."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import anyio
import typer

from pipeline.cli.arguments import ConfigFiles, Sets
from pipeline.cli.output import complain, inert
from pipeline.cli.planning import CONFIG_PROBLEMS, RUNTIME_FAILURE, plan_or_exit
from pipeline.cli.times import moment
from pipeline.clock import SystemClock
from pipeline.errors import ConfigError, DagtelError
from pipeline.options import Duration
from pipeline.scenario.history import Change, compared, history
from pipeline.scenario.machine import Played, play
from pipeline.topology.plan import Plan

COMMIT_EVERY = 1000
"""Moments of history from one checkpoint to the next."""

From = Annotated[Path, typer.Option("--from", metavar="FILE", help="Entries of Dagster's event log, one a line.")]
Against = Annotated[
    list[Path] | None,
    typer.Option("--against", metavar="FILE", help="The configuration to compare with; several are merged in order."),
]
Beyond = Annotated[
    str, typer.Option("--beyond", metavar="DURATION", help="How long time goes on after the last entry, such as `24h`.")
]


def replay(from_: From, config: ConfigFiles, set_: Sets = None, against: Against = None, beyond: Beyond = "0") -> None:
    """Run a recorded event log through a configuration and show what would have been sent. Nothing is.

    With --against: what both send, what only that one does (`-`) and what only --config does (`+`). --set is for
    --config. Exits with 1 when the log cannot be read, 2 when a configuration is wrong.
    """
    new_plan = plan_or_exit(config, set_)
    old_plan = plan_or_exit(against, None) if against else None
    try:
        beyond_ns = Duration(beyond).ns
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--beyond") from error
    new = _played(new_plan, from_, beyond_ns, config)
    old = _played(old_plan, from_, beyond_ns, against or ()) if old_plan is not None else None
    changes = compared(new.told, old.told if old is not None else None)
    for change in changes:
        typer.echo(inert(f"{change.mark} {moment(change.at_ns)}  {change.text}"))
    typer.echo(_summary(changes, compares=old is not None))


def _played(plan: Plan, file: Path, beyond_ns: int, config: Sequence[Path]) -> Played:
    async def played(folder: Path) -> Played:
        moments = history(file, SystemClock().wall_ns(), beyond_ns)
        return await play(plan, moments, folder, commit_every=COMMIT_EVERY)

    try:
        with tempfile.TemporaryDirectory(prefix="dagtel-replay-") as folder:
            done = anyio.run(played, Path(folder))
    except ConfigError as error:
        complain(error.problems)
        raise typer.Exit(CONFIG_PROBLEMS) from error
    except DagtelError as error:
        typer.echo(inert(f"dagtel: {error}"), err=True)
        raise typer.Exit(RUNTIME_FAILURE) from error
    name = ", ".join(map(str, config))
    if done.dead:
        typer.echo(inert(f"{name}: {len(done.dead)} dead letters, the first: {done.dead[0]}"), err=True)
    for missing in done.missing:
        typer.echo(inert(f"{name}: not there in a replay: {missing}"), err=True)
    return done


def _summary(changes: Sequence[Change], compares: bool) -> str:
    if not compares:
        return f"{len(changes)} notifications"
    both, old, new = (sum(change.mark == mark for change in changes) for mark in " -+")
    return f"{both + new} notifications instead of {both + old}: {both} alike, {old} no more, {new} new"
