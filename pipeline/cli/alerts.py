"""`dagtel alerts`: what fails and what failed, what was decided of it and why, who was told and what came of that."""

import time
from typing import Annotated, TypeAlias, cast

import msgspec
import typer

from pipeline.cli.alert_acts import add_to
from pipeline.cli.alert_history import Configs, HistoryAt, Sets, opened
from pipeline.cli.alert_text import explanation, print_alerts, story_lines
from pipeline.cli.arguments import AsJson
from pipeline.cli.output import print_json
from pipeline.cli.times import moment_ns
from pipeline.signals import Severity
from pipeline.store.history import Wanted
from pipeline.store.history_json import listed, shown

AlertId: TypeAlias = Annotated[
    str, typer.Argument(metavar="ID", help="A key (`v1:…#2`), a fingerprint, or the beginning of one.")
]
AsLines: TypeAlias = Annotated[bool, typer.Option("--jsonl", help="Print a JSON object a line.")]
_SEVERITIES = ("INFO", "WARNING", "ERROR", "CRITICAL")

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Alerts: what fails and what failed, why who was told, and what came of it.",
)


@app.command("list")
def list_(
    config: Configs = None,
    set_: Sets = None,
    history: HistoryAt = "",
    open_: Annotated[bool, typer.Option("--open", help="Only those that are not resolved.")] = False,
    severity: Annotated[str, typer.Option(metavar="SEVERITY", help="Only from this severity up: `ERROR`.")] = "",
    asset: Annotated[str, typer.Option(metavar="NAME", help="Only of this asset; `raw/*` of all that begin so.")] = "",
    since: Annotated[
        str, typer.Option(metavar="TIME", help="Only what failed or was resolved since: `2h` ago, or a date and time.")
    ] = "",
    limit: Annotated[int, typer.Option(min=1, help="The latest so many.")] = 50,
    json: AsJson = False,
    jsonl: AsLines = False,
) -> None:
    """List alerts, the open ones first, then the latest."""
    wanted = Wanted(
        open=True if open_ else None,
        severity=_severity(severity),
        asset=asset,
        since_ns=moment_ns(since, time.time_ns()),
        limit=limit,
    )
    with opened(config, set_, history) as store:
        found, count = store.alerts(wanted), store.count(wanted)
    if jsonl:
        for row in found:
            typer.echo(msgspec.json.encode(listed(row)).decode())
    elif json:
        print_json([listed(row) for row in found])
    elif not found:
        asked = open_ or severity or asset or since
        typer.echo("No alert is like that." if asked else "There are no alerts.")
    else:
        print_alerts(found)
        if count > len(found):
            typer.echo(f"{count - len(found)} more are not shown (--limit).")


@app.command()
def show(
    id: AlertId,
    config: Configs = None,
    set_: Sets = None,
    history: HistoryAt = "",
    occurrences: Annotated[int, typer.Option(min=0, help="The latest so many failures.")] = 10,
    json: AsJson = False,
) -> None:
    """Show one alert: its life, its failures, who was told of it and what became of that."""
    with opened(config, set_, history) as store:
        story = store.story(store.find(id), 1_000_000 if json else occurrences)
    if json:
        print_json(shown(story))
    else:
        typer.echo("\n".join(story_lines(story)))


@app.command()
def explain(
    id: AlertId,
    config: Configs = None,
    set_: Sets = None,
    history: HistoryAt = "",
    json: AsJson = False,
) -> None:
    """Explain one alert: what makes it the same problem, each decision and its reason, why who was told."""
    with opened(config, set_, history) as store:
        story = store.story(store.find(id), 1_000_000 if json else 1)
    if json:
        print_json(shown(story))
    else:
        typer.echo("\n".join(explanation(story)))


add_to(app)


def _severity(text: str) -> Severity | None:
    if not text:
        return None
    if text.upper() not in _SEVERITIES:
        raise typer.BadParameter(f"{text!r} is no severity; there are {', '.join(_SEVERITIES)}")
    return cast("Severity", text.upper())
