"""Connections of a PostgreSQL server: how many there are of how many it takes. A door to psycopg."""

from typing import LiteralString

import msgspec
import psycopg

from pipeline.errors import RetryableError
from pipeline.options import Secret
from receivers.readings import Figure, Level, Limits, Reading, percent

_QUERY: LiteralString = """
select count(*) filter (where backend_type = 'client backend'),
       current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
from pg_stat_activity
"""
FULL = ("too many clients", "too many connections", "remaining connection slots")
"""What a server says that takes no more connections (SQLSTATE 53300, which a failed connect does not carry)."""


class PostgresOption(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A PostgreSQL server whose connections are counted."""

    name: str
    """What it is called in metrics and messages (`dagster`)."""
    url: Secret
    """Where it is: `postgresql://user:password@host:5432/database`. Any role may ask."""
    limits: Limits = Limits()
    """Share of the connections that it takes."""


async def counted(option: PostgresOption, timeout_s: int = 10) -> tuple[int, int]:
    """Connections that there are, and that there can be.

    A server that takes no more has as many as it can: (0, 0) where it does not say how many that is. Raises
    RetryableError, without the URL.
    """
    try:
        connection = await psycopg.AsyncConnection.connect(
            option.url.reveal(), connect_timeout=timeout_s, autocommit=True, application_name="dagtel"
        )
        async with connection:
            row = await (await connection.execute(_QUERY)).fetchone()
    except psycopg.Error as error:
        if any(words in str(error) for words in FULL):
            return 0, 0
        said = str(error).strip().splitlines()
        raise RetryableError(f"PostgreSQL {option.name}: {said[-1] if said else type(error).__name__}") from None
    if row is None:
        raise RetryableError(f"PostgreSQL {option.name} has no pg_stat_activity")
    return int(row[0]), int(row[1])


def reading(option: PostgresOption, used: int, most: int, before: Level) -> Reading:
    """What the counts mean."""
    thing, label = f"connections {option.name}", (("pool", option.name),)
    title = f"Connections Almost Exhausted: {option.name}"
    if not most:
        return Reading(thing, title, "CRITICAL", "The server takes no more connections, not even ours.")
    share = percent(used, most)
    return Reading(
        thing,
        title,
        option.limits.level(share, before),
        f"{used} of {most} connections in use ({share:.0f}%).",
        (Figure("connection_pool_used", float(used), label), Figure("connection_pool_size", float(most), label)),
    )
