"""What all notifiers do alike: which items are notifications, and what a failed call is called."""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from exporters.notifiers.message import one_line
from pipeline.alert_records import notification_id
from pipeline.channels import meant_for
from pipeline.components import Payload
from pipeline.errors import PermanentError, RetryableError
from pipeline.http import RETRYABLE, HttpClient, Response, Tls, expect_ok
from pipeline.signals import Alert, AlertState, Member

_NO_TIMEOUT_S: Final = 3600.0  # the runtime's `timeout` is the one that counts
_RANKS: Final[Mapping[AlertState, int]] = {"digest": 1, "repeated": 1, "firing": 2, "escalated": 3, "resolved": 4}
_WORD: Final = re.compile(r"[a-z_]{3,40}")
_MEANINGS: Final[Mapping[int, str]] = {
    400: "it does not understand what was sent",
    401: "the credentials are missing or wrong",
    403: "the credentials are known but may not do this",
    404: "there is nothing at this URL; check it",
    405: "the URL takes no such call; check it",
    410: "what was at this URL has been removed",
    413: "the message is too large for it",
    422: "it does not accept what was sent",
}


def payloads(items: Iterable[object], id: str | None, render: Callable[[Alert], bytes]) -> list[Payload]:
    """One payload an alert that is meant for the notifier `id` (None: all), keyed by fingerprint so that a problem's
    messages stay in order.

    A finding is sent as it is where no `dedup` made notifications of it; that something is well again is told only
    by `dedup`, which knows whether anybody was told of the failure.
    """
    return [
        _payload(item, render(item))
        for item in items
        if isinstance(item, Alert) and item.state != "recovered" and (id is None or meant_for(item, id))
    ]


def _payload(alert: Alert, body: bytes) -> Payload:
    """With what it overtakes while it waits: of a problem that is over only the end is told, of digests and repeats the
    last; a first failure gives way to an escalation, which tells all of it, and an escalation to nothing but the end.

    A finding that no `dedup` saw, and a digest of many problems, say what no other message says.
    """
    rank, ends, about = _RANKS.get(alert.state), tuple(ended(alert)), (_encodable(notification_id(alert)),)
    if rank is None or alert.reason == "rate_limited":
        return Payload(body, 1, key=alert.fingerprint, ends=ends, about=about)
    return Payload(body, 1, key=alert.fingerprint, life=life(alert), rank=rank, ends=ends, about=about)


def life(alert: Alert) -> str:
    """What is equal in all messages of one problem from its first failure to its end: the same incident, thread."""
    return _encodable(alert.key or alert.fingerprint)


def ended(alert: Alert) -> dict[str, Member]:
    """By their keys, the problems whose end this notification tells beside its own."""
    return {_encodable(one.key): one for one in alert.members if one.key and one.state == "resolved"}


def _encodable(key: str) -> str:
    return key.encode("utf-8", "replace").decode()


async def post(
    http: HttpClient,
    what: str,
    method: str,
    url: str,
    body: bytes,
    headers: Mapping[str, str],
    tls: Tls | None = None,
    meanings: Mapping[str, str] | None = None,
) -> Response:
    """Call `url` and return its answer if it is a good one.

    Raises RetryableError or PermanentError that name `what` and never the URL: a webhook's URL is its password. A
    refusal is explained: by `meanings` of words in the answer, else by its status.
    """
    try:
        response = await http.request(method, url, body=body, headers=headers, timeout_s=_NO_TIMEOUT_S, tls=tls)
    except RetryableError as error:
        raise RetryableError(f"{what} gave no answer: {_without(url, error)}", error.retry_after) from None
    except PermanentError as error:
        raise PermanentError(f"{what} cannot be called: {_without(url, error)}") from None
    if response.status >= 300 and response.status not in RETRYABLE:
        raise PermanentError(refusal(what, response, meanings or {}))
    return expect_ok(response, what)


def refusal(what: str, response: Response, meanings: Mapping[str, str]) -> str:
    """What a refusal says, and what it means."""
    said = one_line(response.body[:300].decode("utf-8", "replace"))
    known = next((meanings[word] for word in _WORD.findall(said) if word in meanings), "")
    meaning = known or _MEANINGS.get(response.status, "")
    return f"{what} answered {response.status}" + (f": {said}" if said else "") + (f" ({meaning})" if meaning else "")


def _without(url: str, error: Exception) -> str:
    return str(error).replace(repr(url), "its URL").replace(url, "its URL")
