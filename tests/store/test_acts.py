"""What people ask is kept once, in order, until it is obeyed; on both databases."""

import threading
from functools import partial

import msgspec
import pytest

from pipeline.alert_commands import Acknowledge, Expire, Resolve, Silence
from pipeline.batch import WHOLE
from pipeline.components import Position
from pipeline.store import acts, alert_view
from pipeline.store.acts import Retry
from pipeline.store.state import KEPT_NS, Commit, StateRow, StateStore
from tests.store.conftest import Opens

NOW = 1_795_435_200_000_000_000
HOUR = 3600 * 10**9


@pytest.fixture
def store(opens: Opens):  # type: ignore[no-untyped-def]
    one = opens()
    yield one
    one.close()


def silence(id: str, until: int = NOW + HOUR) -> Silence:
    return Silence(id, NOW, 'asset == "x"', until, "Ann", "moving")


def obey(store: StateStore, next: int, rows: list[StateRow] | None = None) -> None:
    """A checkpoint of the owner, behind the commands before the row `next`."""
    store.commit(Commit(positions={WHOLE: Position(next)}, rows=rows or []))


def state_row(table: str, key: str, value: object, owner: str = "processors.dedup") -> StateRow:
    pack = msgspec.msgpack.encode
    return StateRow(WHOLE, owner, table, pack(key), 1, pack(value) if value is not None else None)


def test_a_command_is_kept_once_whoever_asks_how_often(store: StateStore) -> None:
    first = acts.ask(store.engine, silence("a"))
    again = acts.ask(store.engine, msgspec.structs.replace(silence("a"), now_ns=NOW + 5))
    assert first.new and not again.new
    assert (again.row, again.at_ns) == (first.row, NOW)
    assert acts.asked_already(store.engine, "a") == NOW
    assert acts.asked_already(store.engine, "b") is None
    assert [row.command for row in acts.to_obey(store.engine, 0)] == [silence("a")]


def test_asked_at_the_same_time_it_is_still_kept_once(store: StateStore) -> None:
    new: list[bool] = []
    start = threading.Barrier(8)

    def ask(n: int) -> None:
        start.wait()
        new.append(acts.ask(store.engine, silence(f"same-{n % 2}")).new)

    threads = [threading.Thread(target=partial(ask, n)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(new) == [False] * 6 + [True] * 2
    assert len(acts.to_obey(store.engine, 0)) == 2


def test_a_reader_that_goes_on_behind_the_last_row_misses_none(store: StateStore) -> None:
    """Four write while one reads on: ids must become visible in order, which a bare sequence does not promise."""
    writers = [
        threading.Thread(target=lambda n=n: [acts.ask(store.engine, silence(f"{n}-{i}")) for i in range(10)])
        for n in range(4)
    ]
    for thread in writers:
        thread.start()
    seen: list[str] = []
    next = 0
    while len(seen) < 40:
        alive = any(thread.is_alive() for thread in writers)
        rows = acts.to_obey(store.engine, next)
        seen += [row.command.id for row in rows if row.command]
        next = rows[-1].id + 1 if rows else next
        if not rows and not alive:
            break
    for thread in writers:
        thread.join()
    assert len(set(seen)) == len(seen) == 40


def test_what_was_obeyed_is_not_read_again_and_is_kept_so_that_it_is_not_asked_again(store: StateStore) -> None:
    first = acts.ask(store.engine, silence("a"))
    acts.ask(store.engine, Acknowledge("b", NOW, "v1:ab#1", "Ann"))
    obey(store, first.row + 1)
    assert acts.waiting(store.engine) == [Acknowledge("b", NOW, "v1:ab#1", "Ann")]
    assert [(command.id, done) for command, done in acts.recent(store.engine, 10)] == [("b", False), ("a", True)]
    assert store.forget_obeyed(NOW + KEPT_NS) == 0
    assert not acts.ask(store.engine, silence("a")).new


def test_what_was_obeyed_long_ago_is_forgotten_and_what_waits_never(store: StateStore) -> None:
    first = acts.ask(store.engine, silence("a"))
    acts.ask(store.engine, Resolve("b", NOW, "v1:ab"))
    obey(store, first.row + 1)
    acts.claim_retry(store.engine, Retry("run-1", NOW))
    assert store.forget_obeyed(NOW + KEPT_NS + 1) == 2
    assert [command.id for command, _ in acts.recent(store.engine, 10)] == ["b"]
    assert acts.ask(store.engine, silence("c")).row > first.row + 1  # ids are not given again


def test_a_row_that_this_program_cannot_read_says_so(store: StateStore) -> None:
    acts._append(store.engine, acts.ALERT, "strange", NOW, b'{"type": "levitate"}')
    assert [row.command for row in acts.to_obey(store.engine, 0)] == [None]
    assert acts.waiting(store.engine) == []


def test_silences_are_those_in_state_and_those_that_were_asked_for_since(store: StateStore) -> None:
    rows = [
        state_row("silences", "in force", silence("in force")),
        state_row("silences", "ended", silence("ended", NOW - 1)),
        state_row("silences", "to end", silence("to end")),
        state_row("silences", "foreign", silence("foreign"), "exporters.other"),
        state_row("silences", "broken", {"no": "silence"}),
    ]
    obey(store, 0, rows)
    acts.ask(store.engine, silence("asked for", NOW + 2 * HOUR))
    acts.ask(store.engine, Expire("e", NOW, "to end"))
    found = alert_view.silences(store.engine, NOW)
    assert [(one.silence.id, one.in_force) for one in found] == [("in force", True), ("asked for", False)]
    assert "ended" in {one.silence.id for one in alert_view.silences(store.engine, 0)}


def test_an_open_alert_is_named_by_key_fingerprint_or_beginning(store: StateStore) -> None:
    rows = [state_row("lives", name, b"") for name in ("v1:abcdef01", "v1:abcdef99", "v1:1234567890")]
    obey(store, 0, [*rows, state_row("homes", "v1:77777777", "v1:abcdef01")])
    open = alert_view.open_alerts(store.engine)
    assert alert_view.named("v1:abcdef01#3", open) == ["v1:abcdef01"]
    assert alert_view.named("123456", open) == ["v1:1234567890"]
    assert alert_view.named("v1:77777777", open) == ["v1:77777777"]
    assert alert_view.named("abcdef", open) == ["v1:abcdef01", "v1:abcdef99"]
    assert alert_view.named("1234", open) == []
    assert alert_view.named("v1:", open) == []


def test_a_retry_is_claimed_once_settled_and_dropped(store: StateStore) -> None:
    assert acts.retry_of(store.engine, "run-1") is None
    mine = Retry("run-1", NOW, "Ann")
    assert acts.claim_retry(store.engine, mine) == (mine, True)
    assert acts.claim_retry(store.engine, Retry("run-1", NOW + 1, "Bob")) == (mine, False)
    launched = msgspec.structs.replace(mine, launched="run-2")
    acts.settle_retry(store.engine, launched)
    assert acts.retry_of(store.engine, "run-1") == launched
    acts.drop_retry(store.engine, "run-1")
    assert acts.claim_retry(store.engine, mine) == (mine, True)


def test_a_kept_secret_is_the_first_one(store: StateStore) -> None:
    assert acts.kept_secret(store.engine, "k", "first") == "first"
    assert acts.kept_secret(store.engine, "k", "second") == "first"
