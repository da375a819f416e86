"""The pages behind the links of messages: what a link would do, a button, and what came of it.

To look is not to act: chat programs and mail scanners follow every link they see, so GET and HEAD change nothing. Only
the button's POST does, once for each link (a run is retried once by all links together).
"""

import secrets
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs

import msgspec
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from pipeline.action_links import Act, LinkError
from pipeline.alert_asks import AskError, equal_to
from pipeline.clock import HOUR, SECOND
from pipeline.reexecution import Refused, Unanswered
from pipeline.runtime.desk import Desk, NotThere
from pipeline.web.guard import Refusal, body_of, own_site, protected

_TEMPLATES: Final = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


class Page(msgspec.Struct, frozen=True):
    """What a page says. `button` is what pressing it does, "" where there is nothing to press."""

    title: str
    text: tuple[str, ...]
    facts: tuple[tuple[str, str], ...] = ()
    button: str = ""
    danger: bool = False
    status: int = 200


class Pages:
    """`show` answers GET and HEAD, `act` POST."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def show(self, request: Request) -> Response:
        """What the link would do, or why it does nothing."""
        try:
            return _shown(await self._offered(self._act(request)))
        except LinkError as error:
            return _shown(_dead(error))

    async def act(self, request: Request) -> Response:
        """Do it, unless it is done."""
        try:
            own_site(request)
            act = self._act(request)
            form = parse_qs((await body_of(request)).decode("utf-8", "replace"), max_num_fields=10)
            return _shown(await self._done(act, form.get("by", [""])[0]))
        except LinkError as error:
            return _shown(_dead(error))
        except (Refusal, ValueError) as error:
            status = error.status if isinstance(error, Refusal) else 400
            return _shown(Page("This was not done", (_sentence(str(error)),), status=status))

    def _act(self, request: Request) -> Act:
        return self._desk.read(str(request.path_params["token"]))

    # --- what would be done ---

    async def _offered(self, act: Act) -> Page:
        if act.deed == "retry":
            return await self._retry_offered(act)
        asked = await self._desk.asked_already(act.id)
        if asked is not None:
            return _already(act, asked)
        is_open = await self._desk.is_open(act.alert)
        if act.deed == "acknowledge":
            if not is_open:
                return _over(act)
            text = "You say that you are at it: nothing escalates and nothing is repeated. Its end is still told."
            return Page("Acknowledge this alert?", (text,), _facts(act), "Acknowledge")
        text = "For one hour nothing is told of it. What still fails then is told."
        over = () if is_open else ("It is not open now; should it fail again within the hour, nobody is told.",)
        return Page("Silence this alert for 1 hour?", (text, *over), _facts(act), "Silence 1h")

    async def _retry_offered(self, act: Act) -> Page:
        try:
            run, again = await self._desk.look_at(act.run)
        except Refused as error:
            return _refused(act, error)
        except Unanswered as error:
            return _away(act, error)
        facts = (*_facts(act), ("Job", run.job), ("State", run.status))
        if again is not None:
            facts = (*facts, ("Re-executed as", again.id), ("Its state", again.status))
            return Page("It has been retried already", ("This run is not launched a second time.",), facts)
        if run.status not in ("FAILURE", "CANCELED"):
            text = "Only a run that failed or was canceled is retried. It may still be going on; look again later."
            return Page("This run cannot be retried now", (text,), facts, status=409)
        text = "Dagster runs again what failed, and what comes after it. What succeeded is not run again."
        return Page("Retry this run from its failure?", (text,), facts, "Retry", danger=True)

    # --- doing it ---

    async def _done(self, act: Act, by: str) -> Page:
        if act.deed == "retry":
            return await self._retried(act, by)
        by = by.strip() or "a link in a message"
        earlier = await self._desk.asked_already(act.id)
        if earlier is not None:
            return _already(act, earlier)
        try:
            if act.deed == "acknowledge":
                asked = await self._desk.acknowledge(act.alert, by, id=act.id)
                done = Page("Acknowledged", ("It is yours now. Its end will still be told.",), _facts(act))
            else:
                until, when = self._desk.now_ns + HOUR, equal_to(fingerprint=act.alert.partition("#")[0])
                _, asked = await self._desk.silence(when, until, by, "by the link in a message", act.id)
                done = Page("Silenced", (f"Nothing is told of it until {_moment(until)}.",), _facts(act))
        except NotThere:
            return _over(act)
        except AskError as error:
            return Page("This was not done", (_sentence(str(error)),), _facts(act), status=409)
        return done if asked.new else _already(act, asked.at_ns)

    async def _retried(self, act: Act, by: str) -> Page:
        try:
            retried = await self._desk.retry(act.run, by)
        except Refused as error:
            return _refused(act, error)
        except Unanswered as error:
            return _away(act, error)
        facts = (*_facts(act), ("Re-executed as", retried.run))
        if retried.new:
            return Page("Launched", ("Dagster runs it again from its failure.",), facts)
        return Page("It has been retried already", ("This run is not launched a second time.",), facts)


# --- pages that several ways lead to ---------------------------------------------------------------------------------


def _facts(act: Act) -> tuple[tuple[str, str], ...]:
    named = (("Alert", act.about), ("Run", act.run), ("Link works until", _moment(act.until_s * SECOND)))
    return tuple((name, value) for name, value in named if value)


def _already(act: Act, at_ns: int) -> Page:
    text = f"This link was followed at {_moment(at_ns)}. It does nothing a second time."
    return Page("It is done already", (text,), _facts(act))


def _over(act: Act) -> Page:
    text = "This alert is not open any more: there is nothing to acknowledge."
    return Page("It is over", (text,), _facts(act), status=409)


def _refused(act: Act, error: Exception) -> Page:
    text = ("Dagster was asked, and refused. Nothing was launched.", _sentence(str(error)))
    return Page("Dagster refuses", text, _facts(act), status=409)


def _away(act: Act, error: Exception) -> Page:
    text = "Dagster's webserver did not answer. Asking again later does not launch it twice."
    return Page("Dagster does not answer", (text, _sentence(str(error))), _facts(act), status=503)


def _dead(error: LinkError) -> Page:
    titles = {"expired": "This link is too old", "forged": "This link does not work"}
    return Page(titles[error.reason], (str(error),), status={"expired": 410, "forged": 403}[error.reason])


def _shown(page: Page) -> Response:
    nonce = secrets.token_urlsafe(16)
    text = _TEMPLATES.get_template("act.html").render(page=page, nonce=nonce)
    return protected(HTMLResponse(text, page.status), nonce)


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")


def _moment(ns: int) -> str:
    return datetime.fromtimestamp(ns // SECOND, UTC).strftime("%Y-%m-%d %H:%M UTC")
