"""Servers by address: they change as a whole or not at all."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import anyio
import pytest

from pipeline.errors import ConfigError
from pipeline.http import Asgi, AsgiMessage
from pipeline.runtime.sites import Mount, Sites

pytestmark = pytest.mark.anyio


class Web:
    """Stands for the web floor: what is served, by address; one port is somebody else's."""

    def __init__(self) -> None:
        self.served: dict[str, Mapping[str, Asgi]] = {}

    @asynccontextmanager
    async def serve(self, mounts: Mapping[str, Mapping[str, Asgi]]) -> AsyncIterator[None]:
        ((address, apps),) = mounts.items()
        port = address.rpartition(":")[2]
        if port == "1" or any(other.endswith(f":{port}") for other in self.served):
            raise ConfigError(f"cannot listen on {address}")
        self.served[address] = apps
        try:
            yield
        finally:
            del self.served[address]

    @property
    def paths(self) -> dict[str, list[str]]:
        return {address: sorted(apps) for address, apps in self.served.items()}


async def app(scope: AsgiMessage, receive: object, send: object) -> None: ...


def mount(address: str, path: str) -> Mount:
    return Mount(address, path, app)


async def test_what_is_shown_replaces_what_was() -> None:
    web = Web()
    async with anyio.create_task_group() as tasks:
        sites = Sites(tasks, web.serve)
        await sites.show([mount("a:8", "/x"), mount("b:9", "/y")])
        await sites.show([mount("a:8", "/z"), mount("c:7", "/y")], also=["d:6"])
        assert web.paths == {"a:8": ["/z"], "c:7": ["/y"], "d:6": []}
        await sites.close()
    assert web.paths == {}


@pytest.mark.parametrize("wanted", [[mount("n:5", "/"), mount("n:1", "/")], [mount("a:8", "/x"), mount("a:8", "/x")]])
async def test_what_cannot_be_had_changes_nothing(wanted: list[Mount]) -> None:
    web = Web()
    async with anyio.create_task_group() as tasks:
        sites = Sites(tasks, web.serve)
        await sites.show([mount("a:8", "/x")])
        with pytest.raises(ConfigError):
            await sites.show(wanted)
        assert web.paths == {"a:8": ["/x"]}
        await sites.close()


async def test_an_address_may_widen_on_its_own_port() -> None:
    web = Web()
    async with anyio.create_task_group() as tasks:
        sites = Sites(tasks, web.serve)
        await sites.show([mount("127.0.0.1:8", "/x")])
        await sites.show([mount(":8", "/x")])
        assert web.paths == {":8": ["/x"]}
        await sites.close()
