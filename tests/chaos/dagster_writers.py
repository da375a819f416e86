"""Dagster under load: eight processes' worth of writers into its PostgreSQL, and a retention that deletes meanwhile.

What is stored is known exactly: each writer notes a row once its commit is through. A run has one writer, which stores
one event after the other, as Dagster does; so the rows of a run have an order, and it is that of their ids.
"""

import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from hashlib import sha1
from random import Random

import msgspec
import psycopg

from benchmarks.load import Record
from tests.receivers.postgres_dagster import PostgresDagster

WRITERS = 8
LARGE_BYTES = 200_000
LARGEST_BYTES = 10_000_000
_INSERT = "INSERT INTO event_logs (run_id, event) VALUES (%s, %s) RETURNING id"
_WAIT_S = 0.002


class Stored(msgspec.Struct, frozen=True):
    """A committed row."""

    id: int
    run: str
    digest: bytes


def digest(value: bytes) -> bytes:
    return sha1(value).digest()


def shared_out(made: Sequence[Record], chance: Random, large_every: int, largest: int) -> list[list[list[bytes]]]:
    """Runs of events for each writer. Every `large_every`-th event has 200 KB, `largest` of them 10 MB."""
    giants = set(chance.sample(range(len(made)), largest))
    runs: dict[bytes, list[bytes]] = {}
    for number, record in enumerate(made):
        value = record.value
        if number in giants:
            value = _grown(value, LARGEST_BYTES, chance)
        elif number % large_every == 0:
            value = _grown(value, LARGE_BYTES, chance)
        runs.setdefault(record.key, []).append(value)
    shares: list[list[list[bytes]]] = [[] for _ in range(WRITERS)]
    for number, events in enumerate(runs.values()):
        shares[number % WRITERS].append(events)
    return shares


def _grown(value: bytes, size: int, chance: Random) -> bytes:
    event = json.loads(value)
    event["user_message"] = chance.randbytes(size // 2).hex()
    return json.dumps(event).encode()


class Writers:
    """The writers, and what they have stored. `may_go_on` holds them back where they are far ahead."""

    def __init__(
        self, dagster: PostgresDagster, shares: list[list[list[bytes]]], may_go_on: Callable[[], bool]
    ) -> None:
        self._dagster, self._shares, self._may_go_on = dagster, shares, may_go_on
        self.stored: list[list[Stored]] = [[] for _ in shares]
        self.rolled_back = 0
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(len(shares))]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End them early, and wait until they have ended."""
        self._stop.set()
        for thread in self._threads:
            thread.join(60)

    @property
    def under_way(self) -> bool:
        return any(thread.is_alive() for thread in self._threads)

    def count(self) -> int:
        return sum(map(len, self.stored))

    def all(self) -> dict[int, Stored]:
        return {row.id: row for rows in self.stored for row in rows}

    def _run(self, number: int) -> None:
        chance = Random(number)
        with self._dagster.connect() as database:
            runs = [(json.loads(events[0])["run_id"], events) for events in self._shares[number]]
            for run, _ in runs:
                if run:
                    database.execute(
                        "INSERT INTO runs (run_id, run_body) VALUES (%s, %s)", (run, '{"__class__": "PipelineRun"}')
                    )
            for run, event in _interleaved(runs, chance):
                while not self._may_go_on():
                    if self._stop.wait(_WAIT_S):
                        return
                self._store(database, number, run, event, chance)
                if self._stop.is_set():
                    return

    def _store(self, database: psycopg.Connection, number: int, run: str, events: list[bytes], chance: Random) -> None:
        kind = chance.random()
        if kind < 0.06:  # takes ids and never shows
            with database.transaction(force_rollback=True):
                for _ in range(chance.randint(1, 5)):
                    _insert(database, run, b'{"rolled": "back"}')
                self.rolled_back += 1
        if len(events) == 1 and kind < 0.98:  # as Dagster does
            self.stored[number].append(_insert(database, run, events[0]))
            return
        with database.transaction():  # a batch, or an insert that commits late
            rows = [_insert(database, run, event) for event in events]
            database.execute("SELECT pg_sleep(%s)", (chance.choice((0.001, 0.02, 0.3)),))
        self.stored[number] += rows


def _insert(database: psycopg.Connection, run: str, event: bytes) -> Stored:
    found = database.execute(_INSERT, (run, event.decode())).fetchone()
    assert found is not None
    return Stored(found[0], run, digest(event))


def _interleaved(runs: Sequence[tuple[str, list[bytes]]], chance: Random) -> Iterator[tuple[str, list[bytes]]]:
    """Up to three runs at a time, each in its order; now and then several events at once."""
    waiting = [(run, list(events)) for run, events in runs]
    while waiting:
        at = chance.randrange(min(3, len(waiting)))
        run, events = waiting[at]
        some = chance.randint(2, 12) if chance.random() < 0.03 else 1
        yield run, events[:some]
        del events[:some]
        if not events:
            del waiting[at]


class Retention:
    """Deletes runs while they are read: those that have arrived, and now and then one that is being written."""

    def __init__(self, dagster: PostgresDagster, arrived: Callable[[], set[int]], live_runs: Sequence[str]) -> None:
        self._dagster, self._arrived, self._live = dagster, arrived, live_runs
        self.deleted: set[int] = set()
        """Ids that were deleted without asking whether they had arrived."""
        self.old = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(60)

    def _run(self) -> None:
        chance = Random(99)
        gone = set[int]()
        with self._dagster.connect() as database:
            began = time.monotonic()
            while not self._stop.wait(0.1):
                old = list(self._arrived() - gone)
                gone.update(old)
                self.old += database.execute("DELETE FROM event_logs WHERE id = ANY(%s)", (old,)).rowcount
                if time.monotonic() - began > 1:
                    began = time.monotonic()
                    run = chance.choice(self._live)
                    rows = database.execute("DELETE FROM event_logs WHERE run_id = %s RETURNING id", (run,)).fetchall()
                    self.deleted.update(id for (id,) in rows)
