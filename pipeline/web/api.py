"""`/api/v1`: silences, acknowledgements, resolutions, retries and alerts as JSON. docs/api.md is its reference.

What changes something answers 201, and 200 when the very same (by its `id`) was asked for before: so a call that had no
answer is made again. What was asked is kept in the state store before it is answered, and takes effect within a second.
"""

from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pipeline.alert_asks import AskError, equal_to
from pipeline.alert_commands import Acknowledge
from pipeline.alert_json import iso_time
from pipeline.errors import DagtelError, RetryableError
from pipeline.moments import moment_ns, until_ns
from pipeline.reexecution import Refused, Unanswered
from pipeline.runtime.desk import Desk, NotThere, new_id
from pipeline.signals import Severity
from pipeline.store.acts import Asked
from pipeline.store.alert_view import Standing
from pipeline.store.history import UnknownAlert, Wanted
from pipeline.store.history_json import listed, shown
from pipeline.web.guard import Refusal, body_of, let_in, protected

T = TypeVar("T")
MOST: Final = 500
"""Rows of one answer at most."""
PATH: Final = "/api/v1"
Handler = Callable[[Request], Awaitable[Response]]


class NewSilence(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"for_": "for"}):
    """A wish for a silence: a condition in `when`, or what must be equal (all of it); `for` or `until`."""

    when: str = ""
    asset: str = ""
    job: str = ""
    step_key: str = ""
    check: str = ""
    kind: str = ""
    fingerprint: str = ""
    for_: str = ""
    until: str = ""
    by: str = ""
    why: str = ""
    id: str = ""


class Word(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who says it, and why."""

    by: str = ""
    why: str = ""
    id: str = ""


class NewAcknowledgement(Word, frozen=True, forbid_unknown_fields=True):
    """`alert` is a fingerprint (`v1:…`) or a notification's key (`v1:…#2`)."""

    alert: str = ""


class NewRetry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The run to be re-executed from its failure."""

    run: str
    by: str = ""


class SilenceRow(msgspec.Struct, frozen=True):
    """A silence. `in_force`: the alerts stage has it; else it was asked for a moment ago."""

    id: str
    when: str
    since: str
    until: str
    by: str
    why: str
    in_force: bool


class AcknowledgementRow(msgspec.Struct, frozen=True):
    """Somebody who said to be at it."""

    id: str
    alert: str
    at: str
    by: str
    why: str
    in_force: bool


class Taken(msgspec.Struct, frozen=True):
    """What was asked for: its id and when it was, which is earlier where the same was asked before (`new` false)."""

    id: str
    at: str
    new: bool


class RetryRow(msgspec.Struct, frozen=True):
    """`launched` is the run that re-executes `run`; `new`: it was launched by this call."""

    run: str
    launched: str
    new: bool


class Api:
    """The routes, on one desk."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def routes(self) -> list[Route]:
        """Everything below PATH."""
        wanted: list[tuple[str, str, Handler]] = [
            ("GET", "/alerts", self._alerts),
            ("GET", "/alerts/{alert}", self._alert),
            ("GET", "/silences", self._silences),
            ("POST", "/silences", self._silence),
            ("DELETE", "/silences/{id}", self._expire),
            ("POST", "/silences/{id}/expire", self._expire),
            ("GET", "/acknowledgements", self._acknowledgements),
            ("POST", "/acknowledgements", self._acknowledge),
            ("POST", "/alerts/{alert}/acknowledge", self._acknowledge),
            ("POST", "/alerts/{alert}/resolve", self._resolve),
            ("POST", "/retries", self._retry),
        ]
        return [Route(f"{PATH}{path}", self._guarded(do), methods=[method]) for method, path, do in wanted]

    def _guarded(self, do: Handler) -> Handler:
        async def guarded(request: Request) -> Response:
            try:
                let_in(request, self._desk.api)
                return await do(request)
            except Refusal as error:
                headers = {"WWW-Authenticate": "Bearer"} if error.status == 401 else {}
                return _failed(error.status, error, headers)
            except (NotThere, UnknownAlert) as error:
                return _failed(404, error)
            except AskError as error:
                return _failed(400, error)
            except Refused as error:
                return _failed(409, error)
            except (Unanswered, RetryableError) as error:
                return _failed(503, error, {"Retry-After": "60"})
            except DagtelError as error:
                return _failed(500, error)

        return guarded

    # --- silences ---

    async def _silences(self, request: Request) -> Response:
        return _json([_row(one) for one in await self._desk.silences()])

    async def _silence(self, request: Request) -> Response:
        asked = await _decoded(request, NewSilence)
        named = {n: getattr(asked, n) for n in ("asset", "job", "step_key", "check", "kind", "fingerprint")}
        equal = equal_to(**named)
        if asked.when and equal:
            raise AskError("say either `when` or what is equal")
        until = until_ns(asked.for_, asked.until, self._desk.now_ns)
        id, taken = await self._desk.silence(asked.when or equal, until, asked.by, asked.why, asked.id)
        return _taken(id, taken)

    async def _expire(self, request: Request) -> Response:
        word = await _decoded(request, Word)
        id = word.id or new_id()
        return _taken(id, await self._desk.expire(str(request.path_params["id"]), word.by, id))

    # --- alerts ---

    async def _alerts(self, request: Request) -> Response:
        wanted = _wanted(request)
        found, count = await self._desk.history(lambda history: (history.alerts(wanted), history.count(wanted)))
        return _json({"count": count, "alerts": [listed(row) for row in found]})

    async def _alert(self, request: Request) -> Response:
        id, most = str(request.path_params["alert"]), _number(request, "occurrences", 100, 0)
        story = await self._desk.history(lambda history: history.story(history.find(id), most))
        return _json(shown(story))

    async def _acknowledgements(self, request: Request) -> Response:
        return _json([_acknowledgement(*one) for one in await self._desk.acknowledgements(MOST)])

    async def _acknowledge(self, request: Request) -> Response:
        asked, id = await self._word(request)
        return _taken(id, await self._desk.acknowledge(asked.alert, asked.by, asked.why, id))

    async def _resolve(self, request: Request) -> Response:
        asked, id = await self._word(request)
        return _taken(id, await self._desk.resolve(asked.alert, asked.by, asked.why, id))

    async def _word(self, request: Request) -> tuple[NewAcknowledgement, str]:
        """What is said of an alert, which the path names or the body."""
        named = request.path_params.get("alert")
        if named is None:
            asked = await _decoded(request, NewAcknowledgement)
        else:
            word = await _decoded(request, Word)
            asked = NewAcknowledgement(word.by, word.why, word.id, str(named))
        return asked, asked.id or new_id()

    async def _retry(self, request: Request) -> Response:
        asked = await _decoded(request, NewRetry)
        retried = await self._desk.retry(asked.run, asked.by)
        return _json(RetryRow(asked.run, retried.run, retried.new), 201 if retried.new else 200)


def _wanted(request: Request) -> Wanted:
    """The query: `open`, `severity`, `asset`, `since`, `limit`, `skip`. Raises Refusal."""
    asked = dict(request.query_params)
    strange = sorted(asked.keys() - {"open", "severity", "asset", "since", "limit", "skip"})
    if strange:
        raise Refusal(400, f"there is no {strange[0]!r}; ask by open, severity, asset, since, limit, skip")
    try:
        return Wanted(
            open=msgspec.convert(asked["open"], bool, strict=False) if "open" in asked else None,
            severity=msgspec.convert(asked["severity"].upper(), Severity) if asked.get("severity") else None,
            asset=asked.get("asset", ""),
            since_ns=moment_ns(asked["since"]) if asked.get("since") else 0,
            limit=_number(request, "limit", 50, 1),
            skip=_number(request, "skip", 0, 0, 10**9),
        )
    except msgspec.ValidationError as error:
        raise Refusal(400, f"the query is not as docs/api.md says: {error}") from error


def _number(request: Request, name: str, usual: int, least: int, most: int = MOST) -> int:
    text = request.query_params.get(name, str(usual))
    if not text.isdecimal() or not text.isascii() or not least <= int(text[:12]) <= most:
        raise Refusal(400, f"{name} is a number from {least} to {most}")
    return int(text)


async def _decoded(request: Request, kind: type[T]) -> T:
    """The body as JSON; no body is an empty one."""
    body = await body_of(request)
    try:
        return msgspec.json.decode(body or b"{}", type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Refusal(400, f"the body is not as docs/api.md says: {error}") from error


def _row(one: Standing) -> SilenceRow:
    silence = one.silence
    since, until = iso_time(silence.now_ns), iso_time(silence.until_ns)
    return SilenceRow(silence.id, silence.when, since, until, silence.by, silence.why, one.in_force)


def _acknowledgement(said: Acknowledge, in_force: bool) -> AcknowledgementRow:
    return AcknowledgementRow(said.id, said.alert, iso_time(said.now_ns), said.by, said.why, in_force)


def _taken(id: str, asked: Asked) -> Response:
    return _json(Taken(id, iso_time(asked.at_ns), asked.new), 201 if asked.new else 200)


def _json(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    body = msgspec.json.encode(value) + b"\n"
    return protected(Response(body, status, headers, media_type="application/json"))


def _failed(status: int, error: Exception, headers: dict[str, str] | None = None) -> Response:
    return _json({"error": str(error)}, status, headers)
