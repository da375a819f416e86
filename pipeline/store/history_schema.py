"""The tables of the history: alerts, and what became of each. Times are Unix ns.

A life is a row of `alerts`, by key and `began_ns`; what belongs to it has both. `written_ns` is when a row was written
last, by the wall's clock: that is what retention goes by, so that a log of last year that is read today is kept.
"""

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, MetaData, Table, Text

HISTORY = MetaData()

META = Table("meta", HISTORY, Column("key", Text, primary_key=True), Column("value", Text, nullable=False))


def _text(name: str) -> Column[str]:
    return Column(name, Text, nullable=False, server_default="")


def _time(name: str) -> Column[int]:
    return Column(name, BigInteger, nullable=False, server_default="0")


def _count(name: str) -> Column[int]:
    return Column(name, Integer, nullable=False, server_default="0")


def _flag(name: str) -> Column[bool]:
    return Column(name, Boolean, nullable=False)


def _life() -> tuple[Column[str], Column[int]]:
    key = Column("key", Text, primary_key=True)
    return key, Column("began_ns", BigInteger, primary_key=True, autoincrement=False)


def _number() -> Column[int]:
    return Column("number", Integer, primary_key=True, autoincrement=False)


ALERTS = Table(
    "alerts",
    HISTORY,
    *_life(),
    _time("as_of_ns"),
    _text("fingerprint"),
    _flag("open"),
    _text("status"),
    _text("severity"),
    _count("rank"),
    _text("kind"),
    _text("title"),
    _text("asset"),
    _text("check_name"),
    _text("job"),
    _text("step_key"),
    _text("run_id"),
    _text("message"),
    _count("failures"),
    _count("failing"),
    _time("first_ns"),
    _time("last_ns"),
    _time("ended_ns"),
    _text("held"),
    _time("held_until_ns"),
    _flag("flapping"),
    _flag("chronic"),
    _text("acknowledged_by"),
    _text("told"),
    _text("owners"),
    _text("alert"),
    _time("written_ns"),
    Index("alerts_by_activity", "open", "last_ns"),
    Index("alerts_by_fingerprint", "fingerprint"),
    Index("alerts_by_written", "written_ns"),
)
"""`rank` is the severity's, 0 to 3; `told` and `owners` have a comma between; `alert` is `pipeline.alert_json`."""

OCCURRENCES = Table(
    "occurrences",
    HISTORY,
    *_life(),
    _number(),
    _time("at_ns"),
    _time("event_ns"),
    _text("fingerprint"),
    _text("severity"),
    _text("decision"),
    _text("asset"),
    _text("check_name"),
    _text("job"),
    _text("step_key"),
    _text("run_id"),
    Column("partition_key", Text),
    _text("error_type"),
    _text("message"),
    _text("file"),
    _count("line"),
    _time("written_ns"),
    Index("occurrences_by_fingerprint", "fingerprint"),
    Index("occurrences_by_written", "written_ns"),
)

DECISIONS = Table(
    "decisions",
    HISTORY,
    *_life(),
    _number(),
    _time("at_ns"),
    _text("reason"),
    _count("times"),
    _text("detail"),
    _time("written_ns"),
    Index("decisions_by_written", "written_ns"),
)

NOTIFICATIONS = Table(
    "notifications",
    HISTORY,
    Column("id", Text, primary_key=True),
    _text("key"),
    _time("began_ns"),
    _count("number"),
    _time("at_ns"),
    _text("state"),
    _text("reason"),
    _text("severity"),
    _count("failures"),
    _text("channels"),
    _text("alert"),
    _time("written_ns"),
    Index("notifications_by_life", "key", "began_ns"),
    Index("notifications_by_written", "written_ns"),
)
"""`channels` with a comma between; `alert` is the whole notification as `pipeline.alert_json`."""

ROUTINGS = Table(
    "routings",
    HISTORY,
    Column("notification", Text, primary_key=True),
    Column("channel", Text, primary_key=True),
    _text("why"),
    _time("written_ns"),
    Index("routings_by_written", "written_ns"),
)

DELIVERIES = Table(
    "deliveries",
    HISTORY,
    Column("notification", Text, primary_key=True),
    Column("notifier", Text, primary_key=True),
    Column("at_ns", BigInteger, primary_key=True, autoincrement=False),
    _text("outcome"),
    _count("attempts"),
    _text("answer"),
    _time("written_ns"),
    Index("deliveries_by_written", "written_ns"),
)
"""`at_ns` by the wall's clock, unlike the times of what `dedup` decides."""

PARTS = Table(
    "fingerprints",
    HISTORY,
    Column("fingerprint", Text, primary_key=True),
    _text("parts"),
    _text("message"),
    _time("at_ns"),
    _time("written_ns"),
    Index("fingerprints_by_written", "written_ns"),
)
"""`parts` is `pipeline.facts.Parts` as JSON: what was hashed; `message` the text before it was masked."""
