"""The links' pages in a real browser: they can be read, the button works, and the policy blocks nothing of ours."""

from functools import partial
from pathlib import Path
from typing import Any

import anyio.to_thread
import pytest

from pipeline.alert_commands import Silence
from pipeline.web.app import serve
from tests.ports import free_address
from tests.web.acting_desk import Office, an_office
from tests.web.browser import PROGRAM, Browser, a_browser

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.integration,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not PROGRAM, reason="there is no chromium, and DAGTEL_TEST_CHROMIUM names none"),
]


def look_and_click(office: Office, base: str, folder: Path) -> dict[str, Any]:
    """What a person sees, before and after pressing the button."""
    seen: dict[str, Any] = {}
    with a_browser() as browser:
        browser.go(base + office.link(about="raw/<script>alert(1)</script>" + "orders_" * 12))
        seen["asked before"] = list(office.asked)
        for dark in (False, True):
            browser.paint(dark)
            seen["back", dark] = browser.run("getComputedStyle(document.body).backgroundColor")
            seen["ink", dark] = browser.run("getComputedStyle(document.querySelector('h1')).color")
            browser.photograph(folder / f"silence-{'dark' if dark else 'light'}.png")
        seen["wide"] = browser.run("document.documentElement.scrollWidth <= innerWidth")
        seen["button"] = browser.run("document.querySelector('button').getBoundingClientRect().height")
        seen["scripts"] = browser.run("document.scripts.length")
        _press(browser, "Ann O'Neil")
        browser.until("document.querySelector('h1')?.textContent == 'Silenced'")
        browser.photograph(folder / "silenced.png")
        browser.call("Page.reload")  # sends the form again, as a person who reloads does
        browser.until("document.querySelector('h1')?.textContent == 'It is done already'")
        seen["complaints"] = browser.complaints
    return seen


def _press(browser: Browser, name: str) -> None:
    browser.run(f"document.querySelector('input').value = {name!r}")
    browser.run("document.querySelector('button').click()")


async def test_a_person_reads_the_page_on_a_phone_and_presses_the_button(tmp_path: Path) -> None:
    address = free_address()
    async with an_office(tmp_path) as office:
        office.open("v1:ab")
        async with serve({address: {"/act/*": office._app}}):
            seen = await anyio.to_thread.run_sync(partial(look_and_click, office, f"http://{address}", tmp_path))
        assert seen["asked before"] == []
        assert seen["complaints"] == []
        assert seen["wide"], "it has to be scrolled sideways"
        assert seen["button"] >= 40, "too small for a thumb"
        assert seen["scripts"] == 0
        assert seen["back", False] != seen["back", True] and seen["ink", False] != seen["ink", True]
        (silence,) = office.asked
        assert isinstance(silence, Silence) and silence.by == "Ann O'Neil"
