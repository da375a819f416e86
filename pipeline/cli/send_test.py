"""`dagtel alerts send-test`: a test alert through a configuration's notifiers, and what each of them says to it."""

import secrets
import tempfile
from functools import partial
from pathlib import Path
from typing import Annotated

import anyio
import typer

from pipeline.alert_asks import person
from pipeline.cli.alert_acts import By, me
from pipeline.cli.arguments import AsJson, ConfigFiles, Sets
from pipeline.cli.output import complain, inert, print_json
from pipeline.cli.planning import CONFIG_PROBLEMS, RUNTIME_FAILURE, plan_or_exit
from pipeline.clock import SystemClock
from pipeline.errors import ConfigError, DagtelError
from pipeline.scenario.fire import Fired, Wish, fire
from pipeline.signals import Severity


def send_test(
    config: ConfigFiles,
    set_: Sets = None,
    severity: Annotated[Severity, typer.Option(help="Routes say who is told of it.")] = "WARNING",
    to: Annotated[
        list[str] | None,
        typer.Option("--to", metavar="NAME", help="This notifier, whatever the routes say: `slack`, `slack/data`."),
    ] = None,
    kind: Annotated[str, typer.Option(help="The kind of alert, for routes that ask.")] = "asset_failure",
    asset: Annotated[str, typer.Option(help="The asset, for routes that ask.")] = "",
    owner: Annotated[list[str] | None, typer.Option(help="An owner of the asset, for routes that ask.")] = None,
    end: Annotated[
        bool, typer.Option("--end/--no-end", help="Also send its end, so that no incident stays open.")
    ] = True,
    by: By = "",
    json: AsJson = False,
) -> None:
    """Send a test alert, marked TEST, through the notifiers that the routes name, and say what each answered.

    Works beside a running daemon, which has no part in it. Exits with 1 when one did not take it, or nobody is told.
    """
    plan = plan_or_exit(config, set_)
    wish = Wish(severity, tuple(to or ()), kind, asset, tuple(owner or ()), person(by or me()), end)
    try:
        with tempfile.TemporaryDirectory(prefix="dagtel-test-") as folder:
            rows = anyio.run(partial(fire, plan, wish, secrets.token_hex(5), SystemClock(), Path(folder)))
    except ConfigError as error:
        complain(error.problems)
        raise typer.Exit(CONFIG_PROBLEMS) from error
    except DagtelError as error:
        typer.echo(f"dagtel: {inert(str(error))}", err=True)
        raise typer.Exit(RUNTIME_FAILURE) from error
    if json:
        print_json(rows)
    else:
        for row in rows:
            typer.echo(_line(row))
    if not any(row.outcome == "sent" for row in rows) or any(_is_bad(row, wish) for row in rows):
        raise typer.Exit(RUNTIME_FAILURE)


def _is_bad(row: Fired, wish: Wish) -> bool:
    """A notifier that is off is as it was configured, unless it was named."""
    return row.outcome in ("refused", "no answer", "failed") or (row.outcome == "off" and bool(wish.to))


def _line(row: Fired) -> str:
    messages = f"{row.messages} message{'' if row.messages == 1 else 's'}" if row.messages else ""
    took = f"in {row.seconds:.1f} s" if row.messages else ""
    facts = " ".join(part for part in (messages, took) if part)
    detail = ": ".join(part for part in (facts, row.detail) if part)
    return inert(f"{row.notifier}: {row.outcome}" + (f" ({detail})" if detail else ""))
