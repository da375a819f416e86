"""`dagtel silence`: say nothing of some alerts for a while; while a daemon runs or not."""

import time
from typing import Annotated, TypeAlias

import msgspec
import typer
from rich.table import Table

from pipeline.alert_asks import AskError, equal_to, silence
from pipeline.alert_commands import Expire
from pipeline.cli.alert_acts import By, Why, ask, me, new_id
from pipeline.cli.arguments import AsJson, Sets
from pipeline.cli.output import inert, paper, print_json
from pipeline.cli.planning import RUNTIME_FAILURE
from pipeline.cli.stores import Configs, State, opened
from pipeline.cli.times import moment
from pipeline.moments import until_ns
from pipeline.store import alert_view
from pipeline.store.alert_view import Standing

Equal: TypeAlias = Annotated[str, typer.Option(help="Alerts of exactly this; several must all be so.")]

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Silences: what matches is counted and not told; what still fails at the end is told.",
)


class Listed(msgspec.Struct, frozen=True):
    """A silence in `list --json`. `in_force`: the daemon has taken it up."""

    id: str
    when: str
    since: str
    until: str
    by: str
    why: str
    in_force: bool


@app.command()
def add(
    config: Configs = None,
    set_: Sets = None,
    state: State = "",
    when: Annotated[str, typer.Option(help='A condition over alerts: `asset.startsWith("raw/")`.')] = "",
    asset: Equal = "",
    job: Equal = "",
    step_key: Equal = "",
    check: Equal = "",
    kind: Equal = "",
    fingerprint: Equal = "",
    for_: Annotated[str, typer.Option("--for", metavar="TIME", help="For so long: `1h`, `2 days`.")] = "",
    until: Annotated[
        str, typer.Option(metavar="TIME", help="Until then: `2026-11-23T18:00`, UTC without a zone.")
    ] = "",
    by: By = "",
    why: Why = "",
    json: AsJson = False,
) -> None:
    """Silence alerts: those that a condition is true of, or that are of an asset, a job, a check …"""
    now = time.time_ns()
    try:
        equal = equal_to(asset=asset, job=job, step_key=step_key, check=check, kind=kind, fingerprint=fingerprint)
        if when and equal:
            raise AskError("say either --when or what the alerts are of")
        end = until_ns(for_, until, now)
        command = silence(new_id(), now, when or equal, end, by or me(), why)
    except AskError as error:
        raise typer.BadParameter(str(error)) from error
    ask(config, set_, state, command, f"Silenced until {moment(end)} as {command.id}: {inert(command.when)}", json)


@app.command("list")
def list_(config: Configs = None, set_: Sets = None, state: State = "", json: AsJson = False) -> None:
    """List the silences that have not ended, the one that ends first first."""
    with opened(config, set_, state) as store:
        found = alert_view.silences(store.engine, time.time_ns() if store.by_wall else 0)
    if json:
        print_json([_listed(one) for one in found])
    elif not found:
        typer.echo("Nothing is silenced.")
    else:
        _print_table(found)


@app.command()
def expire(
    id: Annotated[str, typer.Argument(metavar="ID", help="As `list` shows it.")],
    config: Configs = None,
    set_: Sets = None,
    state: State = "",
    by: By = "",
    json: AsJson = False,
) -> None:
    """End a silence now: what still fails is told."""
    with opened(config, set_, state) as store:
        known = {one.silence.id for one in alert_view.silences(store.engine, 0)}
    if id not in known:
        typer.echo(f"dagtel: there is no silence {inert(id)}; it may have ended", err=True)
        raise typer.Exit(RUNTIME_FAILURE)
    command = Expire(new_id(), time.time_ns(), id, by or me())
    ask(config, set_, state, command, f"Silence {inert(id)} ends", json)


def _listed(one: Standing) -> Listed:
    silence = one.silence
    return Listed(
        silence.id,
        silence.when,
        moment(silence.now_ns),
        moment(silence.until_ns),
        silence.by,
        silence.why,
        one.in_force,
    )


def _print_table(found: list[Standing]) -> None:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("ID", no_wrap=True, min_width=max(len(one.silence.id) for one in found))
    table.add_column("UNTIL (UTC)", no_wrap=True, min_width=11)
    table.add_column("BY", no_wrap=True, overflow="ellipsis", max_width=14)
    table.add_column("WHAT", overflow="fold", ratio=1)
    for one in found:
        silence = one.silence
        what = silence.when if one.in_force else f"(not taken up yet) {silence.when}"
        why = f": {silence.why}" if silence.why else ""
        table.add_row(
            inert(silence.id), moment(silence.until_ns, "%m-%d %H:%M"), inert(silence.by), inert(f"{what}{why}")
        )
    with paper() as console:
        console.print(table)
