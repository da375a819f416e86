"""Printing: results to stdout, all else to stderr, hostile text inert."""

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import msgspec
import typer

from pipeline.errors import Problem

if TYPE_CHECKING:
    from rich.console import Console


@contextmanager
def paper() -> "Iterator[Console]":
    """For tables and lists on stdout: as wide as the terminal, 80 columns in a pipe; NO_COLOR is kept.

    Markup is off: texts come from plugins and configurations. Lines end without blanks.
    """
    from rich.console import Console  # 30 ms that a daemon's start need not take

    console = Console(file=sys.stdout, markup=False, highlight=False, emoji=False)
    with console.capture() as captured:
        yield console
    sys.stdout.write("".join(f"{line.rstrip()}\n" for line in captured.get().splitlines()))


def inert(text: str) -> str:
    """The text in one line, with everything that a terminal would act on written as an escape."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def complain(problems: Iterable[Problem], warning: bool = False) -> None:
    """One line a problem: `file:line: path: message`."""
    for problem in problems:
        if warning:
            problem = Problem(problem.path, f"warning: {problem.message}", problem.file, problem.line)
        typer.echo(inert(str(problem)), err=True)


def print_json(value: object) -> None:
    """Indented JSON."""
    typer.echo(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())
