"""Where a history of alerts is kept."""

import msgspec


class Place(msgspec.Struct, frozen=True):
    """In a file, or where there is a `url` in a schema of PostgreSQL."""

    path: str = "history.db"
    url: str = ""
    schema: str = "dagtel_history"
