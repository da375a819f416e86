"""`dagtel components`: what is installed, and the options of one."""

from collections.abc import Iterator
from typing import Annotated

import msgspec
import typer
from rich.console import Console, RenderableType
from rich.padding import Padding, PaddingDimensions
from rich.table import Table
from rich.text import Text

from pipeline.cli.arguments import AsJson
from pipeline.cli.describe import Component, Option, component
from pipeline.cli.output import inert, paper, print_json
from pipeline.config.near import either, nearest
from pipeline.topology.registry import KINDS, Kind, NoComponent, Registry, singular

_UNKNOWN = 2

Name = Annotated[
    str, typer.Argument(metavar="[KIND/]NAME", help="Show one with its options: `kafka`, `exporters/kafka`.")
]


class Listed(msgspec.Struct, frozen=True, omit_defaults=True):
    """A line of the list; `broken` says why a plugin cannot be used."""

    kind: Kind
    name: str
    summary: str = ""
    signals: str = ""
    broken: str = ""


def components(name: Name = "", json: AsJson = False) -> None:
    """List the components that are installed, or the options of one.

    Exits with 2 when there is no such component.
    """
    registry = Registry.installed()
    if not name:
        listed = list(_listed(registry))
        if json:
            print_json(listed)
        else:
            _print_list(listed)
        return
    found = _find(registry, name)
    if json:
        print_json(found)
        return
    with paper() as out:
        for each in found:
            _print_one(each, out)


def _listed(registry: Registry) -> Iterator[Listed]:
    for kind in KINDS:
        for name in registry.names(kind):
            try:
                one = component(name, registry.spec(kind, name))
                yield Listed(kind, name, one.summary, one.signals)
            except NoComponent as error:
                yield Listed(kind, name, broken=str(error))


def _find(registry: Registry, name: str) -> list[Component]:
    """All components of the name, in one kind or in any; prints why and exits when there is none that works."""
    kind, slash, rest = name.rpartition("/")
    kinds = [known for known in KINDS if not slash or kind in (known, singular(known))]
    here = [known for known in kinds if rest in registry.names(known)]
    if not here:
        close = nearest(rest, (known for kind in kinds or KINDS for known in registry.names(kind)))
        typer.echo(
            inert(f"there is no component `{name}`{f'; did you mean {either(close)}?' if close else ''}"), err=True
        )
        raise typer.Exit(_UNKNOWN)
    try:
        return [component(rest, registry.spec(known, rest)) for known in here]
    except NoComponent as error:
        typer.echo(inert(str(error)), err=True)
        raise typer.Exit(_UNKNOWN) from error


def _padded(what: RenderableType, pad: PaddingDimensions) -> Padding:
    return Padding(what, pad, expand=False)


def _print_list(listed: list[Listed]) -> None:
    with paper() as out:
        for kind in KINDS:
            of_kind = [one for one in listed if one.kind == kind]
            if of_kind:
                out.print(Text(kind, style="bold"))
                out.print(_padded(_grid(of_kind), (0, 0, 1, 2)))


def _grid(listed: list[Listed]) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(min_width=16)
    table.add_column()
    for one in listed:
        said = Text(inert(one.broken), style="red") if one.broken else Text(inert(one.summary))
        table.add_row(Text(inert(one.name), style="cyan"), said)
    return table


def _print_one(one: Component, out: Console) -> None:
    heading = Text.assemble((f"{one.kind}/{inert(one.name)}", "bold"), f"  {one.signals}")
    out.print(heading)
    for paragraph in one.doc.split("\n\n"):
        out.print(_padded(Text(inert(" ".join(paragraph.split()))), (1, 0, 0, 2)))
    if one.needs:
        out.print(_padded(Text(f"Needs before it: {', '.join(one.needs)}."), (1, 0, 0, 2)))
    _print_options("Options", one.options, out)
    _print_options("Delivery, as every exporter", one.delivery, out)
    out.print()


def _print_options(title: str, options: tuple[Option, ...], out: Console) -> None:
    if not options:
        return
    out.print(_padded(Text(title, style="bold"), (1, 0, 0, 2)))
    for option in options:
        default = "required" if option.required else f"default {option.default}"
        line = Text.assemble((inert(option.name), "cyan"), f"  {inert(option.type)}", (f"; {inert(default)}", "dim"))
        out.print(_padded(line, (0, 0, 0, 4)))
        if option.doc:
            out.print(_padded(Text(inert(option.doc)), (0, 0, 0, 8)))
