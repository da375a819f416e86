"""What is served where: a server an address, the apps of each by path. Changes as a whole, or not at all."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager

import msgspec
from anyio.abc import TaskGroup

from pipeline.errors import ConfigError
from pipeline.http import Asgi
from pipeline.runtime.host import Host

Serve = Callable[[Mapping[str, Mapping[str, Asgi]]], AbstractAsyncContextManager[None]]
"""The web floor: serves addresses ("127.0.0.1:8889") and their apps by path for as long as its block."""


class Mount(msgspec.Struct, frozen=True):
    """An app at a path of an address."""

    address: str
    path: str
    app: Asgi


class Sites:
    """All servers of one process."""

    def __init__(self, tasks: TaskGroup, serve: Serve) -> None:
        self._tasks, self._serve = tasks, serve
        self._apps: dict[str, dict[str, Asgi]] = {}
        self._servers: dict[str, Host[None]] = {}

    async def reserve(self, mounts: Iterable[Mount], also: Iterable[str] = ()) -> None:
        """Listen on every address of `mounts` and on those of `also`, and go on with all that is served now.

        Raises ConfigError for an address that cannot be had or a path that two want; nothing has changed then.
        """
        wanted = by_address(mounts) | dict.fromkeys(also)
        new: list[str] = []
        try:
            for address in wanted:
                if address not in self._servers:
                    await self._open(address, leaving=[a for a in self._servers if a not in wanted])
                    new.append(address)
        except BaseException:
            for address in new:
                await self._close(address)
            raise

    async def show(self, mounts: Iterable[Mount], also: Iterable[str] = ()) -> None:
        """Serve exactly these from now on; other addresses are let go. Raises as `reserve` does."""
        listed, kept = list(mounts), list(also)
        await self.reserve(listed, kept)
        wanted = by_address(listed)
        for address in list(self._servers):
            if address not in wanted and address not in kept:
                await self._close(address)
        for address, apps in self._apps.items():
            apps.clear()
            apps.update(wanted.get(address, {}))

    async def close(self) -> None:
        """Let all addresses go."""
        for address in list(self._servers):
            await self._close(address)

    async def _open(self, address: str, leaving: Iterable[str]) -> None:
        """Listen on one more. One that goes away may hold its port (`127.0.0.1:8888` for `:8888`): it goes first."""
        try:
            await self._listen(address)
        except ConfigError:
            port = address.rpartition(":")[2]
            holding = [other for other in leaving if other.rpartition(":")[2] == port]
            if not holding:
                raise
            kept = {other: self._apps[other] for other in holding}
            for other in holding:
                await self._close(other)
            try:
                await self._listen(address)
            except ConfigError:
                for other, apps in kept.items():
                    await self._listen(other, apps)
                raise

    async def _listen(self, address: str, apps: dict[str, Asgi] | None = None) -> None:
        self._apps[address] = apps or {}
        try:
            self._servers[address] = await Host.open(self._tasks, self._serve({address: self._apps[address]}))
        except BaseException:
            del self._apps[address]
            raise

    async def _close(self, address: str) -> None:
        server = self._servers.pop(address)
        del self._apps[address]
        await server.close()


def by_address(mounts: Iterable[Mount]) -> dict[str, dict[str, Asgi]]:
    """The apps of each address by path. Raises ConfigError where two want one path."""
    found: dict[str, dict[str, Asgi]] = {}
    for mount in mounts:
        apps = found.setdefault(mount.address, {})
        if mount.path in apps:
            raise ConfigError(f"{mount.address}{mount.path} is served by two components")
        apps[mount.path] = mount.app
    return found
