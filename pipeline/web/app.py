"""The web floor: serves what components and the runtime mount, a server an address."""

import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack, asynccontextmanager, nullcontext

import anyio
import uvicorn
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from pipeline.errors import ConfigError
from pipeline.http import Asgi

Mounts = Mapping[str, Mapping[str, Asgi]]
"""Address ("127.0.0.1:8889") → path → app."""


class _Site:
    """Dispatches by exact path, else by `/prefix/*`; what is mounted later is served too."""

    def __init__(self, apps: Mapping[str, Asgi]) -> None:
        self._apps = apps

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = str(scope.get("path", "/"))
        app = self._apps.get(path) or self._apps.get(path.rstrip("/") or "/") or self._below(path)
        if app is not None:
            await app(scope, receive, send)
            return
        listing = "".join(f"{known}\n" for known in sorted(self._apps))
        await PlainTextResponse(f"not found; here are:\n{listing}", status_code=404)(scope, receive, send)

    def _below(self, path: str) -> Asgi | None:
        found = [known for known in self._apps if known.endswith("/*") and path.startswith(known[:-1])]
        return self._apps[max(found, key=len)] if found else None


class _Server(uvicorn.Server):
    """Leaves the signals to the service."""

    def capture_signals(self) -> nullcontext[None]:  # type: ignore[override]  # uvicorn's is any context manager
        return nullcontext()


@asynccontextmanager
async def serve(mounts: Mounts) -> AsyncIterator[None]:
    """Serve each address for as long as the block. Raises ConfigError for an address that cannot be had."""
    with ExitStack() as stack:
        bound = {address: stack.enter_context(_bind(address)) for address in mounts}
        servers = [(_server(apps), bound[address]) for address, apps in mounts.items()]
        async with anyio.create_task_group() as tasks:
            for server, where in servers:
                tasks.start_soon(server.serve, [where])
            try:
                yield
            finally:
                for server, _ in servers:
                    server.should_exit = True


def _server(apps: Mapping[str, Asgi]) -> _Server:
    app = Starlette()
    app.mount("/", _Site(apps))
    return _Server(uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=2))


def _bind(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    host = host.strip("[]") or "0.0.0.0"  # noqa: S104  # ":8889" means all interfaces, as in the Collector
    bound = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, int(port)))
        bound.listen(128)
    except (OSError, ValueError, OverflowError) as error:
        bound.close()
        raise ConfigError(f"cannot listen on {address}: {error}") from error
    bound.setblocking(False)
    return bound
