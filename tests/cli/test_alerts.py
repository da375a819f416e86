"""`dagtel alerts`: what is listed, shown and explained, how it looks, and what is wrong with the question."""

import json
from pathlib import Path

import msgspec
import pytest

from pipeline.alert_records import Decided, Delivered, Made, Notified, Occurred, Routed, Standing, notification_id
from pipeline.channels import NOBODY
from pipeline.facts import ErrorInfo, Parts
from pipeline.signals import Alert
from pipeline.store.history_writes import HistoryWriter
from pipeline.store.place import Place
from tests.cli.conftest import Dagtel

MINUTE = 60 * 10**9
TWO = 1_705_284_000 * 10**9  # 2024-01-15 02:00 UTC
STORE = ("--history", "history.db")


def alert(key: str, **changes: object) -> Alert:
    base = Alert(
        kind="asset_failure",
        state="firing",
        severity="ERROR",
        fingerprint=key.partition("#")[0],
        now_ns=TWO,
        first_ns=TWO,
        last_ns=TWO + 10 * MINUTE,
        title="Asset Materialization Failed",
        asset="glucose_entries",
        job="nightly",
        step_key="fetch",
        run_id="run-2",
        partition="2024-01-15",
        partitions=("2024-01-14", "2024-01-15"),
        failing=2,
        error=ErrorInfo("TimeoutError", "Connection timeout after 30s", "readings.py", 45),
        owners=("team:data",),
        said_by={"owners": "owners of the asset (enrichment)"},
        count=3,
        key=key,
        began_ns=TWO,
        number=1,
        reason="first",
        channels=("slack", "email"),
    )
    return msgspec.structs.replace(base, **changes)


def failed(of: Alert, n: int) -> Occurred:
    at = TWO + 5 * n * MINUTE
    return Occurred(of.key, TWO, n, at, at, of.fingerprint, "ERROR", "counted", run_id=f"r{n}")


@pytest.fixture
def history(folder: Path) -> Path:
    """Two open alerts and one that is over."""
    first = alert("v1:3f2a00000000aaaa#2")
    second = alert("v1:3f9900000000bbbb#1", asset="raw/orders", check="row_count", severity="WARNING", error=None)
    over = alert("v1:777700000000cccc#1", asset="mart/x", last_ns=TWO - MINUTE)
    parts = Parts(
        "asset_failure", ("glucose_entries",), "", ("TimeoutError",), ("app/readings.py:fetch",), ("timeout",)
    )
    silent = msgspec.structs.replace(first, number=2, state="digest", now_ns=TWO + MINUTE, channels=(NOBODY,))
    writer = HistoryWriter(Place("history.db"), keep=100)
    writer.write(
        [
            Standing(first.key, TWO, TWO, "firing", first, told=("slack", "email")),
            Standing(second.key, TWO, TWO, "held", second, held="silenced", held_until_ns=TWO + 60 * MINUTE),
            Standing(over.key, TWO, TWO, "resolved", over, ended_ns=TWO + MINUTE),
            *(
                Occurred(
                    first.key, TWO, n, TWO, TWO + 5 * n * MINUTE, first.fingerprint, "ERROR", "counted", run_id=f"r{n}"
                )
                for n in range(1, 4)
            ),
            Decided(first.key, TWO, 1, TWO, "first", detail="firing"),
            Decided(first.key, TWO, 2, TWO, "counted", 2),
            Decided(first.key, TWO, 5, TWO, "rate_limited", detail="slack, email"),
            Made(first.fingerprint, TWO, parts, "timeout 30"),
            Notified(notification_id(first), first),
            Routed(notification_id(first), TWO, (("slack", "severity ERROR"), ("email", "route 1"))),
            Delivered((notification_id(first),), "slack/data", "delivered", TWO + MINUTE, 3, "429 Too Many"),
            Notified(notification_id(silent), silent),
        ],
        1,
    )
    writer.close()
    return folder / "history.db"


@pytest.mark.usefixtures("history")
def test_the_open_ones_come_first_in_eighty_columns(dagtel: Dagtel) -> None:
    asked = dagtel("alerts", "list", *STORE)
    assert asked.exit_code == 0
    assert asked.stdout == (
        "ID          SEVERITY  STATUS     ALERT                       FAILED  LATEST\n"
        "3f2a0000#2  ERROR     firing     glucose_entries                  3  2024-01-15\n"
        "                                 Connection timeout after …\n"
        "3f990000#1  WARNING   held       raw/orders (row_count)           3  2024-01-15\n"
        "                      silenced   Asset Materialization Fai…\n"
        "77770000#1  ERROR     resolved   mart/x                           3  2024-01-15\n"
        "                                 Connection timeout after …\n"
    )


@pytest.mark.usefixtures("history")
def test_what_is_long_is_cut_and_pushes_nothing_out(dagtel: Dagtel) -> None:
    long = alert("v1:888800000000dddd#1", asset="raw/" + "orders_" * 20, error=ErrorInfo("E", "x" * 500))
    writer = HistoryWriter(Place("history.db"), keep=100)
    writer.write([Standing(long.key, TWO, TWO, "firing", long)], 2)
    writer.close()
    for width in (80, 130):
        lines = dagtel("alerts", "list", *STORE, "--asset", "raw/*_", COLUMNS=str(width)).stdout.splitlines()
        assert lines[0].endswith("  FAILED  LATEST")
        assert lines[1].endswith("…       3  2024-01-15")
        assert max(map(len, lines)) <= width


@pytest.mark.usefixtures("history")
def test_they_are_asked_for_by_what_they_are(dagtel: Dagtel) -> None:
    def keys(*options: str) -> list[str]:
        return [row["asset"] for row in json.loads(dagtel("alerts", "list", *STORE, "--json", *options).stdout)]

    assert keys() == ["glucose_entries", "raw/orders", "mart/x"]
    assert keys("--open") == ["glucose_entries", "raw/orders"]
    assert keys("--severity", "error") == ["glucose_entries", "mart/x"]
    assert keys("--asset", "raw/*") == ["raw/orders"]
    assert keys("--since", "2024-01-15T02:05") == ["glucose_entries", "raw/orders"]
    assert keys("--limit", "1") == ["glucose_entries"]
    assert dagtel("alerts", "list", *STORE, "--asset", "no").stdout == "No alert is like that.\n"
    assert dagtel("alerts", "list", *STORE, "--limit", "1").stdout.endswith("2 more are not shown (--limit).\n")


@pytest.mark.usefixtures("history")
def test_one_is_shown_with_its_life(dagtel: Dagtel) -> None:
    asked = dagtel("alerts", "show", "3f2a", *STORE, "--occurrences", "2")
    assert asked.exit_code == 0
    for line in (
        "ID            v1:3f2a00000000aaaa#2",
        "Partitions    2 failing: 2024-01-14, 2024-01-15",
        "Error         TimeoutError: Connection timeout after 30s",
        "              readings.py:45",
        "Failures, the latest 2 of 3:",
        "  #3    2024-01-15 02:15:00Z  counted  run r3",
        "  #1    2024-01-15 02:00:00Z  firing     ERROR     first, 3 failures",
        "        slack/data delivered 2024-01-15 02:01:00Z after 3 calls: 429 Too Many",
        "        rate limited: told with others in one digest",
    ):
        assert line in asked.stdout, asked.stdout
    assert "  #1    2024-01-15 02:05" not in asked.stdout
    whole = json.loads(dagtel("alerts", "show", "3f2a", *STORE, "--json").stdout)
    assert [one["run_id"] for one in whole["occurrences"]] == ["r1", "r2", "r3"]
    assert whole["notifications"][0]["deliveries"] == [
        {
            "notifier": "slack/data",
            "outcome": "delivered",
            "at": "2024-01-15T02:01:00Z",
            "attempts": 3,
            "answer": "429 Too Many",
        }
    ]
    assert whole["alert"]["error"]["line"] == 45


@pytest.mark.usefixtures("history")
def test_one_is_explained(dagtel: Dagtel) -> None:
    asked = dagtel("alerts", "explain", "v1:3f2a00000000aaaa#2", *STORE)
    assert asked.exit_code == 0
    for line in (
        "  asset       glucose_entries",
        "  frames      app/readings.py:fetch",
        "  message     timeout\n  unmasked    timeout 30",
        "  severity    ERROR: the failure itself",
        "  owners      team:data: owners of the asset (enrichment)",
        "counted ×2: failed again: counted",
        "  … 2 decisions are no more kept",
        "rate_limited [slack, email]",
        "        to email: route 1\n        to slack: severity ERROR\n",
        "        no delivery on record: email",
    ):
        assert line in asked.stdout, asked.stdout
    other = dagtel("alerts", "explain", "7777", *STORE)
    assert "What it is made of is not known" in other.stdout


@pytest.mark.usefixtures("history")
def test_an_id_that_is_none_or_many_is_answered_with_near_ones(dagtel: Dagtel) -> None:
    several = dagtel("alerts", "show", "3f", *STORE)
    assert (several.exit_code, several.stdout) == (1, "")
    assert several.stderr == (
        "dagtel: '3f' begins 2 alerts; say more of it\n"
        "  v1:3f2a00000000aaaa#2  firing  glucose_entries\n"
        "  v1:3f9900000000bbbb#1  held  raw/orders\n"
    )
    assert dagtel("alerts", "show", "\x1b[2J", *STORE).stderr.count("\x1b") == 0


def test_colours_are_for_terminals_that_want_them(dagtel: Dagtel, history: Path) -> None:
    plain = dagtel("alerts", "list", *STORE, FORCE_COLOR="")
    assert "\x1b" not in plain.stdout
    assert "\x1b" in dagtel("alerts", "list", *STORE, FORCE_COLOR="1", NO_COLOR="", TERM="xterm").stdout
    assert "\x1b[3" not in dagtel("alerts", "list", *STORE, FORCE_COLOR="1", NO_COLOR="1", TERM="xterm").stdout


@pytest.mark.usefixtures("history")
def test_the_configuration_says_where_the_history_is(dagtel: Dagtel, folder: Path) -> None:
    (folder / "d.yaml").write_text("exporters:\n  store: {path: history.db}\n")
    assert "glucose_entries" in dagtel("alerts", "list", "-c", "d.yaml").stdout
    (folder / "none.yaml").write_text("exporters:\n  console:\n")
    none = dagtel("alerts", "list", "-c", "none.yaml")
    assert (none.exit_code, "has no exporter `store`" in none.stderr) == (2, True)
    (folder / "two.yaml").write_text("exporters:\n  store/a:\n  store/b:\n")
    two = dagtel("alerts", "list", "-c", "two.yaml")
    assert (two.exit_code, "has 2 exporters `store`" in two.stderr) == (2, True)
    secret = "postgresql://u:hunter2@127.0.0.1:1/x"
    (folder / "pg.yaml").write_text(f"exporters:\n  store: {{postgresql: {{url: '{secret}'}}}}\n")
    gone = dagtel("alerts", "list", "-c", "pg.yaml")
    assert (gone.exit_code, "hunter2" in gone.output) == (1, False)
    assert "the history in PostgreSQL at 127.0.0.1:1/x, schema dagtel_history, cannot be used now" in gone.stderr


def test_what_cannot_be_asked(dagtel: Dagtel, folder: Path) -> None:
    assert dagtel("alerts", "list").exit_code == 2
    assert dagtel("alerts", "list", *STORE, "-c", "x.yaml").exit_code == 2
    assert dagtel("alerts", "list", *STORE, "--severity", "LOUD").exit_code == 2
    assert dagtel("alerts", "list", *STORE, "--since", "soon").exit_code == 2
    missing = dagtel("alerts", "list", *STORE)
    assert (missing.exit_code, missing.stderr.startswith("dagtel: there is no history history.db")) == (1, True)


def test_an_empty_history(dagtel: Dagtel, folder: Path) -> None:
    writer = HistoryWriter(Place("history.db"), keep=100)
    writer.write([], 1)
    writer.close()
    assert dagtel("alerts", "list", *STORE).stdout == "There are no alerts.\n"
    assert dagtel("alerts", "list", *STORE, "--json").stdout == "[]\n"
