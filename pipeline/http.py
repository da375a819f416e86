"""HTTP as components see it: a client that the runtime supplies, and what an answer's status means."""

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
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

RETRYABLE = frozenset({408, 425, 429, 500, 502, 503, 504})


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


def expect_ok(response: Response, what: str, now: datetime | None = None) -> Response:
    """The response, if its status is 2xx.

    Raises RetryableError (408, 425, 429, 5xx, with the seconds of Retry-After) or PermanentError, with the first
    300 characters of the answer. Source: RFC 9110 §10.2.3; the OTLP specification's list of retryable codes.
    """
    if 200 <= response.status < 300:
        return response
    text = response.body[:300].decode("utf-8", "replace").strip()
    message = f"{what} answered {response.status}" + (f": {text}" if text else "")
    if response.status in RETRYABLE or response.status >= 500:
        raise RetryableError(message, retry_after(response.headers, now))
    raise PermanentError(message)


def retry_after(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """Seconds that a Retry-After header asks to wait (a number or an HTTP date), None without or with nonsense."""
    value = headers.get("retry-after", "").strip()
    if not value:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        date = parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(0.0, (date - (now or datetime.now(UTC))).total_seconds())
