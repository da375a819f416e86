"""`dagtel test`: alerting policies proven before they page anyone."""

import tempfile
from pathlib import Path
from typing import Annotated

import anyio
import typer

from pipeline.cli.output import complain, inert
from pipeline.cli.planning import CONFIG_PROBLEMS, RUNTIME_FAILURE
from pipeline.errors import ConfigError, DagtelError, Problem
from pipeline.scenario.reading import Ready, ready
from pipeline.scenario.verdict import Row, Verdict, clock
from pipeline.topology.registry import Registry

Tests = Annotated[
    list[Path], typer.Argument(metavar="FILE", help="Scenarios (`*.test.yaml`); see docs/testing-alerts.md.")
]
Only = Annotated[str, typer.Option("--only", "-k", metavar="TEXT", help="Only scenarios with this text in their name.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing of scenarios that pass.")]
Restarts = Annotated[
    bool, typer.Option("--restarts", help="Kill and start the pipelines between any two moments: it must not matter.")
]


def test(files: Tests, only: Only = "", quiet: Quiet = False, restarts: Restarts = False) -> None:
    """Play scenarios through a configuration, on a clock of their own, and compare what would be sent.

    Nothing is read, listened on or sent. Exits with 0 when all is as expected, 1 when not, 2 when a file is wrong.
    """
    chosen = [each for each in _ready(files) if only in each.scenario.name]
    if not chosen:
        complain([Problem("", f"no scenario has {only!r} in its name")])
        raise typer.Exit(CONFIG_PROBLEMS)
    failed = 0
    for each in chosen:
        result = _played(each, restarts)
        failed += not result.passed
        if not (quiet and result.passed):
            _print(result)
    typer.echo(f"{len(chosen) - failed} of {len(chosen)} scenarios are as expected")
    if failed:
        raise typer.Exit(RUNTIME_FAILURE)


def _ready(files: list[Path]) -> list[Ready]:
    registry = Registry.installed()
    found: list[Ready] = []
    problems: list[Problem] = []
    for file in files:
        try:
            found += ready(file, registry)
        except ConfigError as error:
            problems += error.problems
    if problems:
        complain(problems)
        raise typer.Exit(CONFIG_PROBLEMS)
    return found


def _played(each: Ready, restarts: bool) -> Verdict:
    from pipeline.scenario.playing import played  # here, so that a wrong file is told at once

    try:
        with tempfile.TemporaryDirectory(prefix="dagtel-test-") as folder:
            return anyio.run(played, each, Path(folder), restarts)
    except ConfigError as error:
        complain(error.problems)
        raise typer.Exit(CONFIG_PROBLEMS) from error
    except DagtelError as error:
        complain([Problem(each.scenario.name, str(error), each.file, each.line)])
        raise typer.Exit(CONFIG_PROBLEMS) from error


def _print(result: Verdict) -> None:
    each = result.ready
    mark = "ok  " if result.passed else "FAIL"
    typer.echo(inert(f"{mark} {each.scenario.name} ({each.file}:{each.line})"))
    for row in result.rows:
        _print_row(row)
    for problem in result.problems:
        typer.echo(inert(f"   ! {problem}"))
    if not result.rows:
        typer.echo("     nothing is told")


def _print_row(row: Row) -> None:
    typer.echo(inert(f"   {row.mark} {clock(row.at_ns):>9}  {row.text}"))
    for note in row.notes:
        typer.echo(inert(f"               {note}"))
