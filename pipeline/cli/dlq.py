"""`dagtel dlq`: look at the dead letters, have them replayed, throw them away; while a daemon runs or not."""

import sys
import time
from collections.abc import Iterator, Sequence
from typing import Annotated, TypeAlias

import msgspec
import typer
from rich.table import Table

from pipeline.cli.arguments import AsJson, Sets
from pipeline.cli.letter_text import lines_of, readable
from pipeline.cli.output import inert, paper, print_json
from pipeline.cli.planning import RUNTIME_FAILURE
from pipeline.cli.stores import Configs, State, opened, when_done
from pipeline.cli.times import moment, moment_ns
from pipeline.store import commands
from pipeline.store.beside import Beside
from pipeline.store.commands import Asked, Choice, Summary
from pipeline.store.records import DeadLetter

Ids: TypeAlias = Annotated[list[int] | None, typer.Argument(metavar="[ID]…", help="Only these.")]
Component: TypeAlias = Annotated[str, typer.Option(help="Only of this component: `exporters.loki` or `loki`.")]
Reason: TypeAlias = Annotated[str, typer.Option(help="Only where the reason has this in it, in any case.")]
Since: TypeAlias = Annotated[str, typer.Option(metavar="TIME", help="Only from then on: `2h` ago, or a date and time.")]
Until: TypeAlias = Annotated[str, typer.Option(metavar="TIME", help="Only before then.")]
All: TypeAlias = Annotated[bool, typer.Option("--all", help="All of them.")]

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Dead letters: input that could not be decoded, items on which a component raised, refused payloads.",
)


class Listed(msgspec.Struct, frozen=True):
    """A dead letter in `list --json`. The id is text: it is larger than what JSON readers take for exact."""

    id: str
    time: str
    component: str
    reason: str
    origin: str
    kind: str
    size: int
    replay_asked: bool


class Shown(Listed, frozen=True):
    """A dead letter in `show --json`; `body` is None where it is no text."""

    detail: str
    body: str | None


@app.command("list")
def list_(
    config: Configs = None,
    set_: Sets = None,
    state: State = "",
    component: Component = "",
    reason: Reason = "",
    since: Since = "",
    until: Until = "",
    limit: Annotated[int, typer.Option(min=1, help="The newest so many.")] = 50,
    json: AsJson = False,
) -> None:
    """List dead letters, the newest first."""
    choice = _choice((), component, reason, since, until)
    with opened(config, set_, state) as store:
        found = commands.listed(store.engine, choice, limit)
        count = commands.count(store.engine, choice)
    if json:
        print_json([_listed(one) for one in found])
        return
    if not found:
        typer.echo("There are no dead letters." if not choice else "No dead letter is like that.")
        return
    _print_table(found)
    if count > len(found):
        typer.echo(f"{count - len(found)} older ones are not shown (--limit).")


@app.command()
def show(
    id: Annotated[int, typer.Argument(metavar="ID")],
    config: Configs = None,
    set_: Sets = None,
    state: State = "",
    json: AsJson = False,
    raw: Annotated[bool, typer.Option("--raw", help="Write the stored bytes, and nothing else.")] = False,
) -> None:
    """Show one dead letter: why, where from, when, its traceback, its body."""
    with opened(config, set_, state) as store:
        found = commands.one(store.engine, id)
    if found is None:
        typer.echo(f"dagtel: there is no dead letter {id}; it may have been replayed or dropped", err=True)
        raise typer.Exit(RUNTIME_FAILURE)
    letter, asked = found
    if raw:
        sys.stdout.buffer.write(letter.body)
    elif json:
        print_json(_shown(letter, asked))
    else:
        typer.echo("\n".join(lines_of(letter, asked)))


@app.command()
def replay(
    ids: Ids = None,
    config: Configs = None,
    set_: Sets = None,
    state: State = "",
    component: Component = "",
    reason: Reason = "",
    since: Since = "",
    until: Until = "",
    all_: All = False,
    partly: Annotated[
        bool, typer.Option("--partly", help="Also payloads of which a part was delivered: that part goes out twice.")
    ] = False,
    json: AsJson = False,
) -> None:
    """Have dead letters replayed: by id, or all that are like this.

    The daemon does it, each once: a running one within seconds, else the next that starts.
    """
    choice = _choice(ids or (), component, reason, since, until)
    _insist(choice, all_, "replay")
    with opened(config, set_, state) as store:
        asked = commands.ask_for_replay(store.engine, choice, partly)
    if json:
        print_json({**msgspec.structs.asdict(asked), "daemon": store.in_use})
        return
    for line in _told(asked, store):
        typer.echo(line)


@app.command()
def drop(
    ids: Ids = None,
    config: Configs = None,
    set_: Sets = None,
    state: State = "",
    component: Component = "",
    reason: Reason = "",
    since: Since = "",
    until: Until = "",
    all_: All = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    json: AsJson = False,
) -> None:
    """Throw dead letters away: by id, or all that are like this. Those that are to be replayed stay."""
    choice = _choice(ids or (), component, reason, since, until)
    _insist(choice, all_, "drop")
    with opened(config, set_, state) as store:
        count = commands.count(store.engine, choice)
        if count and not yes:
            typer.confirm(f"Throw {_letters(count)} away?", abort=True, err=True)
        gone, staying = commands.drop(store.engine, choice)
    if json:
        print_json({"dropped": gone, "to_be_replayed": staying})
        return
    typer.echo(f"{_letters(gone)} dropped.")
    if staying:
        typer.echo(f"{_letters(staying)} kept: their replay has been asked for.")


# --- what is meant ---------------------------------------------------------------------------------------------------


def _choice(ids: Sequence[int], component: str, reason: str, since: str, until: str) -> Choice:
    now = time.time_ns()
    return Choice(tuple(ids), component, reason, moment_ns(since, now), moment_ns(until, now))


def _insist(choice: Choice, all_: bool, what: str) -> None:
    if not choice and not all_:
        raise typer.BadParameter(f"say what to {what}: ids, --component, --reason, --since, --until, or --all")
    if choice and all_:
        raise typer.BadParameter("--all stands alone")


# --- what is printed -------------------------------------------------------------------------------------------------


def _print_table(found: Sequence[Summary]) -> None:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("ID", no_wrap=True, min_width=max(len(str(one.id)) for one in found))
    table.add_column("TIME (UTC)", no_wrap=True, min_width=11)
    table.add_column("COMPONENT", no_wrap=True, overflow="ellipsis", max_width=18)
    table.add_column("SIZE", no_wrap=True, justify="right", min_width=6)
    table.add_column("REASON", no_wrap=True, overflow="ellipsis", ratio=1)
    for one in found:
        reason = f"(to be replayed) {one.reason}" if one.asked else one.reason
        table.add_row(
            str(one.id), moment(one.at_ns, "%m-%d %H:%M"), inert(one.component), _size(one.size), inert(reason)
        )
    with paper() as console:
        console.print(table)


def _size(count: int) -> str:
    size = float(count)
    for unit in ("B", "KiB", "MiB"):
        if size < 1000:
            return f"{size:.0f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"


def _told(asked: Asked, store: Beside) -> Iterator[str]:
    if asked.asked:
        yield f"{_letters(asked.asked)} to be replayed; {when_done(store, 'them')}."
    elif not (asked.already or asked.cannot or asked.partly):
        yield "No dead letter is like that."
    if asked.already:
        yield f"{_letters(asked.already)} had been asked for already."
    if asked.cannot:
        yield f"{_letters(asked.cannot)} cannot be replayed; `dagtel dlq show` says why."
    if asked.partly:
        yield f"{_letters(asked.partly)} left out: the backend took a part. --partly sends all of it again."


def _letters(count: int) -> str:
    return f"{count} dead letter{'' if count == 1 else 's'}"


def _listed(one: Summary) -> Listed:
    return Listed(str(one.id), moment(one.at_ns), one.component, one.reason, one.origin, one.kind, one.size, one.asked)


def _shown(letter: DeadLetter, asked: bool) -> Shown:
    return Shown(
        id=str(letter.id),
        time=moment(letter.at_ns),
        component=letter.component,
        reason=letter.reason,
        origin=letter.origin,
        kind=letter.kind,
        size=len(letter.body) + len(letter.again),
        replay_asked=asked,
        detail=letter.detail,
        body=readable(letter),
    )
