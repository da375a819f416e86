"""SQL as the state store itself speaks it: a text that both databases know, with `?` for each value.

What a start and a running daemon ask again and again goes this way. SQLAlchemy, which takes 130 ms to import, is for
what has many shapes (`commands`, `acts`, the history) and for PostgreSQL's connections.
"""

from collections.abc import Collection
from typing import Any, Protocol, TypeAlias

Value: TypeAlias = int | str | bytes | bytearray | None


class Transaction(Protocol):
    """One that has begun."""

    def run(self, text: str, *values: Value) -> list[tuple[Any, ...]]:
        """Run one statement; gives its rows."""
        ...


def marks(values: Collection[object]) -> str:
    """What stands between the brackets of an IN: "?, ?, ?", for none NULL, which is equal to nothing."""
    return ", ".join("?" * len(values)) or "NULL"
