"""HTTP as components see it: a client that the runtime supplies, and what an answer's status means."""

import math
from collections.abc import Awaitable, Callable, Container, Mapping, MutableMapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Protocol, TypeAlias

import msgspec

from pipeline.errors import PermanentError, RetryableError

# Bare ASGI 3 (https://asgi.readthedocs.io): the types are as loose as the specification.
AsgiMessage: TypeAlias = MutableMapping[str, object]
Asgi: TypeAlias = Callable[
    [AsgiMessage, Callable[[], Awaitable[AsgiMessage]], Callable[[AsgiMessage], Awaitable[None]]], Awaitable[None]
]

RETRYABLE: Container[int] = frozenset({408, 425, 429, *range(500, 600)})


class Tls(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """TLS of a client. Source: the Collector's `configtls`."""

    ca_file: str = ""
    """Certificates to trust instead of the system's, PEM."""
    cert_file: str = ""
    """Our own certificate, PEM."""
    key_file: str = ""
    """Our own key, PEM."""
    insecure_skip_verify: bool = False
    """Trust any certificate. For tests only."""


class Response(msgspec.Struct, frozen=True):
    """An answer. Header names are lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class HttpClient(Protocol):
    """One pooled client for all components."""

    async def request(
        self,
        method: str,
        url: str,
        *,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        timeout_s: float = 5.0,
        tls: Tls | None = None,
    ) -> Response:
        """Send and read the whole answer, whatever its status. Raises RetryableError when no answer came."""
        ...


def expect_ok(
    response: Response, what: str, now: datetime | None = None, retryable: Container[int] = RETRYABLE
) -> Response:
    """The response, if its status is 2xx.

    Raises RetryableError (a status of `retryable`, with the seconds of Retry-After) or PermanentError, with the
    first 300 characters of the answer. Which are retryable is the protocol's to say. Source: RFC 9110 §10.2.3.
    """
    if 200 <= response.status < 300:
        return response
    text = response.body[:300].decode("utf-8", "replace").strip()
    message = f"{what} answered {response.status}" + (f": {text}" if text else "")
    if response.status in retryable:
        raise RetryableError(message, retry_after(response.headers, now))
    raise PermanentError(message)


def expect_no_page(response: Response, what: str) -> Response:
    """The response, if it is not a web page: a login page or a load balancer's placeholder answers 200 to everything.

    Raises RetryableError, as who put that in the way takes it away again.
    """
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "text/html":
        raise RetryableError(
            f"{what} answered {response.status} with a web page, so it is something else that answered; "
            "look at the address, and at proxies in between"
        )
    return response


def retry_after(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """Seconds that a Retry-After header asks to wait (a number or an HTTP date), None without or with nonsense."""
    value = headers.get("retry-after", "").strip()
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        return _seconds_until(value, now or datetime.now(UTC))
    return max(0.0, seconds) if math.isfinite(seconds) else None


def _seconds_until(date: str, now: datetime) -> float | None:
    try:
        then = parsedate_to_datetime(date)
    except ValueError:
        return None
    if then.tzinfo is None:  # "-0000": UTC, and nothing said of the place
        then = then.replace(tzinfo=UTC)
    return max(0.0, (then - now).total_seconds())
