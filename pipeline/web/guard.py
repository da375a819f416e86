"""Who may ask, how much, and what a browser may do with the answer.

With a token every call of the API shows it, in a header that no browser adds by itself: no page of somebody else's can
call for a visitor. Without one the API is this machine's alone (the configuration refuses anything else), and a browser
of this machine is what must not be talked into calling: a name that was made to point here (DNS rebinding) is told by
`Host`, another site's page by `Sec-Fetch-Site`, `Origin` and by the content type that a form cannot send.
"""

import hmac
from hashlib import sha256
from typing import Final
from urllib.parse import urlsplit

import anyio
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from pipeline.addresses import is_loopback
from pipeline.config.model import ApiConfig

MOST: Final = 64 * 1024
"""Bytes of a request's body."""
BODY_S: Final = 10.0
"""How long a body may take to come."""
_OWN: Final = frozenset({"same-origin", "none"})
_SAFE: Final = frozenset({"GET", "HEAD"})
HEADERS: Final = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "X-Robots-Tag": "noindex, nofollow",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


class Refusal(Exception):
    """A request that is not served: the status, and what the caller is told."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


def let_in(request: Request, api: ApiConfig) -> None:
    """Raises Refusal for a caller of the API who has no permission."""
    if api.token:
        scheme, _, shown = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not _same(shown.strip(), api.token.reveal()):
            raise Refusal(401, "the API wants the token of service.api: `Authorization: Bearer …`")
        return
    host = request.headers.get("host", "")
    known = {urlsplit(api.url).netloc} if api.url else set()
    if host not in known and not is_loopback(host if ":" in host.rpartition("]")[2] else f"{host}:80"):
        raise Refusal(403, "without a token the API is for this machine, by its own name: localhost or 127.0.0.1")
    own_site(request)
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if request.method not in _SAFE and kind != "application/json":
        raise Refusal(415, "send `Content-Type: application/json`")


def own_site(request: Request) -> None:
    """Raises Refusal for what another site's page made a browser send."""
    origin = request.headers.get("origin")
    foreign = request.headers.get("sec-fetch-site", "none") not in _OWN
    if origin is not None and origin != "null" and "sec-fetch-site" not in request.headers:
        foreign = urlsplit(origin).netloc != request.headers.get("host", "")
    if foreign and request.method not in _SAFE:
        raise Refusal(403, "a page of another site sent this")


async def body_of(request: Request) -> bytes:
    """The whole body. Raises Refusal: more than MOST bytes, or too slow."""
    content = bytearray()
    try:
        with anyio.fail_after(BODY_S):
            async for chunk in request.stream():
                content += chunk
                if len(content) > MOST:
                    raise Refusal(413, f"a body has {MOST} bytes at most")
    except TimeoutError:
        raise Refusal(408, "the body took too long to come") from None
    except ClientDisconnect:
        raise Refusal(400, "the body was cut off") from None
    return bytes(content)


def protected(response: Response, style_nonce: str = "") -> Response:
    """The response with the headers that keep a browser from doing more than showing it."""
    style = f"style-src 'nonce-{style_nonce}'; form-action 'self'; " if style_nonce else ""
    policy = f"default-src 'none'; {style}base-uri 'none'; frame-ancestors 'none'"
    response.headers.update({**HEADERS, "Content-Security-Policy": policy})
    return response


def _same(shown: str, token: str) -> bool:
    """In constant time, whatever the lengths."""
    return hmac.compare_digest(sha256(shown.encode("utf-8", "replace")).digest(), sha256(token.encode()).digest())
