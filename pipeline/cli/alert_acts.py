"""`dagtel alerts ack|resolve`: what people say of an alert; while a daemon runs or not."""

import getpass
import secrets
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, TypeAlias

import msgspec
import typer

from pipeline.alert_asks import AskError, alert_name, line, person
from pipeline.alert_commands import Acknowledge, Command, Resolve
from pipeline.cli.arguments import AsJson, Sets
from pipeline.cli.output import inert, print_json
from pipeline.cli.planning import RUNTIME_FAILURE
from pipeline.cli.stores import Configs, State, opened, when_done
from pipeline.store import acts, alert_view

By: TypeAlias = Annotated[str, typer.Option(metavar="NAME", help="Who says it; your login without it.")]
Why: TypeAlias = Annotated[str, typer.Option(metavar="TEXT", help="Why, for the others.")]
Alert: TypeAlias = Annotated[
    str, typer.Argument(metavar="ALERT", help="Its key (`v1:…#2`), its fingerprint, or the beginning of one.")
]


class Told(msgspec.Struct, frozen=True):
    """What `--json` prints: the command's id, what it is about, and whether a daemon runs (null: not known)."""

    id: str
    about: str
    daemon: bool | None


def ack(
    alert: Alert,
    config: Configs = None,
    set_: Sets = None,
    state: State = "",
    by: By = "",
    why: Why = "",
    json: AsJson = False,
) -> None:
    """Say that somebody is at it: nothing escalates and nothing is repeated; its end is still told."""
    name = _open(alert, config, set_, state)
    command = Acknowledge(new_id(), time.time_ns(), name, person(by or me()), line(why))
    ask(config, set_, state, command, f"{inert(name)} acknowledged by {command.by}", json, name)


def resolve(
    alert: Alert,
    config: Configs = None,
    set_: Sets = None,
    state: State = "",
    by: By = "",
    why: Why = "",
    json: AsJson = False,
) -> None:
    """Say that it is well, whatever the events say: it is told as resolved, its next failure as a new problem."""
    name = _open(alert, config, set_, state)
    command = Resolve(new_id(), time.time_ns(), name, person(by or me()), line(why))
    ask(config, set_, state, command, f"{inert(name)} resolved", json, name)


def add_to(app: typer.Typer) -> None:
    """The commands of this file and of `send_test`, in the group `alerts`."""
    from pipeline.cli.send_test import send_test  # it takes its options from here

    app.command()(ack)
    app.command()(resolve)
    app.command("send-test")(send_test)


def ask(
    config: Sequence[Path] | None,
    sets: Sequence[str] | None,
    state: str,
    command: Command,
    said: str,
    json: bool,
    about: str = "",
) -> None:
    """Append the command, and say what happens then."""
    with opened(config, sets, state) as store:
        acts.ask(store.engine, command)
    if json:
        print_json(Told(command.id, about, store.in_use))
    else:
        typer.echo(f"{said}; {when_done(store, 'it')}.")


def me() -> str:
    """Who is logged in, as far as anybody knows."""
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # a container's user may have no name
        return "somebody"


def new_id() -> str:
    """The id of a command."""
    return secrets.token_hex(5)


def _open(alert: str, config: Sequence[Path] | None, sets: Sequence[str] | None, state: str) -> str:
    """The open problem that is meant; ends the process where none or several are."""
    try:
        name = alert_name(alert)
    except AskError as error:
        raise typer.BadParameter(str(error)) from error
    with opened(config, sets, state) as store:
        found = alert_view.named(name, alert_view.open_alerts(store.engine))
    if len(found) == 1:
        number = name.partition("#")[1:]
        return found[0] + "".join(number)
    several = f"; it may be {', '.join(found[:5])}" if found else "; it may have been resolved"
    typer.echo(
        f"dagtel: {'several alerts begin with' if found else 'no open alert is'} {inert(name)}{several}", err=True
    )
    raise typer.Exit(RUNTIME_FAILURE)
