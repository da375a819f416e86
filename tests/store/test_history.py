"""The history in both databases: what is written is there once, the latest word counts, and it can be asked for."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from sqlalchemy import text

from pipeline.alert_records import (
    Decided,
    Delivered,
    Made,
    Notified,
    Occurred,
    Record,
    Routed,
    Standing,
    notification_id,
)
from pipeline.errors import RetryableError
from pipeline.facts import ErrorInfo, Parts
from pipeline.signals import Alert
from pipeline.store import history_database
from pipeline.store.history import History, UnknownAlert, Wanted, reading
from pipeline.store.history_migrations import STEPS
from pipeline.store.history_writes import HistoryWriter
from pipeline.store.place import Place
from pipeline.store.state import StateStore

SECOND = 10**9
T0 = 1_705_284_000 * SECOND  # 2024-01-15 02:00 UTC


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.integration)])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "postgresql":
        postgres = request.getfixturevalue("postgres")
        return Place(url=postgres.server, schema=postgres.schema)
    return Place(str(tmp_path / "history.db"))


@pytest.fixture
def writer(place: Place) -> Iterator[HistoryWriter]:
    writer = HistoryWriter(place, keep=10)
    yield writer
    writer.close()


def alert(key: str = "v1:3f2a#1", **changes: object) -> Alert:
    base = Alert(
        kind="asset_failure",
        state="firing",
        severity="ERROR",
        fingerprint=key.partition("#")[0],
        now_ns=T0,
        first_ns=T0,
        last_ns=T0,
        title="Asset Materialization Failed",
        asset="raw/orders",
        error=ErrorInfo("TimeoutError", "Connection timeout after 30s"),
        key=key,
        began_ns=T0,
        number=1,
        channels=("slack", "email"),
    )
    return msgspec.structs.replace(base, **changes)


def standing(of: Alert, as_of_ns: int = T0, **changes: object) -> Standing:
    base = Standing(of.key, of.began_ns, as_of_ns, "firing", of, told=of.channels)
    return msgspec.structs.replace(base, **changes)


def occurred(number: int, key: str = "v1:3f2a#1") -> Occurred:
    at = T0 + number * SECOND
    return Occurred(key, T0, number, at, at, key.partition("#")[0], "ERROR", "counted", run_id=f"run-{number}")


def asked(place: Place) -> History:
    """All of the history in one answer: the file is closed again."""
    database = history_database.open_to_read(place)
    return History(database)


def test_what_is_written_twice_is_there_once(place: Place, writer: HistoryWriter) -> None:
    told = alert()
    id = notification_id(told)
    records: list[Record] = [
        standing(told),
        occurred(1),
        Decided(told.key, T0, 1, T0, "first", detail="firing"),
        Notified(id, told),
        Routed(id, T0, (("slack", "severity ERROR"), ("email", "severity ERROR"))),
        Delivered((id,), "slack/data", "delivered", T0 + SECOND, 2, "503"),
    ]
    for at_ns in (1, 2, 3):
        writer.write(records, at_ns)
    with reading(place) as history:
        [row] = history.alerts()
        story = history.story(row)
    assert (row.key, row.status, row.told, row.message) == (
        told.key,
        "firing",
        ("slack", "email"),
        "Connection timeout after 30s",
    )
    assert [one.run_id for one in story.occurrences] == ["run-1"]
    assert [(one.reason, one.detail) for one in story.decisions] == [("first", "firing")]
    [notification] = story.notifications
    assert notification.why == {"slack": "severity ERROR", "email": "severity ERROR"}
    [call] = notification.deliveries
    assert (call.notifier, call.outcome, call.attempts, call.answer) == ("slack/data", "delivered", 2, "503")
    assert msgspec.json.decode(row.alert)["asset"] == "raw/orders"


def test_the_latest_word_counts_whatever_comes_when(place: Place, writer: HistoryWriter) -> None:
    over = standing(alert(count=7), T0 + 60 * SECOND, status="resolved", ended_ns=T0 + 60 * SECOND)
    counted = Decided("v1:3f2a#1", T0, 2, T0, "counted", times=6)
    writer.write([over, counted], 1)
    writer.write([standing(alert(count=3)), msgspec.structs.replace(counted, times=2)], 2)  # a dead letter of before
    with reading(place) as history:
        row = history.find("v1:3f2a")
        [decision] = history.story(row).decisions
    assert (row.status, row.open, row.failures, decision.times) == ("resolved", False, 7, 6)


def test_of_a_life_the_first_and_the_latest_failures_are_kept(place: Place, writer: HistoryWriter) -> None:
    writer.write([standing(alert())], 1)
    for start in range(1, 101, 7):
        writer.write([occurred(number) for number in range(start, min(start + 7, 101))], 1)
    writer.write([occurred(number) for number in range(8, 15)], 1)  # sent again after a crash
    with reading(place) as history:
        story = history.story(history.find("3f2a"))
        latest = history.story(story.alert, occurrences=2)
    assert [one.number for one in story.occurrences] == [1, 2, 3, 4, 5, 96, 97, 98, 99, 100]
    assert ([one.number for one in latest.occurrences], latest.kept) == ([99, 100], 10)


def test_what_is_old_goes_and_what_is_open_stays(place: Place, writer: HistoryWriter) -> None:
    old, open = alert("v1:aaaa#1"), alert("v1:bbbb#1")
    new = alert("v1:cccc#1")
    writer.write([standing(old, status="resolved"), occurred(1, "v1:aaaa#1"), Notified(notification_id(old), old)], 100)
    writer.write([standing(open), occurred(1, "v1:bbbb#1"), Decided("v1:bbbb#1", T0, 1, T0, "first")], 100)
    writer.write([standing(new, status="resolved"), occurred(1, "v1:cccc#1")], 200)
    assert writer.expire(150) == 5
    assert writer.expire(150) == 0
    with reading(place) as history:
        found = history.alerts()
        assert [row.key for row in found] == ["v1:bbbb#1", "v1:cccc#1"]
        assert [len(history.story(row).occurrences) for row in found] == [0, 1]


def test_many_old_rows_go_in_several_transactions(
    place: Place, writer: HistoryWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.store.history_writes.CHUNK", 2)
    for number in range(9):
        writer.write([occurred(1, f"v1:{number:04}#1")], number)
    assert writer.expire(8) == 8


def test_it_is_found_by_key_fingerprint_and_beginning(place: Place, writer: HistoryWriter) -> None:
    first = alert("v1:3f2a#1")
    second = alert("v1:3f2a#2", began_ns=T0 + SECOND)
    other = alert("v1:3f99#1")
    member = msgspec.structs.replace(occurred(2, "v1:3f99#1"), fingerprint="v1:eeee")
    writer.write([standing(first, status="resolved"), standing(second), standing(other), member], 1)
    with reading(place) as history:
        assert history.find("v1:3f2a#1").key == "v1:3f2a#1"
        assert history.find("v1:3f2a").key == "v1:3f2a#2"
        assert history.find("3f2a#1").key == "v1:3f2a#1"
        assert history.find("3f9").key == "v1:3f99#1"
        assert history.find("v1:eeee").key == "v1:3f99#1"  # told with another one
        with pytest.raises(UnknownAlert, match="begins 2 alerts; say more") as several:
            history.find("3f")
        assert {row.fingerprint for row in several.value.near} == {"v1:3f2a", "v1:3f99"}
        with pytest.raises(UnknownAlert, match="has no alert 'zz'"):
            history.find("zz")
        with pytest.raises(UnknownAlert, match="has no alert '%'"):
            history.find("%")


def test_alerts_are_asked_for_by_what_they_are(place: Place, writer: HistoryWriter) -> None:
    writer.write(
        [
            standing(alert("v1:1#1", severity="CRITICAL", asset="raw/orders", last_ns=T0)),
            standing(alert("v1:2#1", severity="WARNING", asset="raw/order_items", last_ns=T0 + SECOND)),
            standing(
                alert("v1:3#1", severity="ERROR", asset="mart/x", last_ns=T0 + 2 * SECOND),
                status="resolved",
                ended_ns=T0 + 9 * SECOND,
            ),
        ],
        1,
    )
    with reading(place) as history:

        def keys(**wanted: object) -> list[str]:
            return [row.key[3:4] for row in history.alerts(Wanted(**wanted))]  # type: ignore[arg-type]

        assert keys() == ["2", "1", "3"]  # open ones first, the latest first
        assert keys(open=True) == ["2", "1"]
        assert keys(open=False) == ["3"]
        assert keys(severity="ERROR") == ["1", "3"]
        assert keys(asset="raw/orders") == ["1"]
        assert keys(asset="raw/*") == ["2", "1"]
        assert keys(asset="raw/order_*") == ["2"]  # no wildcard of SQL's
        assert keys(since_ns=T0 + 5 * SECOND) == ["3"]
        assert keys(limit=1, skip=1) == ["1"]
        assert history.count(Wanted(open=True)) == 2


def test_a_notification_without_a_life_is_an_alert_of_its_own(place: Place, writer: HistoryWriter) -> None:
    digest = alert("overflow:slack#1", kind="overflow", state="digest", began_ns=0, number=0)
    end = msgspec.structs.replace(digest, state="resolved", now_ns=T0 + SECOND)
    writer.write([Notified(notification_id(digest), digest)], 1)
    with reading(place) as history:
        assert history.find("overflow:slack#1").open
    writer.write([Notified(notification_id(end), end)], 2)
    with reading(place) as history:
        row = history.find("overflow:slack#1")
        assert not row.open
        assert [one.state for one in history.story(row).notifications] == ["digest", "resolved"]


def test_texts_that_no_database_takes_are_kept(place: Place, writer: HistoryWriter) -> None:
    nasty = alert(asset="a\0b", error=ErrorInfo("E", "\x1b[31m\0'; DROP TABLE alerts; --"), owners=("o\0",))
    writer.write([standing(nasty), Notified(notification_id(nasty), nasty)], 1)
    with reading(place) as history:
        [row] = history.alerts()
    assert row.asset == "a\ufffdb"
    assert row.message == "\x1b[31m\ufffd'; DROP TABLE alerts; --"


# --- what can be wrong with it ---------------------------------------------------------------------------------------


def file_of(tmp_path: Path) -> tuple[Place, HistoryWriter]:
    place = Place(str(tmp_path / "history.db"))
    return place, HistoryWriter(place, keep=10)


def test_a_history_of_a_newer_program_is_refused(place: Place, writer: HistoryWriter) -> None:
    newer = (*STEPS, lambda connection: None)
    history_database.open_to_write(place, newer).close()
    with pytest.raises(RetryableError, match=f"has schema {len(newer)}, this program knows {len(STEPS)}"):
        writer.write([standing(alert())], 1)
    with pytest.raises(RetryableError, match="run the newer program"):
        asked(place)


def test_a_history_of_an_older_program_is_lifted_by_who_writes(place: Place, writer: HistoryWriter) -> None:
    """Version 1 did not keep what fingerprints are made of."""
    writer.write([standing(alert())], 1)
    writer.close()
    database = history_database.open_to_write(place)
    with database.engine.begin() as tx:
        tx.execute(text("DROP TABLE fingerprints"))
        tx.execute(text("UPDATE meta SET value = '1' WHERE key = 'schema_version'"))
    database.close()
    with pytest.raises(RetryableError, match=r"has schema 1.*it is lifted when this version's daemon starts on it"):
        asked(place)
    parts = Parts("asset_failure", ("raw/orders",), message=("after <duration>",))
    writer.write([Made("v1:3f2a", T0, parts, "after 30s")], 2)
    with reading(place) as history:
        story = history.story(history.find("v1:3f2a#1"))
    assert story.fingerprint is not None
    assert (story.fingerprint.parts, story.fingerprint.message) == (parts, "after 30s")


def test_there_is_none_yet(tmp_path: Path) -> None:
    with pytest.raises(RetryableError, match=r"there is no history .*no\.db"):
        asked(Place(str(tmp_path / "no.db")))
    assert not (tmp_path / "no.db").exists()


@pytest.mark.parametrize("bytes_", [b"no database at all", b"SQLite format 3\0" + b"\xff" * 4000])
def test_a_damaged_file_is_said_and_not_touched(tmp_path: Path, bytes_: bytes) -> None:
    place, writer = file_of(tmp_path)
    Path(place.path).write_bytes(bytes_)
    with pytest.raises(RetryableError, match=r"is damaged.*move it"):
        writer.write([standing(alert())], 1)
    with pytest.raises(RetryableError, match="is damaged"):
        asked(place)
    assert Path(place.path).read_bytes() == bytes_
    Path(place.path).rename(tmp_path / "damaged.db")
    writer.write([standing(alert())], 1)
    with reading(place) as history:
        assert len(history.alerts()) == 1
    writer.close()


def test_a_file_that_is_moved_away_is_begun_anew(tmp_path: Path) -> None:
    place, writer = file_of(tmp_path)
    writer.write([standing(alert("v1:1#1"))], 1)
    for path in tmp_path.glob("history.db*"):
        path.rename(tmp_path / f"old-{path.name}")
    writer.write([standing(alert("v1:2#1"))], 1)
    with reading(place) as history:
        assert [row.key for row in history.alerts()] == ["v1:2#1"]
    writer.close()


def test_a_locked_file_is_waited_for_and_then_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.store.database.PRAGMAS", ("journal_mode=WAL", "busy_timeout=10"))
    place, writer = file_of(tmp_path)
    writer.write([standing(alert("v1:1#1"))], 1)
    other = sqlite3.connect(place.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(RetryableError, match="is locked by another process"):
        HistoryWriter(place, keep=10).write([standing(alert("v1:2#1"))], 1)
    with reading(place) as history:
        assert len(history.alerts()) == 1  # who reads does not wait for who writes
    other.execute("ROLLBACK")
    other.close()
    writer.write([standing(alert("v1:2#1"))], 1)
    writer.close()


def test_another_database_is_no_history_and_is_left_alone(tmp_path: Path) -> None:
    place, writer = file_of(tmp_path)
    sqlite3.connect(place.path).execute("CREATE TABLE things (id INTEGER)").connection.close()
    state = Place(str(tmp_path / "state.db"))
    StateStore(Path(state.path)).close()
    for other, ours in ((place, writer), (state, HistoryWriter(state, keep=10))):
        before = tables(other)
        with pytest.raises(RetryableError, match="is no history of dagtel, and is left alone"):
            asked(other)
        with pytest.raises(RetryableError, match="is no history of dagtel, and is left alone"):
            ours.write([standing(alert())], 1)
        assert tables(other) == before
    Path(tmp_path / "empty.db").touch()
    with pytest.raises(RetryableError, match="is empty: no daemon has begun it yet"):
        asked(Place(str(tmp_path / "empty.db")))


def tables(place: Place) -> list[str]:
    with sqlite3.connect(place.path) as file:
        return sorted(name for (name,) in file.execute("SELECT name FROM sqlite_schema"))
