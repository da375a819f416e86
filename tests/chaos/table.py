"""What the chaos suite found: a row a fault, and the table of them in the documentation."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

import msgspec

KEPT = Path(__file__).with_name("rows.jsonl")
"""The rows of the table in the documentation, each as its last long run in which all went well has it."""
ROWS = "DAGTEL_CHAOS_ROWS"
"""Names the file that rows are gathered in, one JSON object a line; without it they are only printed."""
BEGIN, END = "<!-- chaos: begin -->", "<!-- chaos: end -->"
HEAD = ("fault", "times", "events", "lost", "doubled", "recovery", "also seen")


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One fault: how often it happened, among how many events, and what came of it.

    `order` is its place in the table, and what a later run finds it by: no two faults share one. `lost` and `doubled`
    count what a user would see wrong. `recovery` is from the end of the fault (or the restart) to the first thing done
    again.
    """

    order: float
    fault: str
    times: int
    events: int
    lost: int
    doubled: int
    recovery: str
    seen: str = ""


def record(row: Row) -> None:
    """Keep a row for the table."""
    print(row)
    if name := os.environ.get(ROWS):
        with Path(name).open("ab") as file:
            file.write(msgspec.json.encode(row) + b"\n")


def gathered(path: Path) -> list[Row]:
    """The rows of one run of the suite, in the table's order."""
    lines = path.read_bytes().splitlines() if path.exists() else []
    return sorted((msgspec.json.decode(line, type=Row) for line in lines), key=lambda row: row.order)


def renewed(old: Sequence[Row], new: Sequence[Row]) -> list[Row]:
    """The old rows with the new ones in their places, in the table's order: a run of a part renews its own."""
    by_order = {row.order: row for row in (*old, *new)}
    return [by_order[order] for order in sorted(by_order)]


def keep(rows: Sequence[Row]) -> None:
    """Write the rows of the table."""
    KEPT.write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in rows))


def markdown(rows: Sequence[Row]) -> str:
    """The table."""
    lines = [f"| {' | '.join(HEAD)} |", "| --- | ---: | ---: | ---: | ---: | --- | --- |"]
    for row in rows:
        cells = (row.fault, row.times, f"{row.events:,}", row.lost, row.doubled, row.recovery, row.seen)
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def written_into(page: str, table: str) -> str:
    """The page with the table between its marks. Raises ValueError where it has none."""
    found = re.compile(f"{re.escape(BEGIN)}.*?{re.escape(END)}", re.DOTALL)
    if not found.search(page):
        raise ValueError(f"the page has no {BEGIN} and {END}")
    return found.sub(lambda _: f"{BEGIN}\n\n{table}\n\n{END}", page, count=1)


def seconds(found: Sequence[float]) -> str:
    """Durations as the table says them: the middle one and the longest."""
    ordered = sorted(found)
    if not ordered:
        return "–"
    middle = ordered[len(ordered) // 2]
    return f"{middle:.2f} s" if len(ordered) == 1 else f"{middle:.2f} s, at most {ordered[-1]:.2f} s"
