"""A page of sections, of which one can be written anew while the others stay."""

from collections.abc import Sequence
from pathlib import Path

Cell = str | int | float


def table(head: Sequence[str], rows: Sequence[Sequence[Cell]]) -> list[str]:
    """Lines of a table; figures get a comma a thousand, and one decimal if they are no whole numbers."""
    lines = [head, ["---"] * len(head), *([_shown(cell) for cell in row] for row in rows)]
    return [f"| {' | '.join(line)} |" for line in lines]


def _shown(cell: Cell) -> str:
    if isinstance(cell, str):
        return cell
    return f"{cell:,}" if isinstance(cell, int) else f"{cell:,.1f}"


def replaced(text: str, head: Sequence[str], order: Sequence[str], titles: dict[str, Sequence[str]]) -> str:
    """The page with `head` on top and the sections of `titles` (title → lines) instead of those of the same title.

    Sections stand in `order`; one that is in neither goes.
    """
    parts = text.split("\n## ")[1:]
    kept = {title: body.strip() for title, _, body in (part.partition("\n") for part in parts)}
    kept |= {title: "\n".join(lines).strip() for title, lines in titles.items()}
    sections = [f"## {title}\n\n{kept[title]}\n" for title in order if title in kept]
    return "\n".join(["\n".join(head).strip() + "\n", *sections])


def write(path: Path, head: Sequence[str], order: Sequence[str], titles: dict[str, Sequence[str]]) -> None:
    """The same with a file, which need not be there yet."""
    path.write_text(replaced(path.read_text() if path.exists() else "", head, order, titles))
