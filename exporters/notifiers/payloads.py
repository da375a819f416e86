"""What all notifiers do alike: which items are notifications, and what a failed call is called."""

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from pipeline.components import Payload
from pipeline.errors import PermanentError, RetryableError
from pipeline.http import HttpClient, Response, Tls, expect_ok
from pipeline.signals import Alert

_NO_TIMEOUT_S: Final = 3600.0  # the runtime's `timeout` is the one that counts


def payloads(items: Iterable[object], render: Callable[[Alert], bytes]) -> list[Payload]:
    """One payload an alert, keyed by fingerprint so that a problem's messages stay in order.

    A finding is sent as it is where no `dedup` made notifications of it; that something is well again is told only
    by `dedup`, which knows whether anybody was told of the failure.
    """
    return [
        Payload(render(item), 1, key=item.fingerprint)
        for item in items
        if isinstance(item, Alert) and item.state != "recovered"
    ]


async def post(
    http: HttpClient, what: str, method: str, url: str, body: bytes, headers: Mapping[str, str], tls: Tls | None = None
) -> Response:
    """Call `url` and return its answer if it is a good one.

    Raises RetryableError or PermanentError that name `what` and never the URL: a webhook's URL is its password.
    """
    try:
        response = await http.request(method, url, body=body, headers=headers, timeout_s=_NO_TIMEOUT_S, tls=tls)
    except RetryableError as error:
        raise RetryableError(f"{what} gave no answer: {_without(url, error)}", error.retry_after) from None
    except PermanentError as error:
        raise PermanentError(f"{what} cannot be called: {_without(url, error)}") from None
    return expect_ok(response, what)


def _without(url: str, error: Exception) -> str:
    return str(error).replace(repr(url), "its URL").replace(url, "its URL")
