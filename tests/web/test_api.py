"""`/api/v1`: who is let in, what is taken, and what is answered."""

from pathlib import Path
from typing import Any

import pytest

from pipeline.alert_commands import Acknowledge, Expire, Resolve, Silence
from pipeline.config.model import WebserverConfig
from pipeline.options import Secret
from tests.web.acting_desk import NOW, FakeDagster, an_office

pytestmark = pytest.mark.anyio

TOKEN = "t0ken-t0ken-t0ken"
V1 = "/api/v1"


# --- who is let in ---


@pytest.mark.parametrize(
    "shown", ["", "Bearer", "Bearer ", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", f"Basic {TOKEN}", "Bearer \u00e9"]
)
async def test_with_a_token_nobody_is_let_in_without_it(tmp_path: Path, shown: str) -> None:
    async with an_office(tmp_path, token=Secret(TOKEN)) as office, office.client() as client:
        headers = {"Authorization": shown.encode()} if shown else {}
        for method, path in (
            ("GET", "/silences"),
            ("POST", "/silences"),
            ("DELETE", "/silences/x"),
            ("GET", "/alerts"),
        ):
            answer = await client.request(method, V1 + path, headers=headers)  # type: ignore[arg-type]
            assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
            assert TOKEN not in answer.text
        assert office.asked == []


async def test_with_a_token_its_bearer_may_call_from_anywhere(tmp_path: Path) -> None:
    headers = {"Authorization": f"bearer {TOKEN}"}
    async with (
        an_office(tmp_path, token=Secret(TOKEN), address="0.0.0.0:8890") as office,
        office.client("http://dagtel.example.com", **headers) as client,
    ):
        assert (await client.get(f"{V1}/silences")).json() == []


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example:8890"}, 403),  # a name that was made to point here
        ({"Host": "127.0.0.1.evil.example"}, 403),
        ({"Host": ""}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Origin": "https://evil.example"}, 403),
        ({"Content-Type": "text/plain"}, 415),  # what a form of another site can send
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415),
        ({"Host": "127.0.0.1:8890"}, 201),
        ({"Host": "[::1]:8890"}, 201),
        ({"Host": "localhost"}, 201),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "http://localhost:8890"}, 201),
    ],
)
async def test_without_a_token_no_page_of_another_site_gets_through(
    tmp_path: Path, headers: dict[str, str], status: int
) -> None:
    async with an_office(tmp_path) as office, office.client() as client:
        sent = {"Content-Type": "application/json", **headers}
        answer = await client.post(f"{V1}/silences", content=b'{"asset": "x", "for": "1h"}', headers=sent)
        assert answer.status_code == status, answer.text
        assert len(office.asked) == (status == 201)


async def test_the_answer_tells_a_browser_to_do_nothing_with_it(tmp_path: Path) -> None:
    async with an_office(tmp_path) as office, office.client() as client:
        for path in (f"{V1}/silences", f"{V1}/nothing", "/act"):
            headers = (await client.get(path)).headers
            assert headers["content-security-policy"].startswith("default-src 'none'")
            assert headers["x-content-type-options"] == "nosniff"
            assert "access-control-allow-origin" not in headers


# --- silences ---


async def test_a_silence_is_added_listed_and_ended(tmp_path: Path) -> None:
    async with an_office(tmp_path) as office, office.client() as client:
        wish = {"asset": "raw/orders", "job": 'a"b', "for": "2h", "by": "Ann\n", "why": "moving", "id": "change-1"}
        added = await client.post(f"{V1}/silences", json=wish)
        assert (added.status_code, added.json()["id"], added.json()["new"]) == (201, "change-1", True)
        again = await client.post(f"{V1}/silences", json=wish)
        assert (again.status_code, again.json()["new"]) == (200, False)
        (silence,) = office.asked
        when = 'asset == "raw/orders" && job == "a\\"b"'
        assert silence == Silence("change-1", NOW * 10**9, when, (NOW + 7200) * 10**9, "Ann", "moving")
        (listed,) = (await client.get(f"{V1}/silences")).json()
        assert (listed["when"], listed["until"], listed["in_force"]) == (when, "2026-11-23T14:00:00Z", False)
        assert (await client.delete(f"{V1}/silences/change-1", headers=JSON)).status_code == 201
        assert isinstance(office.asked[-1], Expire)
        assert (await client.get(f"{V1}/silences")).json() == []
        assert (await client.delete(f"{V1}/silences/change-1", headers=JSON)).status_code == 404


JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({}, "for how long"),
        ({"for": "1h"}, "what is to be silent"),
        ({"asset": "x", "for": "soon"}, "no duration"),
        ({"asset": "x", "for": "1h", "until": "2027-01-01"}, "for how long"),
        ({"asset": "x", "until": "2020-01-01"}, "over before it begins"),
        ({"when": "asset ==", "for": "1h"}, "is no expression"),
        ({"when": 'asset == "x"', "job": "y", "for": "1h"}, "either"),
        ({"asset": "x", "for": "1h", "id": "\u00e9"}, "an id is"),
        ({"asset": "x", "for": "1h", "colour": "red"}, "colour"),
        ({"asset": 7, "for": "1h"}, "Expected `str`"),
        ([], "Expected `object`"),
    ],
)
async def test_what_cannot_be_a_silence_is_refused_with_a_reason(tmp_path: Path, body: Any, said: str) -> None:
    async with an_office(tmp_path) as office, office.client() as client:
        answer = await client.post(f"{V1}/silences", json=body)
        assert (answer.status_code, said in answer.json()["error"]) == (400, True), answer.text
        assert office.asked == []


@pytest.mark.parametrize(("body", "status"), [(b"{", 400), (b"\xff", 400), (b'{"asset":"' + b"x" * 70_000, 413)])
async def test_broken_and_endless_bodies_are_refused(tmp_path: Path, body: bytes, status: int) -> None:
    async with an_office(tmp_path) as office, office.client() as client:
        assert (await client.post(f"{V1}/silences", content=body, headers=JSON)).status_code == status
        assert office.asked == []


# --- alerts ---


@pytest.mark.parametrize("name", ["v1:ab", "v1:ab%232"])
async def test_an_open_alert_is_acknowledged_and_resolved(tmp_path: Path, name: str) -> None:
    async with an_office(tmp_path) as office, office.client() as client:
        office.open("v1:ab")
        said = await client.post(f"{V1}/alerts/{name}/acknowledge", json={"by": "Ann", "why": "on it"})
        assert said.status_code == 201
        assert (await client.post(f"{V1}/alerts/{name}/resolve", headers=JSON)).status_code == 201
        whole = name.replace("%23", "#")
        first, second = office.asked
        assert isinstance(first, Acknowledge) and isinstance(second, Resolve)
        assert (first.alert, first.by, first.why, second.alert) == (whole, "Ann", "on it", whole)
        (listed,) = (await client.get(f"{V1}/acknowledgements")).json()
        assert (listed["alert"], listed["by"], listed["in_force"]) == (whole, "Ann", False)


async def test_what_is_not_open_is_not_found(tmp_path: Path) -> None:
    async with an_office(tmp_path) as office, office.client() as client:
        for path, body in (
            ("/alerts/v1:ab/acknowledge", {}),
            ("/alerts/v1:ab/resolve", {}),
            ("/acknowledgements", {"alert": "v1:ab"}),
            ("/silences/none/expire", {}),
        ):
            assert (await client.post(V1 + path, json=body)).status_code == 404
        assert (await client.post(f"{V1}/acknowledgements", json={})).status_code == 400
        assert office.asked == []


async def test_without_a_history_the_list_says_what_is_missing(tmp_path: Path) -> None:
    async with an_office(tmp_path) as office, office.client() as client:
        answer = await client.get(f"{V1}/alerts")
        assert (answer.status_code, "exporter `store`" in answer.json()["error"]) == (404, True)


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=501", "limit=x", "limit=\u0661", "open=maybe", "severity=BAD", "since=noon", "x=1"]
)
async def test_a_query_that_makes_no_sense_is_refused(tmp_path: Path, query: str) -> None:
    async with an_office(tmp_path) as office, office.client() as client:
        assert (await client.get(f"{V1}/alerts?{query}")).status_code == 400


# --- retries ---


async def test_a_run_is_retried_once(tmp_path: Path) -> None:
    api = {"dagster": WebserverConfig(url="http://dagster:3000", headers={"X-Key": Secret("s3cret")})}
    async with an_office(tmp_path, **api) as office, office.client() as client:
        dagster = FakeDagster({"run-1": "FAILURE", "run-2": "SUCCESS"})
        office.http.answer = dagster.answer
        first = await client.post(f"{V1}/retries", json={"run": "run-1", "by": "Ann"})
        assert (first.status_code, first.json()) == (201, {"run": "run-1", "launched": "again-1", "new": True})
        second = await client.post(f"{V1}/retries", json={"run": "run-1"})
        assert (second.status_code, second.json()["new"]) == (200, False)
        assert (await client.post(f"{V1}/retries", json={"run": "run-2"})).status_code == 409
        assert dagster.launched == ["run-1"]
        assert office.http.requests[0][1] == "http://dagster:3000/graphql"
        assert office.http.requests[0][3]["X-Key"] == "s3cret"
        dagster.away = True
        away = await client.post(f"{V1}/retries", json={"run": "run-1"})
        assert (away.status_code, away.headers["retry-after"]) == (503, "60")


async def test_without_a_webserver_nothing_is_retried(tmp_path: Path) -> None:
    async with an_office(tmp_path) as office, office.client() as client:
        answer = await client.post(f"{V1}/retries", json={"run": "run-1"})
        assert (answer.status_code, "service.api.dagster.url" in answer.json()["error"]) == (409, True)
