"""The state store that a command is about: named by the daemon's configuration, or itself."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from pipeline.cli.output import complain, inert
from pipeline.cli.planning import CONFIG_PROBLEMS, RUNTIME_FAILURE, read
from pipeline.errors import ConfigError, DagtelError
from pipeline.store.beside import Beside, open_beside

Configs: TypeAlias = Annotated[
    list[Path] | None,
    typer.Option("--config", "-c", metavar="FILE", help="The daemon's configuration, which names its state store."),
]
State: TypeAlias = Annotated[
    str, typer.Option("--state", metavar="FILE", help="The state store itself, instead of a configuration.")
]


@contextmanager
def opened(config: Sequence[Path] | None, sets: Sequence[str] | None, state: str) -> Iterator[Beside]:
    """The store that is named; ends the process with a message when it cannot be had."""
    if bool(config) == bool(state):
        raise typer.BadParameter("name the daemon's configuration (--config FILE) or its state store (--state FILE)")
    try:
        url = schema = ""
        by_wall = True
        if config:
            service = read(config, sets).service
            named, by_wall = service.state, service.clock == "system"
            state = named.path
            if named.postgresql is not None:
                url, schema = named.postgresql.url.reveal(), named.postgresql.schema
        with open_beside(state, url, schema) as store:
            store.by_wall = by_wall
            yield store
    except ConfigError as error:
        complain(error.problems)
        raise typer.Exit(CONFIG_PROBLEMS) from error
    except DagtelError as error:
        typer.echo(f"dagtel: {inert(str(error))}", err=True)
        raise typer.Exit(RUNTIME_FAILURE) from error


def when_done(store: Beside, what: str) -> str:
    """When what was asked for is done: `what` is "it" or "them"."""
    return {
        True: f"a daemon runs on this store and takes {what} up within seconds",
        False: f"no daemon runs on {inert(store.name)}: the next start takes {what} up",
        None: f"a running daemon takes {what} up within seconds, else the next that starts",
    }[store.in_use]
