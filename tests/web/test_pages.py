"""The links' pages: looking changes nothing, the button does it once, everything else says plainly why not."""

import re
from pathlib import Path

import pytest

from pipeline.action_links import Signer
from pipeline.alert_commands import Acknowledge, Silence
from pipeline.errors import RetryableError
from tests.web.acting_desk import NOW, FakeDagster, an_office

pytestmark = pytest.mark.anyio


def api(**more: object) -> dict[str, object]:
    from pipeline.config.model import WebserverConfig

    return {"dagster": WebserverConfig(url="http://dagster:3000"), **more}


@pytest.mark.parametrize("deed", ["silence", "acknowledge", "retry"])
async def test_a_chat_program_that_fetches_the_link_changes_nothing(tmp_path: Path, deed: str) -> None:
    async with an_office(tmp_path, **api()) as office, office.client() as client:
        office.open("v1:ab")
        dagster = FakeDagster({"run-1": "FAILURE"})
        office.http.answer = dagster.answer
        link = office.link(deed, run="run-1" if deed == "retry" else "")
        for _ in range(3):
            shown = await client.get(link, headers={"User-Agent": "Slackbot-LinkExpanding 1.0"})
            assert shown.status_code == 200
            assert '<form method="post">' in shown.text
            assert (await client.head(link)).status_code == 200
        for method in ("PUT", "DELETE", "PATCH", "OPTIONS"):
            assert (await client.request(method, link)).status_code == 405
        assert (office.asked, office.pokes, dagster.launched) == ([], 0, [])


async def test_the_button_silences_for_an_hour_and_once(tmp_path: Path) -> None:
    async with an_office(tmp_path) as office, office.client() as client:
        office.open("v1:ab")
        done = await client.post(office.link(), data={"by": "Ann"})
        assert (done.status_code, "Silenced" in done.text) == (200, True)
        (silence,) = office.asked
        assert isinstance(silence, Silence)
        assert (silence.when, silence.by) == ('fingerprint == "v1:ab"', "Ann")
        assert silence.until_ns - silence.now_ns == 3600 * 10**9
        assert office.pokes == 1
        office.clock.advance(1800)
        for again in (await client.post(office.link(), data={"by": "Bob"}), await client.get(office.link())):
            assert "It is done already" in again.text
            assert "2026-11-23 12:00 UTC" in again.text
            assert "<form" not in again.text
        assert office.asked == [silence]


async def test_the_button_acknowledges_and_a_name_is_not_needed(tmp_path: Path) -> None:
    async with an_office(tmp_path) as office, office.client() as client:
        office.open("v1:ab")
        assert "Acknowledged" in (await client.post(office.link("acknowledge"))).text
        (said,) = office.asked
        assert isinstance(said, Acknowledge)
        assert (said.alert, said.by) == ("v1:ab#2", "a link in a message")


async def test_what_is_over_is_not_acknowledged(tmp_path: Path) -> None:
    async with an_office(tmp_path) as office, office.client() as client:
        for answer in (await client.get(office.link("acknowledge")), await client.post(office.link("acknowledge"))):
            assert (answer.status_code, "It is over" in answer.text) == (409, True)
        assert office.asked == []


async def test_an_expired_a_forged_and_a_foreign_link_say_so_and_do_nothing(tmp_path: Path) -> None:
    async with an_office(tmp_path) as office, office.client() as client:
        office.open("v1:ab")
        expired = office.link(until=NOW)
        whole = office.link()
        office.signer = Signer(["f" * 32])
        foreign = office.link()
        cut = whole[:-3]
        for link, status, said in (
            (expired, 410, "This link is too old"),
            (cut, 403, "This link does not work"),
            (foreign, 403, "was not made by this dagtel"),
            ("/act/" + "A" * 5000, 403, "This link does not work"),
        ):
            for answer in (await client.get(link), await client.post(link)):
                assert answer.status_code == status
                assert said in answer.text
                assert "<form" not in answer.text
        assert office.asked == []


async def test_hostile_names_are_shown_as_text(tmp_path: Path) -> None:
    evil = '<script>alert(1)</script>"><img src=x onerror=alert(1)>{{7*7}}'
    async with an_office(tmp_path) as office, office.client() as client:
        office.open("v1:ab")
        page = await client.get(office.link(about=evil))
        assert "<script" not in page.text and "<img" not in page.text
        assert "&lt;script&gt;" in page.text and "{{7*7}}" in page.text
        done = await client.post(office.link("acknowledge", about=evil), data={"by": evil})
        assert "<script" not in done.text and "<img" not in done.text


async def test_a_browser_may_show_the_page_and_send_its_form_and_nothing_else(tmp_path: Path) -> None:
    async with an_office(tmp_path) as office, office.client() as client:
        pages = [await client.get(office.link()) for _ in range(2)]
        nonces = [re.search(r'<style nonce="([^"]+)">', page.text)[1] for page in pages]  # type: ignore[index]
        assert nonces[0] != nonces[1]
        assert pages[0].headers["content-security-policy"] == (
            f"default-src 'none'; style-src 'nonce-{nonces[0]}'; form-action 'self'; base-uri 'none'; "
            "frame-ancestors 'none'"
        )
        wanted = {"cache-control": "no-store", "x-frame-options": "DENY", "x-content-type-options": "nosniff"}
        assert wanted.items() <= dict(pages[0].headers).items()
        assert "noindex" in pages[0].headers["x-robots-tag"]


@pytest.mark.parametrize(
    "headers", [{"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}, {"Origin": "https://evil.example"}]
)
async def test_a_form_on_another_site_does_nothing(tmp_path: Path, headers: dict[str, str]) -> None:
    async with an_office(tmp_path) as office, office.client() as client:
        assert (await client.post(office.link(), headers=headers)).status_code == 403
        assert office.asked == []


async def test_a_body_is_bounded(tmp_path: Path) -> None:
    async with an_office(tmp_path) as office, office.client() as client:
        answer = await client.post(office.link(), content=b"by=" + b"x" * 100_000)
        assert answer.status_code == 413
        assert (await client.post(office.link(), content="&".join(f"a{n}=1" for n in range(99)))).status_code == 400
        assert office.asked == []


async def test_retry_launches_once_by_all_links_of_the_run(tmp_path: Path) -> None:
    async with an_office(tmp_path, **api()) as office, office.client() as client:
        dagster = FakeDagster({"run-1": "FAILURE"})
        office.http.answer = dagster.answer
        first = await client.post(office.link("retry", run="run-1"), data={"by": "Ann"})
        assert "Launched" in first.text and "again-1" in first.text
        second = await client.post(office.link("retry", run="run-1", alert="v1:cd#1", until=NOW + 99))
        assert "It has been retried already" in second.text and "again-1" in second.text
        assert "It has been retried already" in (await client.get(office.link("retry", run="run-1"))).text
        assert dagster.launched == ["run-1"]


async def test_killed_between_the_launch_and_its_note_the_next_click_finds_the_run(tmp_path: Path) -> None:
    async with an_office(tmp_path, **api()) as office, office.client() as client:
        dagster = FakeDagster({"run-1": "FAILURE"})
        office.http.answer = dagster.answer

        def lose_the_answer() -> None:
            raise RetryableError("the connection was cut")

        dagster.after_launch = lose_the_answer
        lost = await client.post(office.link("retry", run="run-1"))
        assert (lost.status_code, "does not answer" in lost.text) == (503, True)
        dagster.after_launch = lambda: None
        again = await client.post(office.link("retry", run="run-1"))
        assert "It has been retried already" in again.text and "again-1" in again.text
        assert dagster.launched == ["run-1"]


async def test_a_launch_without_an_answer_is_not_made_again_at_once_and_then_it_is(tmp_path: Path) -> None:
    async with an_office(tmp_path, **api()) as office, office.client() as client:
        dagster = FakeDagster({"run-1": "FAILURE"})
        office.http.answer = dagster.answer
        link = office.link("retry", run="run-1", until=NOW + 9999)

        def never_arrived() -> None:
            dagster.launched.clear()
            raise RetryableError("it took too long")

        dagster.after_launch = never_arrived
        assert (await client.post(link)).status_code == 503
        dagster.after_launch = lambda: None
        office.clock.advance(30)
        assert "look again in a minute" in (await client.post(link)).text
        assert dagster.launched == []
        office.clock.advance(31)
        assert "Launched" in (await client.post(link)).text
        assert dagster.launched == ["run-1"]


async def test_what_dagster_refuses_may_be_asked_again(tmp_path: Path) -> None:
    async with an_office(tmp_path, **api()) as office, office.client() as client:
        dagster = FakeDagster({"run-1": "FAILURE"}, refuses="you <b>may</b> not\n\x1b[2J")
        office.http.answer = dagster.answer
        refused = await client.post(office.link("retry", run="run-1"))
        assert refused.status_code == 409
        assert "You &lt;b&gt;may&lt;/b&gt; not" in refused.text and "\x1b" not in refused.text
        dagster.refuses = ""
        assert "Launched" in (await client.post(office.link("retry", run="run-1"))).text


@pytest.mark.parametrize(
    ("run", "status", "said"),
    [("going", 409, "STARTED"), ("unknown", 409, "could not be found")],
)
async def test_a_run_that_cannot_go_on_from_a_failure_is_not_launched(
    tmp_path: Path, run: str, status: int, said: str
) -> None:
    async with an_office(tmp_path, **api()) as office, office.client() as client:
        dagster = FakeDagster({"going": "STARTED"})
        office.http.answer = dagster.answer
        for answer in (
            await client.get(office.link("retry", run=run)),
            await client.post(office.link("retry", run=run)),
        ):
            assert answer.status_code == status
            assert said in answer.text
            assert "<form" not in answer.text
        assert dagster.launched == []


async def test_without_an_answer_the_page_says_so(tmp_path: Path) -> None:
    async with an_office(tmp_path, **api()) as office, office.client() as client:
        dagster = FakeDagster({"run-1": "FAILURE"})
        dagster.away = True
        office.http.answer = dagster.answer
        for answer in (
            await client.get(office.link("retry", run="r")),
            await client.post(office.link("retry", run="r")),
        ):
            assert (answer.status_code, "Dagster does not answer" in answer.text) == (503, True)
