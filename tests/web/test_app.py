"""The web floor serves what is mounted, also what is mounted later, and nothing else."""

from collections.abc import Awaitable, Callable

import httpx
import pytest

from pipeline.errors import ConfigError
from pipeline.http import AsgiMessage
from pipeline.web.app import serve
from tests.ports import free_address

pytestmark = pytest.mark.anyio


async def hello(
    scope: AsgiMessage, receive: Callable[[], Awaitable[AsgiMessage]], send: Callable[[AsgiMessage], Awaitable[None]]
) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello"})


async def test_each_address_serves_its_own_paths() -> None:
    first, second = free_address(), free_address()
    mounts = {first: {"/metrics": hello}, second: {"/healthz": hello}}
    async with serve(mounts), httpx.AsyncClient() as client:
        assert (await client.get(f"http://{first}/metrics")).text == "hello"
        assert (await client.get(f"http://{second}/healthz")).text == "hello"
        missing = await client.get(f"http://{first}/healthz")
        assert (missing.status_code, missing.text) == (404, "not found; here are:\n/metrics\n")
        mounts[first]["/later"] = hello
        assert (await client.get(f"http://{first}/later")).text == "hello"


async def test_an_address_that_is_taken_is_named() -> None:
    address = free_address()
    async with serve({address: {"/": hello}}):
        with pytest.raises(ConfigError, match=f"cannot listen on {address}"):
            async with serve({address: {"/": hello}}):
                pass


async def test_an_address_without_a_port_is_named() -> None:
    with pytest.raises(ConfigError, match="cannot listen on nonsense"):
        async with serve({"nonsense": {}}):
            pass
