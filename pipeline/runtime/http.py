"""Opens the HTTP client. httpx itself is imported with the first request: a fifteenth of a start's time, and the first
event does not need it."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

import anyio
import anyio.to_thread

from pipeline.http import HttpClient, Response, Tls


class LateHttp:
    """See `pipeline.http.HttpClient`. Open it with `open_http`."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self._stack = stack
        self._client: HttpClient | None = None
        self._lock = anyio.Lock()

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
        client = self._client or await self._pool()
        return await client.request(method, url, body=body, headers=headers, timeout_s=timeout_s, tls=tls)

    async def _pool(self) -> HttpClient:
        async with self._lock:
            if self._client is None:
                self._client = await anyio.to_thread.run_sync(_pooled, self._stack)
            return self._client


def _pooled(stack: AsyncExitStack) -> HttpClient:
    from pipeline.runtime.http_pool import PooledHttp

    return PooledHttp(stack)


@asynccontextmanager
async def open_http() -> AsyncIterator[HttpClient]:
    """A client for as long as the block."""
    async with AsyncExitStack() as stack:
        yield LateHttp(stack)
