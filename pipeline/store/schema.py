"""The tables of the state store: what one checkpoint commits together."""

from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, MetaData, Table, Text

from pipeline.batch import WHOLE

STATE = MetaData()

META = Table("meta", STATE, Column("key", Text, primary_key=True), Column("value", Text, nullable=False))

SHARDS = Table("shards", STATE, Column("shard", Text, primary_key=True), Column("epoch", BigInteger, nullable=False))

POSITIONS = Table(
    "positions", STATE, Column("source", Text, primary_key=True), Column("data", LargeBinary, nullable=False)
)

ROWS = Table(
    "rows",
    STATE,
    Column("shard", Text, primary_key=True),
    Column("owner", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("key", LargeBinary, primary_key=True),
    Column("version", Integer, nullable=False),
    Column("value", LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)
"""In SQLite a view, which nobody writes, of `state_rows` and `state_tables`; see `migrations.py`."""

OUTBOX = Table(
    "outbox",
    STATE,
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("exporter", Text, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("data", LargeBinary, nullable=False),
    Column("shard", Text, nullable=False, server_default=WHOLE),
    Column("epoch", BigInteger, nullable=False, server_default="0"),
)
"""`shard` and `epoch`: who takes the shard on takes the payload over; by epoch, then id, they were built."""

RECEIPTS = Table(
    "receipts",
    STATE,
    Column("exporter", Text, primary_key=True),
    Column("place", Text, primary_key=True, server_default=""),
    Column("data", LargeBinary, nullable=False),
)

DEAD_LETTERS = Table(
    "dead_letters",
    STATE,
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("at_ns", BigInteger, nullable=False),
    Column("component", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("detail", Text, nullable=False),
    Column("origin", Text, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("kind", Text, nullable=False, server_default=""),
    Column("shard", Text, nullable=False, server_default=""),
    Column("again", LargeBinary, nullable=False),
)

COMMANDS = Table(
    "commands",
    STATE,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("at_ns", BigInteger, nullable=False),
    Column("kind", Text, nullable=False),
    Column("target", BigInteger, nullable=False, server_default="0"),
    Column("data", LargeBinary),
    Index("commands_by_target", "kind", "target"),
    sqlite_autoincrement=True,
)
"""What people ask the daemon to do, see `commands.py`. `target` is the id of what it is about, `data` whatever else."""
