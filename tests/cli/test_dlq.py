"""`dagtel dlq`: dead letters are listed, shown, asked for again and dropped; hostile text does nothing."""

import gzip
import json
import re
from pathlib import Path

import msgspec
import pytest

from pipeline.components import Payload
from pipeline.store.state import Commit, DeadLetter, StateStore
from tests.cli.conftest import Dagtel

NOON = 1_795_435_200_000_000_000  # 2026-11-23T12:00Z
HOUR = 3600 * 10**9
STATE = ("--state", "state.db")


def payload(text: str) -> tuple[bytes, bytes]:
    headers = {"Content-Encoding": "gzip"}
    return gzip.compress(text.encode(), mtime=0), msgspec.msgpack.encode(Payload(b"", 3, headers=headers))


@pytest.fixture
def letters(folder: Path) -> None:
    body, again = payload('{"streams": []}')
    store = StateStore(folder / "state.db")
    store.commit(
        Commit(
            dead=[
                DeadLetter(
                    11,
                    NOON,
                    "exporters.loki",
                    "refused: Loki answered 413",
                    "",
                    "loki",
                    body,
                    "payload",
                    "whole",
                    again,
                ),
                DeadLetter(
                    12, NOON + HOUR, "receivers.kafka", "not JSON", "", "events/0@7", b"{\x1b[2J", "input", "events/0"
                ),
                DeadLetter(
                    13, NOON + 2 * HOUR, "processors.dedup", "KeyError: 'x'", "Traceback\n  line 1", "Alert", b"{}"
                ),
                DeadLetter(
                    14,
                    NOON + 3 * HOUR,
                    "exporters.loki",
                    "partly refused: 1 of 3",
                    "",
                    "loki",
                    body,
                    "part",
                    "whole",
                    again,
                ),
            ]
        )
    )
    store.close()


@pytest.mark.usefixtures("letters")
def test_a_list_fits_80_columns_with_the_newest_first(dagtel: Dagtel) -> None:
    result = dagtel("dlq", "list", *STATE)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["ID", "TIME", "(UTC)", "COMPONENT", "SIZE", "REASON"]
    assert [line.split()[0] for line in lines[1:]] == ["14", "13", "12", "11"]
    assert "11-23 12:00" in lines[4]
    assert "exporters.loki" in lines[4]
    assert "refused: Loki answered" in lines[4]
    assert max(map(len, lines)) <= 80


def test_ids_of_an_old_store_are_never_cut(dagtel: Dagtel, folder: Path) -> None:
    store = StateStore(folder / "state.db")
    store.commit(
        Commit(dead=[DeadLetter(2**63 - 1, NOON, "processors.a_very_long_name_indeed", "no " * 99, "", "", b"")])
    )
    store.close()
    lines = dagtel("dlq", "list", *STATE).stdout.splitlines()
    assert lines[1].startswith(str(2**63 - 1))
    assert max(map(len, lines)) <= 80


@pytest.mark.usefixtures("letters")
@pytest.mark.parametrize(
    ("options", "chosen"),
    [
        ((), ["14", "13", "12", "11"]),
        (("--component", "loki"), ["14", "11"]),
        (("--reason", "NOT JSON"), ["12"]),
        (("--since", "2026-11-23T13:00", "--until", "2026-11-23T16:00+01:00"), ["13", "12"]),
        (("--limit", "1"), ["14"]),
        (("--component", "nobody"), []),
    ],
)
def test_a_list_as_json_is_an_array_of_those_that_are_meant(
    dagtel: Dagtel, options: tuple[str, ...], chosen: list[str]
) -> None:
    result = dagtel("dlq", "list", *STATE, "--json", *options)
    found = json.loads(result.stdout)
    assert [one["id"] for one in found] == chosen
    assert all(one["time"].startswith("2026-11-23 1") for one in found)


@pytest.mark.usefixtures("letters")
def test_one_is_shown_with_its_body_unpacked(dagtel: Dagtel) -> None:
    text = dagtel("dlq", "show", "11", *STATE).stdout
    assert "Component  exporters.loki" in text
    assert "2026-11-23 12:00:00Z" in text
    assert "  refused: Loki answered 413" in text
    assert '  {"streams": []}' in text
    assert "Traceback" in dagtel("dlq", "show", "13", *STATE).stdout
    shown = json.loads(dagtel("dlq", "show", "11", *STATE, "--json").stdout)
    assert (shown["body"], shown["kind"], shown["replay_asked"]) == ('{"streams": []}', "payload", False)
    assert gzip.decompress(dagtel("dlq", "show", "11", *STATE, "--raw").stdout_bytes) == b'{"streams": []}'


@pytest.mark.usefixtures("folder")
def test_what_a_terminal_would_act_on_is_written_as_an_escape(dagtel: Dagtel, folder: Path) -> None:
    evil = "\x1b]0;owned\x07 \u202egnp.exe \x9b31m\r\x00\u2028"
    store = StateStore(folder / "state.db")
    store.commit(Commit(dead=[DeadLetter(1, NOON, evil, evil, evil, evil, evil.encode(), "input", evil)]))
    store.close()
    for command in (("list",), ("show", "1")):
        out = dagtel("dlq", *command, *STATE).stdout
        assert "owned" in out
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e\u2028]", out)


@pytest.mark.usefixtures("folder")
def test_a_body_that_is_no_text_is_not_printed(dagtel: Dagtel, folder: Path) -> None:
    store = StateStore(folder / "state.db")
    store.commit(
        Commit(dead=[DeadLetter(1, 10**30 % 2**62, "exporters.otlp", "refused", "", "", bytes(range(256)) * 9)])
    )
    store.close()
    assert "2304 bytes that are no text; --raw" in dagtel("dlq", "show", "1", *STATE).stdout


@pytest.mark.usefixtures("letters")
def test_a_replay_is_asked_for_and_what_cannot_be_is_said(dagtel: Dagtel, folder: Path) -> None:
    first = dagtel("dlq", "replay", "--all", *STATE)
    assert first.exit_code == 0
    assert first.stdout.splitlines() == [
        "2 dead letters to be replayed; no daemon runs on the state store state.db: the next start takes them up.",
        "1 dead letter cannot be replayed; `dagtel dlq show` says why.",
        "1 dead letter left out: the backend took a part. --partly sends all of it again.",
    ]
    assert dagtel("dlq", "replay", "11", *STATE).stdout == "1 dead letter had been asked for already.\n"
    again = dagtel("dlq", "replay", "14", "--partly", *STATE, "--json")
    assert json.loads(again.stdout) == {"asked": 1, "already": 0, "cannot": 0, "partly": 0, "daemon": False}
    assert "(to be replayed) not JSON" in dagtel("dlq", "list", *STATE, COLUMNS="120").stdout
    store = StateStore(folder / "state.db")
    assert "a daemon runs on this store" not in first.stdout
    assert [one.id for one in store.to_replay(0)] == [11, 12, 14]
    assert dagtel("dlq", "replay", "99", *STATE).stdout == "No dead letter is like that.\n"
    store.close()


@pytest.mark.usefixtures("letters")
def test_dropping_asks_first_and_keeps_what_is_to_be_replayed(dagtel: Dagtel) -> None:
    dagtel("dlq", "replay", "11", *STATE)
    refused = dagtel("dlq", "drop", "--all", *STATE)
    assert refused.exit_code == 1
    assert "Throw 4 dead letters away?" in refused.stderr
    done = dagtel("dlq", "drop", "--all", "--yes", *STATE)
    assert done.stdout.splitlines() == [
        "3 dead letters dropped.",
        "1 dead letter kept: their replay has been asked for.",
    ]
    assert json.loads(dagtel("dlq", "drop", "--reason", "x", "-y", "--json", *STATE).stdout) == {
        "dropped": 0,
        "to_be_replayed": 0,
    }
    assert [one["id"] for one in json.loads(dagtel("dlq", "list", "--json", *STATE).stdout)] == ["11"]


@pytest.mark.usefixtures("letters")
@pytest.mark.parametrize("command", ["replay", "drop"])
def test_nothing_is_done_to_all_by_mistake(dagtel: Dagtel, command: str) -> None:
    result = dagtel("dlq", command, *STATE)
    assert result.exit_code == 2
    assert "--all" in result.stderr


@pytest.mark.usefixtures("letters")
def test_the_configuration_names_the_store(dagtel: Dagtel, folder: Path) -> None:
    (folder / "d.yaml").write_text("service: {state: {path: '${env:HERE:-state.db}'}}\n")
    assert len(json.loads(dagtel("dlq", "list", "--config", "d.yaml", "--json").stdout)) == 4
    missing = dagtel("dlq", "list", "--config", "d.yaml", HERE="nowhere.db")
    assert missing.exit_code == 1
    assert "there is no state store nowhere.db" in missing.stderr
    for options in ((), ("--state", "state.db", "--config", "d.yaml")):
        assert dagtel("dlq", "list", *options).exit_code == 2


@pytest.mark.usefixtures("letters")
@pytest.mark.parametrize("option", ["--since", "--until"])
def test_a_time_that_is_none_is_said(dagtel: Dagtel, option: str) -> None:
    result = dagtel("dlq", "list", *STATE, option, "yesterday")
    assert result.exit_code == 2
    assert "is no time" in result.stderr
    assert dagtel("dlq", "list", *STATE, option, "2h").exit_code == 0


def test_no_dead_letters_is_said(dagtel: Dagtel, folder: Path) -> None:
    StateStore(folder / "state.db").close()
    assert dagtel("dlq", "list", *STATE).stdout == "There are no dead letters.\n"
    missing = dagtel("dlq", "show", "5", *STATE)
    assert (missing.exit_code, missing.stderr) == (
        1,
        "dagtel: there is no dead letter 5; it may have been replayed or dropped\n",
    )
