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
Workers: TypeAlias = Annotated[
    int,
    typer.Option(
        "--workers",
        min=1,
        metavar="N",
        help="Share the work among so many processes of this machine (docs/cluster.md).",
    ),
]
Worker: TypeAlias = Annotated[int, typer.Option("--worker", hidden=True)]
Leave: TypeAlias = Annotated[
    bool,
    typer.Option("--leave", help="At its stop, leave the group: others take over at once, and a restart takes longer."),
]
AsJson: TypeAlias = Annotated[bool, typer.Option("--json", help="Print a JSON array.")]
