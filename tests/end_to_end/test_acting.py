"""Links, API and command line on a real daemon that is killed between what was asked and what comes of it."""

import json
import os
import re
import signal
import subprocess
import time
import urllib.error
import urllib.request
from typing import Any

import pytest

from tests.end_to_end.daemon import DAGTEL, Daemon, append, lines, until
from tests.ports import free_address

pytestmark = pytest.mark.timeout(900)


@pytest.fixture
def acting(daemon: Daemon) -> Daemon:
    """A daemon with an API and links; its alerts are in `out/alerts.jsonl`."""
    address = free_address()
    service = daemon.config["service"]
    daemon.config["processors"]["dedup"] = {"group_wait": "0s", "catch_up_after": "0s"}
    service["clock"] = "system"
    daemon.config["connectors"] = {"alerts": {}}
    daemon.config["exporters"] = {"file/alerts": {"path": str(daemon.out / "alerts.jsonl")}}
    service["api"] = {"address": address, "url": f"http://{address}"}
    service["pipelines"] = {
        "events": {"receivers": ["file"], "processors": ["run_ledger"], "exporters": ["alerts"]},
        "alerts": {"receivers": ["alerts"], "processors": ["dedup"], "exporters": ["file/alerts"]},
    }
    return daemon


def call(url: str, method: str = "GET", body: bytes | None = None, **headers: str) -> tuple[int, str]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        request = urllib.request.Request(url, body, named, method=method)
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def api(daemon: Daemon, path: str, method: str = "GET", body: object = None) -> Any:
    url = f"{daemon.config['service']['api']['url']}/api/v1{path}"
    sent = json.dumps(body).encode() if body is not None else None
    status, text = call(url, method, sent, Content_Type="application/json")
    assert status < 300, text
    return json.loads(text)


def dagtel(daemon: Daemon, *arguments: str) -> Any:
    command = [DAGTEL, *arguments, "--config", str(daemon.file), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def kill(daemon: Daemon) -> None:
    daemon.process.kill()
    daemon.process.wait()


def a_failure(daemon: Daemon, state: str = "firing", kind: str = "asset_failure") -> dict[str, Any]:
    found = until(
        f"a {state} {kind}",
        lambda: [a for a in daemon.logs("alerts.jsonl") if (a["state"], a["kind"]) == (state, kind)],
    )
    return dict(found[0])


def resolved(daemon: Daemon, fingerprint: str) -> list[dict[str, Any]]:
    told = daemon.logs("alerts.jsonl")
    return [a for a in told if (a["state"], a["reason"], a["fingerprint"]) == ("resolved", "by_hand", fingerprint)]


@pytest.mark.parametrize("pause", [0.0, 0.02, 0.2])
def test_killed_after_the_click_it_is_silenced_once_all_the_same(acting: Daemon, pause: float) -> None:
    acting.start()
    append(acting, lines(2500))
    alert = a_failure(acting)
    link = alert["links"]["silence"]
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/act/[\w.-]+", link)
    status, page = call(link)
    assert (status, "Silence this alert for 1 hour?" in page) == (200, True)
    assert api(acting, "/silences") == []
    status, page = call(link, "POST", b"by=Ann")
    assert (status, "Silenced" in page) == (200, True)
    time.sleep(pause)  # of the effect nothing, some or all is committed by now
    kill(acting)
    acting.start()
    silences = until("the silence", lambda: [s for s in api(acting, "/silences") if s["in_force"]])
    assert [(s["when"], s["by"]) for s in silences] == [(f'fingerprint == "{alert["fingerprint"]}"', "Ann")]
    assert "It is done already" in call(link, "POST", b"by=Bob")[1]
    assert api(acting, "/silences") == silences


@pytest.mark.parametrize("pause", [0.0, 0.05])
def test_killed_after_the_call_it_is_told_as_resolved_once(acting: Daemon, pause: float) -> None:
    acting.start()
    append(acting, lines(2500))
    fingerprint = a_failure(acting)["fingerprint"]
    api(acting, f"/alerts/{fingerprint}/resolve", "POST", {"by": "Ann", "why": "by hand"})
    time.sleep(pause)
    kill(acting)
    acting.start()
    until("its end", lambda: resolved(acting, fingerprint))
    kill(acting)
    acting.start()
    until("it stays so", lambda: call(f"http://{acting.health}/readyz")[0] == 200)
    until("its end, also if its line was cut off to be written again", lambda: resolved(acting, fingerprint))
    time.sleep(0.7)  # what was left is sent by now
    assert len(resolved(acting, fingerprint)) == 1


def test_what_is_asked_beside_a_daemon_that_cannot_act_is_done_by_the_next(acting: Daemon) -> None:
    """Stopped, it can certainly not have seen it; then it is killed."""
    acting.start()
    append(acting, lines(2500))
    fingerprint = a_failure(acting)["fingerprint"]
    until("all is committed", lambda: len(acting.logs("alerts.jsonl")) > 5)
    os.kill(acting.process.pid, signal.SIGSTOP)
    try:
        silence = dagtel(acting, "silence", "add", "--asset", "raw/orders", "--for", "2h", "--by", "Ann")
        dagtel(acting, "alerts", "resolve", fingerprint)
        assert silence["daemon"] is True
        assert [s["in_force"] for s in dagtel(acting, "silence", "list")] == [False]
    finally:
        kill(acting)
    assert resolved(acting, fingerprint) == []
    acting.start()
    until("its end", lambda: resolved(acting, fingerprint))
    until("in force", lambda: [s["in_force"] for s in dagtel(acting, "silence", "list")] == [True])
    acting.stop()
    assert dagtel(acting, "silence", "expire", silence["id"])["daemon"] is False
    assert dagtel(acting, "silence", "list") == []
    acting.start()
    until("its end", lambda: api(acting, "/silences") == [])
    assert len(resolved(acting, fingerprint)) == 1


def test_an_acknowledged_problem_says_so_in_what_is_told_next(acting: Daemon) -> None:
    acting.start()
    append(acting, lines(2500))
    alert = a_failure(acting)
    assert "Acknowledged" in call(alert["links"]["acknowledge"], "POST", b"by=Ann")[1]
    until("in force", lambda: [a["in_force"] for a in api(acting, "/acknowledgements")] == [True])
    api(acting, f"/alerts/{alert['fingerprint']}/resolve", "POST", {})
    end = until("its end", lambda: resolved(acting, alert["fingerprint"]))
    assert end[0]["acknowledged_by"] == "Ann"
    assert not {"silence", "acknowledge", "retry"} & end[0]["links"].keys()


def test_a_reload_changes_the_links_and_who_is_let_in(acting: Daemon) -> None:
    acting.start()
    acting.config["service"]["api"] |= {"token": "t" * 20, "url": "https://dagtel.example.com/x"}
    acting.reload()
    append(acting, lines(2500))
    assert a_failure(acting)["links"]["silence"].startswith("https://dagtel.example.com/x/act/")
    address = f"http://{acting.config['service']['api']['address']}/api/v1/silences"
    assert call(address)[0] == 401
    assert call(address, Authorization="Bearer " + "t" * 20) == (200, "[]\n")


def test_without_a_url_messages_have_no_links_that_act(acting: Daemon) -> None:
    del acting.config["service"]["api"]["url"]
    acting.start()
    append(acting, lines(2500))
    assert not {"silence", "acknowledge", "retry"} & a_failure(acting)["links"].keys()
