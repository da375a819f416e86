"""A Dagster home in SQLite, laid out as Dagster does it, whose files are as old as the test says."""

import json
import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Generic, TypeVar

from pipeline.clock import SECOND, Clock
from pipeline.dagster_home import SqliteStorage
from pipeline.testing.clock import VirtualClock

EVENT_LOGS = (
    "CREATE TABLE IF NOT EXISTS event_logs (id INTEGER PRIMARY KEY, run_id VARCHAR(255), event TEXT NOT NULL, "
    "dagster_event_type TEXT, timestamp TIMESTAMP, step_key TEXT, asset_key TEXT, partition TEXT)"
)
RUNS = (
    "CREATE TABLE IF NOT EXISTS runs (id INTEGER PRIMARY KEY, run_id VARCHAR(255) UNIQUE, run_body TEXT)",
    "CREATE TABLE IF NOT EXISTS run_tags (id INTEGER PRIMARY KEY, run_id VARCHAR(255), key TEXT, value TEXT)",
)


def entry(run: str, text: str, at_ns: int, type: str | None = None) -> str:
    """A stored EventLogEntry: a log message, or a DagsterEvent of this type."""
    event = {"__class__": "DagsterEvent", "event_type_value": type, "message": text, "pipeline_name": "job"}
    return json.dumps(
        {
            "__class__": "EventLogEntry",
            "dagster_event": event if type else None,
            "error_info": None,
            "level": 20,
            "message": "",
            "pipeline_name": "job",
            "run_id": run,
            "step_key": None,
            "timestamp": at_ns / SECOND,
            "user_message": text,
        }
    )


C = TypeVar("C", bound=Clock)


class SqliteHome(Generic[C]):
    """Opens, writes and closes as Dagster does for every event. `folder` is DAGSTER_HOME."""

    def __init__(self, folder: Path, clock: C) -> None:
        self.folder, self.clock = folder, clock
        self.storage = SqliteStorage(folder / "history" / "runs", folder / "history" / "runs.db")
        self.storage.events.mkdir(parents=True)
        with closing(self._open(self.storage.runs)) as database:
            for table in RUNS:
                database.execute(table)

    def add_run(self, run: str, tags: dict[str, str] | None = None) -> None:
        """The run's row, as it is before its first event."""
        body = json.dumps({"__class__": "PipelineRun", "tags": tags or {}, "root_run_id": None})
        with closing(self._open(self.storage.runs)) as database:
            database.execute("INSERT INTO runs (run_id, run_body) VALUES (?, ?)", (run, body))

    def tag_run(self, run: str, key: str, value: str) -> None:
        """A tag that is added later."""
        with closing(self._open(self.storage.runs)) as database:
            database.execute("INSERT INTO run_tags (run_id, key, value) VALUES (?, ?, ?)", (run, key, value))

    def store(self, run: str, text: str = "", type: str | None = None, event: str | bytes | None = None) -> None:
        """One event, written now."""
        at_ns = self.clock.wall_ns()
        file = self.file(run)
        with closing(self._open(file)) as database:
            database.execute(EVENT_LOGS)
            stored = entry(run, text, at_ns, type) if event is None else event
            database.execute("INSERT INTO event_logs (run_id, event) VALUES (?, ?)", (run, stored))
        self._age(file)

    def forget_events(self, run: str) -> None:
        """As Dagster deletes a run: the rows go, the file stays."""
        with closing(self._open(self.file(run))) as database:
            database.execute("DELETE FROM event_logs")
        self._age(self.file(run))

    def file(self, run: str) -> Path:
        return self.storage.events / f"{run}.db"

    def left_behind(self) -> list[str]:
        """Files that are no databases."""
        return sorted(f.name for f in self.storage.events.iterdir() if not f.name.endswith(".db"))

    def rest(self) -> None:
        """As if all was written a second ago."""
        for file in self.storage.events.iterdir():
            os.utime(file, ns=(self.clock.wall_ns() - SECOND,) * 2)

    def _age(self, file: Path) -> None:
        if isinstance(self.clock, VirtualClock):
            os.utime(file, ns=(self.clock.wall, self.clock.wall))

    @staticmethod
    def _open(file: Path) -> sqlite3.Connection:
        database = sqlite3.connect(file, isolation_level=None)
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("PRAGMA synchronous=OFF")
        return database
