"""Which history is meant: that of a configuration's exporter `store`, or one named by itself."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, TypeAlias

import msgspec
import typer

from pipeline.cli.arguments import Sets
from pipeline.cli.output import complain, inert
from pipeline.cli.planning import CONFIG_PROBLEMS, RUNTIME_FAILURE, read
from pipeline.config.model import Config
from pipeline.errors import ConfigError, DagtelError
from pipeline.store.history import History, UnknownAlert, reading
from pipeline.store.place import Place

__all__ = ["Configs", "HistoryAt", "Sets", "opened", "place_of"]

Configs: TypeAlias = Annotated[
    list[Path] | None,
    typer.Option("--config", "-c", metavar="FILE", help="The daemon's configuration, which names the history."),
]
HistoryAt: TypeAlias = Annotated[
    str,
    typer.Option(
        "--history",
        metavar="FILE|URL",
        help="The history itself: its file, or postgresql://…/database?schema=dagtel_history.",
    ),
]


class _Other(msgspec.Struct):
    url: str
    schema: str = Place().schema


class _Block(msgspec.Struct):
    """What of the exporter's options says where the history is; the daemon checks the rest."""

    path: str = Place().path
    postgresql: _Other | None = None


@contextmanager
def opened(config: Sequence[Path] | None, sets: Sequence[str] | None, at: str) -> Iterator[History]:
    """The history that is named; ends the process with a message when it cannot be had, or has no such alert."""
    if bool(config) == bool(at):
        raise typer.BadParameter("name the daemon's configuration (--config FILE) or its history (--history FILE)")
    try:
        place = place_of(read(config, sets)) if config else _named(at)
        with reading(place) as history:
            yield history
    except ConfigError as error:
        complain(error.problems)
        raise typer.Exit(CONFIG_PROBLEMS) from error
    except UnknownAlert as error:
        typer.echo(f"dagtel: {inert(str(error))}", err=True)
        for near in error.near:
            what = near.asset or near.job or near.kind
            typer.echo(f"  {inert(near.key)}  {near.status}  {inert(what)}", err=True)
        raise typer.Exit(RUNTIME_FAILURE) from error
    except DagtelError as error:
        typer.echo(f"dagtel: {inert(str(error))}", err=True)
        raise typer.Exit(RUNTIME_FAILURE) from error


def place_of(config: Config) -> Place:
    """Where the configuration's exporter `store` keeps the history. Raises ConfigError: it has none, or several."""
    found = {id: node for id, node in config.exporters.items() if id.partition("/")[0] == "store"}
    if len(found) != 1:
        why = f"has {len(found)} exporters `store`: name one of them" if found else "has no exporter `store`: add one"
        raise ConfigError(f"the configuration {why}, or name a history with --history (docs/history.md)")
    [(id, node)] = found.items()
    try:
        block = msgspec.convert(node.plain() or {}, _Block)
    except msgspec.ValidationError as error:
        raise ConfigError(f"exporters.{id}: {error}") from error
    other = block.postgresql
    return Place(block.path, other.url, other.schema) if other else Place(block.path)


def _named(at: str) -> Place:
    if not at.startswith(("postgresql://", "postgres://")):
        return Place(at)
    url, _, asked = at.partition("?schema=")
    return Place(url=url, schema=asked or Place().schema)
