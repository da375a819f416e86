"""`dagtel silence` and `dagtel alerts ack|resolve`: without a daemon; names, conditions and times are checked first."""

import json
from functools import partial
from pathlib import Path

import msgspec
import pytest

from pipeline.alert_commands import Acknowledge, Command, Expire, Resolve, Silence
from pipeline.batch import WHOLE
from pipeline.store import acts
from pipeline.store.state import Commit, StateRow, StateStore
from tests.cli.conftest import Dagtel

STATE = ("--state", "state.db")


@pytest.fixture(autouse=True)
def store(folder: Path) -> None:
    """A daemon has run here; two problems are open."""
    pack = msgspec.msgpack.encode
    names = ("v1:abcdef0123456789", "v1:abcdef9999999999")
    rows = [StateRow(WHOLE, "processors.dedup", "lives", pack(name), 2, pack(b"")) for name in names]
    opened = StateStore(folder / "state.db")
    opened.commit(Commit(rows=rows))
    opened.close()


def asked(folder: Path) -> list[Command]:
    opened = StateStore(folder / "state.db")
    rows = opened.within(partial(acts.to_obey, next=0))
    opened.close()
    return [row.command for row in rows if row.command]


def test_a_silence_is_added_listed_and_ended(dagtel: Dagtel, folder: Path) -> None:
    added = dagtel(
        "silence", "add", *STATE, "--asset", "raw/orders", "--for", "2h", "--by", "Ann", "--why", "moving it"
    )
    assert added.exit_code == 0, added.output
    (silence,) = asked(folder)
    assert isinstance(silence, Silence)
    assert (silence.when, silence.by, silence.why) == ('asset == "raw/orders"', "Ann", "moving it")
    assert silence.until_ns - silence.now_ns == 7200 * 10**9
    assert f"as {silence.id}: " in added.stdout
    assert "no daemon runs on the state store state.db: the next start takes it up." in added.stdout
    listed = dagtel("silence", "list", *STATE).stdout
    assert silence.id in listed and "Ann" in listed and "(not taken up yet)" in listed
    (row,) = json.loads(dagtel("silence", "list", *STATE, "--json").stdout)
    assert (row["id"], row["in_force"]) == (silence.id, False)
    ended = json.loads(dagtel("silence", "expire", *STATE, silence.id, "--json").stdout)
    assert ended["daemon"] is False
    assert isinstance(asked(folder)[-1], Expire)
    assert dagtel("silence", "list", *STATE).stdout == "Nothing is silenced.\n"
    assert dagtel("silence", "expire", *STATE, silence.id).exit_code == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--for", "1h"), "what is to be silent"),
        (("--asset", "x"), "for how long"),
        (("--asset", "x", "--for", "1h", "--until", "2027-01-01"), "for how long"),
        (("--when", "aset == 'x'", "--for", "1h"), "did you mean `asset`"),
        (("--when", "true", "--job", "x", "--for", "1h"), "either"),
        (("--asset", "x", "--until", "2020-01-01"), "over before"),
    ],
)
def test_what_could_not_be_obeyed_is_not_taken_down(
    dagtel: Dagtel, folder: Path, options: tuple[str, ...], said: str
) -> None:
    refused = dagtel("silence", "add", *STATE, *options, COLUMNS="300")
    assert (refused.exit_code, said in refused.output) == (2, True), refused.output
    assert asked(folder) == []


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("v1:abcdef0123456789#3", "v1:abcdef0123456789#3"),
        ("abcdef0", "v1:abcdef0123456789"),
        ("v1:abcdef9", "v1:abcdef9999999999"),
    ],
)
def test_an_alert_is_acknowledged_and_resolved_by_any_name(dagtel: Dagtel, folder: Path, name: str, meant: str) -> None:
    assert dagtel("alerts", "ack", *STATE, name, "--by", "Ann", "--why", "on it").exit_code == 0
    assert json.loads(dagtel("alerts", "resolve", *STATE, name, "--json").stdout)["about"] == meant
    first, second = asked(folder)
    assert isinstance(first, Acknowledge) and isinstance(second, Resolve)
    assert (first.alert, first.by, first.why, second.alert) == (meant, "Ann", "on it", meant)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("abcdef", "several alerts begin with abcdef"),
        ("v1:nothing", "no open alert is v1:nothing"),
        ("abc", "no open alert"),
    ],
)
def test_a_name_that_means_none_or_several_is_told(dagtel: Dagtel, folder: Path, name: str, said: str) -> None:
    for command in ("ack", "resolve"):
        refused = dagtel("alerts", command, *STATE, name)
        assert (refused.exit_code, said in refused.output) == (1, True), refused.output
    assert asked(folder) == []


def test_hostile_text_does_nothing_to_the_terminal(dagtel: Dagtel, folder: Path) -> None:
    dagtel("silence", "add", *STATE, "--asset", "x\x1b[2J", "--for", "1h", "--by", "A\x1b]0;x\x07", "--why", "a\r\nb")
    (silence,) = asked(folder)
    assert isinstance(silence, Silence) and (silence.by, silence.why) == ("A ]0;x", "a b")
    assert "\x1b" not in dagtel("silence", "list", *STATE).stdout
    assert "\x1b" not in dagtel("alerts", "ack", *STATE, "x\x1b[2J").output


def test_without_a_store_it_says_what_is_missing(dagtel: Dagtel) -> None:
    refused = dagtel("silence", "list", "--state", "nowhere.db")
    assert (refused.exit_code, "there is no state store" in refused.output) == (1, True)
    assert dagtel("silence", "list").exit_code == 2
