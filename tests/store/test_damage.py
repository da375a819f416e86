"""A state file that was cut, overwritten or lost: the start is refused and says what to do, never quietly from zero."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.batch import WHOLE
from pipeline.components import Position
from pipeline.errors import StateError
from pipeline.store.beside import open_beside
from pipeline.store.state import Commit, StateRow, StateStore
from tests.store.damage import DAMAGE, PARTS, wal


def commits(store: StateStore, count: int, first: int = 0) -> None:
    epoch = store.take_shard(WHOLE).epoch
    for number in range(first, first + count):
        rows = [StateRow(WHOLE, "processors.a", "t", bytes([number % 256, i]), 1, b"x" * 500) for i in range(50)]
        store.commit(Commit(epochs={WHOLE: epoch}, positions={"s": Position(number + 1)}, rows=rows))


def crashed(store: StateStore, folder: Path) -> Path:
    """The files as a kill leaves them."""
    folder.mkdir()
    for suffix in PARTS:
        shutil.copy(f"{store_path(store)}{suffix}", folder / f"state.db{suffix}")
    return folder / "state.db"


def store_path(store: StateStore) -> Path:
    return Path(store.name.removeprefix("the state store "))


@pytest.fixture
def killed(tmp_path: Path) -> Path:
    """A store that was closed once, then worked on, then killed."""
    first = StateStore(tmp_path / "state.db")
    commits(first, 20)
    first.close()
    store = StateStore(tmp_path / "state.db")
    commits(store, 20, 20)
    image = crashed(store, tmp_path / "killed")
    store.close()
    return image


def test_a_killed_store_has_all_that_was_committed(killed: Path) -> None:
    store = StateStore(killed)
    assert store.positions(["s"])["s"].next == 40
    store.close()
    again = StateStore(killed)
    assert again.positions(["s"])["s"].next == 40
    again.close()


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_a_damaged_store_is_not_opened_and_stays_as_it_is(killed: Path, damage: Callable[[Path], object]) -> None:
    damage(killed)
    before = {file.name: file.read_bytes() for file in killed.parent.iterdir() if file.suffix != ".lock"}
    before.pop("state.db-shm", None)
    with pytest.raises(StateError, match=r"[Rr]estore it from a backup.*start anew"):
        StateStore(killed)
    after = {file.name: file.read_bytes() for file in killed.parent.iterdir() if file.name in before}
    assert after == before
    with pytest.raises(StateError, match="start anew"):
        StateStore(killed)


def test_a_log_that_is_cut_later_gives_an_earlier_moment_as_after_a_power_cut(killed: Path) -> None:
    whole = wal(killed).read_bytes()
    wal(killed).write_bytes(whole[: len(whole) * 3 // 4])
    store = StateStore(killed)
    assert 20 < store.positions(["s"])["s"].next < 40
    store.close()


def test_whoever_takes_all_of_its_files_away_starts_anew(killed: Path) -> None:
    for file in killed.parent.iterdir():
        file.unlink()
    store = StateStore(killed)
    assert store.positions(["s"]) == {}
    store.close()


def test_a_start_that_made_no_store_bars_no_other(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    path.mkdir()
    with pytest.raises(StateError, match="is no file"):
        StateStore(path)
    path.rmdir()
    store = StateStore(path)
    store.close()


def test_the_file_alone_is_enough_after_a_clean_stop(tmp_path: Path) -> None:
    store = StateStore(tmp_path / "state.db")
    commits(store, 5)
    store.close()
    shutil.copy(tmp_path / "state.db", tmp_path / "copy.db")
    copy = StateStore(tmp_path / "copy.db")
    assert copy.positions(["s"])["s"].next == 5
    copy.close()


def test_who_looks_at_it_beside_after_a_kill_takes_nothing_away(killed: Path) -> None:
    with open_beside(str(killed)) as beside:
        assert beside.in_use is False
    store = StateStore(killed)
    assert store.positions(["s"])["s"].next == 40
    with open_beside(str(killed)) as beside:
        assert beside.in_use is True
    store.close()
    wal(killed).write_bytes(b"")
    StateStore(killed).close()


def test_who_looks_at_it_beside_does_not_hide_what_was_lost(killed: Path) -> None:
    wal(killed).unlink()
    with pytest.raises(StateError, match="start anew"), open_beside(str(killed)):
        pass
    with pytest.raises(StateError, match="start anew"):
        StateStore(killed)
