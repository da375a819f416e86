"""The options that commands share."""

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

ConfigFiles: TypeAlias = Annotated[
    list[Path],
    typer.Option("--config", "-c", metavar="FILE", help="A configuration; several are merged in order."),
]
Overrides: TypeAlias = Annotated[
    list[Path] | None,
    typer.Option("--config", "-c", metavar="FILE", help="A configuration to merge on top; may be given again."),
]
Sets: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--set", "-s", metavar="KEY=VALUE", help="Set one option on top, such as `service.clock=events`."),
]
Once: TypeAlias = Annotated[bool, typer.Option("--once", help="Read all input to its present end, then stop.")]
Watch: TypeAlias = Annotated[
    bool, typer.Option("--watch", help="Reload whenever a file of the configuration changes, as on SIGHUP.")
]
AsJson: TypeAlias = Annotated[bool, typer.Option("--json", help="Print a JSON array.")]
