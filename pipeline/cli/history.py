"""`dagtel replay`: what history would have led to with another configuration."""

import tempfile
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Annotated

import anyio
import msgspec
import typer

from pipeline.cli.arguments import ConfigFiles, Sets
from pipeline.cli.output import complain, inert
from pipeline.cli.planning import CONFIG_PROBLEMS, RUNTIME_FAILURE, plan_or_exit
from pipeline.cli.times import moment, moment_ns
from pipeline.clock import SystemClock
from pipeline.components import ReceiverSpec
from pipeline.errors import ConfigError, DagtelError
from pipeline.options import Duration
from pipeline.scenario.history import Change, compared, history, ranged
from pipeline.scenario.machine import Moment, Played, play
from pipeline.topology.plan import Plan

COMMIT_EVERY = 1000
"""Moments of history from one checkpoint to the next."""

From = Annotated[
    str,
    typer.Option(
        "--from",
        metavar="FILE|RECEIVER",
        help="Entries of Dagster's event log, one a line; or a kafka receiver of --config, whose topics are read.",
    ),
]
Since = Annotated[
    str | None,
    typer.Option(
        "--since", metavar="TIME", help="Of a topic: from here on, `7d` ago or a date. Else from its beginning."
    ),
]
Until = Annotated[
    str | None,
    typer.Option("--until", metavar="TIME", help="Of a topic: to before this time. Else to its present end."),
]
Against = Annotated[
    list[Path] | None,
    typer.Option("--against", metavar="FILE", help="The configuration to compare with; several are merged in order."),
]
Beyond = Annotated[
    str, typer.Option("--beyond", metavar="DURATION", help="How long time goes on after the last entry, such as `24h`.")
]


class Range(msgspec.Struct, frozen=True):
    """What to play: a file, or a receiver's topics from one time to before another (Unix ns). Then `beyond_ns`."""

    source: str
    since_ns: int
    until_ns: int
    beyond_ns: int


def replay(
    from_: From,
    config: ConfigFiles,
    set_: Sets = None,
    since: Since = None,
    until: Until = None,
    against: Against = None,
    beyond: Beyond = "0",
) -> None:
    """Run a recorded event log, or a range of a topic, through a configuration and show what would have been sent.

    Nothing is sent, and no position moves.

    With --against: what both send, what only that one does (`-`) and what only --config does (`+`). --set is for
    --config. Exits with 1 when the log cannot be read, 2 when a configuration is wrong.
    """
    new_plan = plan_or_exit(config, set_)
    old_plan = plan_or_exit(against, None) if against else None
    wanted = _range(from_, since, until, beyond, new_plan)
    new = _played(new_plan, new_plan, wanted, config)
    old = _played(old_plan, new_plan, wanted, against or ()) if old_plan is not None else None
    changes = compared(new.told, old.told if old is not None else None)
    for change in changes:
        typer.echo(inert(f"{change.mark} {moment(change.at_ns)}  {change.text}"))
    typer.echo(_summary(changes, compares=old is not None))


def _range(source: str, since: str | None, until: str | None, beyond: str, plan: Plan) -> Range:
    now_ns = SystemClock().wall_ns()  # of both configurations the same, however long the first takes
    try:
        beyond_ns = Duration(beyond).ns
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--beyond") from error
    if source not in plan.receivers and (since or until):
        raise typer.BadParameter(
            "goes with a receiver in --from; a file is read as a whole", param_hint="--since, --until"
        )
    return Range(source, moment_ns(since, now_ns), moment_ns(until, now_ns) or now_ns, beyond_ns)


def _moments(plan: Plan, wanted: Range) -> Iterable[Moment] | AsyncGenerator[Moment, None]:
    """What `wanted` names; a receiver is looked for in `plan`."""
    node = plan.receivers.get(wanted.source)
    if node is None:
        if not Path(wanted.source).exists() and (known := _with_history(plan)):
            raise typer.BadParameter(
                f"there is no file {wanted.source!r}, and no such receiver: there is {', '.join(known)}",
                param_hint="--from",
            )
        return history(Path(wanted.source), SystemClock().wall_ns(), wanted.beyond_ns)
    assert isinstance(node.spec, ReceiverSpec)
    if node.spec.history is None:
        raise typer.BadParameter(f"a receiver of type {node.spec.name} keeps no history", param_hint="--from")
    records = node.spec.history(node.options, wanted.since_ns, wanted.until_ns)
    what = f"{wanted.source} from {moment(wanted.since_ns)} to {moment(wanted.until_ns)}"
    return ranged(records, what, wanted.beyond_ns)


def _with_history(plan: Plan) -> list[str]:
    return [id for id, n in plan.receivers.items() if isinstance(n.spec, ReceiverSpec) and n.spec.history is not None]


def _played(plan: Plan, source: Plan, wanted: Range, config: Sequence[Path]) -> Played:
    async def played(folder: Path) -> Played:
        moments = _moments(source, wanted)
        if isinstance(moments, AsyncGenerator):
            async with aclosing(moments):
                return await play(plan, moments, folder, commit_every=COMMIT_EVERY)
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
