"""What receivers that are called need of ASGI: a bounded body, a plain answer, and whether an address is this machine.

Source: https://asgi.readthedocs.io/en/latest/specs/www.html
"""

from collections.abc import Awaitable, Callable
from typing import TypeAlias

from pipeline.http import AsgiMessage

Receives: TypeAlias = Callable[[], Awaitable[AsgiMessage]]
Sends: TypeAlias = Callable[[AsgiMessage], Awaitable[None]]


async def body_of(receive: Receives, limit: int) -> bytes | None:
    """The whole body; None when it is larger than `limit` bytes, or the caller has gone before its end."""
    body, more = bytearray(), True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        part = message.get("body", b"")
        if isinstance(part, bytes):
            body += part
        if len(body) > limit:
            return None
        more = bool(message.get("more_body", False))
    return bytes(body)


async def answer(send: Sends, status: int, text: str) -> None:
    """A line of plain text."""
    body = f"{text}\n".encode() if text else b""
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
