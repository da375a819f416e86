"""The one HTTP client: httpx, pooled, a client a TLS setting and, for `http+unix://`, a socket. `http` opens it.

`http+unix://%2Fvar%2Frun%2Fdocker.sock/containers/json` calls by the socket file that the (quoted) host names.
"""

import ssl
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies

import anyio
import anyio.to_thread
import httpcore  # noqa: F401  # httpx loads it with the first client, on the loop's thread: 35 ms

from pipeline.errors import PermanentError, RetryableError
from pipeline.http import Response, Tls

# httpx goes without its command line where what that needs is not installed. With us it is: 45 ms of a start and 5 MiB.
_COMMAND_LINE = "httpx._main"
sys.modules[_COMMAND_LINE] = None  # type: ignore[assignment]  # as the documentation of sys.modules has it: not there
import httpx  # noqa: E402

del sys.modules[_COMMAND_LINE]

MAX_ANSWER = 64 * 2**20
"""Bytes of an answer that are read at most."""


_NO_TLS = Tls(insecure_skip_verify=True)
"""For `http:`, where nothing is verified: reading the system's certificates takes 50 ms of a start."""


class PooledHttp:
    """See `pipeline.http.HttpClient`. Its clients are closed with `stack`."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self._stack = stack
        self._clients: dict[tuple[Tls, str], httpx.AsyncClient] = {}
        self._opening = anyio.Lock()
        self._plain_is_plain = not any(proxy.startswith("https:") for proxy in getproxies().values())

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
        url, socket = _by_socket(url)
        plain = self._plain_is_plain and url.startswith("http:")
        client = await self._client(_NO_TLS if plain else tls or Tls(), socket)
        sent = _Body(body)
        length = {"Content-Length": str(len(body))} if body else {}  # else httpx sends a stream in chunks
        try:
            async with client.stream(
                method, url, content=sent if body else None, headers={**(headers or {}), **length}, timeout=timeout_s
            ) as answer:
                content = bytearray()
                async for chunk in answer.aiter_bytes():
                    content += chunk
                    if len(content) > MAX_ANSWER:
                        raise PermanentError(f"{url} answered with more than {MAX_ANSWER} bytes")
                return Response(answer.status_code, {k.lower(): v for k, v in answer.headers.items()}, bytes(content))
        except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
            raise PermanentError(f"{url!r} is no URL that can be called: {error}") from error
        except httpx.HTTPError as error:
            raise RetryableError(f"no answer from {url}: {error or type(error).__name__}") from error
        finally:
            sent.body = b""

    async def _client(self, tls: Tls, socket: str) -> httpx.AsyncClient:
        async with self._opening:
            if (tls, socket) not in self._clients:
                limits = httpx.Limits(max_connections=100, max_keepalive_connections=20, keepalive_expiry=30)
                if socket:
                    client = httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(uds=socket, limits=limits))
                else:
                    verify = await anyio.to_thread.run_sync(_verify, tls)
                    client = httpx.AsyncClient(verify=verify, limits=limits, trust_env=True)
                self._clients[tls, socket] = await self._stack.enter_async_context(client)
            return self._clients[tls, socket]


class _Body:
    """What a request sends, and lets go of with its end: requests and answers of httpx refer to each other, and are
    collected late (those that saw two collections hardly ever); twenty megabytes of bodies lay about so.
    """

    def __init__(self, body: bytes) -> None:
        self.body = body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self.body


def _by_socket(url: str) -> tuple[str, str]:
    """The URL as it is called, and the socket file to call it by; "" for the network."""
    if not url.startswith("http+unix://"):
        return url, ""
    host = urlsplit(url).netloc
    return url.replace(f"http+unix://{host}", "http://localhost", 1), unquote(host)


def _verify(tls: Tls) -> ssl.SSLContext | bool:
    if tls.insecure_skip_verify and not tls.cert_file:
        return False
    context = ssl.create_default_context(cafile=tls.ca_file or None)
    if tls.cert_file:
        context.load_cert_chain(tls.cert_file, tls.key_file or None)
    if tls.insecure_skip_verify:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context
