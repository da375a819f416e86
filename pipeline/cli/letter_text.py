"""A dead letter as people read it. Everything in it may come from anywhere and is made inert."""

import gzip
import io
import zlib
from collections.abc import Iterator
from typing import Final

import msgspec

from pipeline.cli.output import inert
from pipeline.cli.times import moment
from pipeline.components import Payload
from pipeline.store.records import DeadLetter

SHOWN: Final = 16 * 1024
"""Characters of a body that are shown."""
UNPACKED: Final = 64 * 2**20
KINDS: Final = {
    "input": "input that could not be decoded; a replay decodes it again",
    "item": "an item on which a component raised; a replay gives it to that component again",
    "payload": "a payload that was refused; a replay sends it again",
    "part": "a payload of which a part was refused; a replay (--partly) sends all of it again",
    "": "cannot be replayed: nothing was kept of it that could be given to anybody",
}


def lines_of(letter: DeadLetter, asked: bool) -> Iterator[str]:
    """The whole letter, a line each."""
    yield f"ID         {letter.id}"
    yield f"Time       {moment(letter.at_ns)}"
    yield f"Component  {inert(letter.component)}"
    yield f"Origin     {inert(letter.origin)}"
    yield f"Kind       {KINDS.get(letter.kind, inert(letter.kind))}"
    if asked:
        yield "Replay     has been asked for"
    yield from _block("Reason", letter.reason)
    if letter.detail:
        yield from _block("Detail", letter.detail)
    body = readable(letter)
    yield ""
    if body is None:
        yield f"Body, {len(letter.body)} bytes that are no text; --raw writes them as they are"
        return
    yield f"Body, {len(letter.body)} bytes{' as stored' if len(body) != len(letter.body) else ''}:"
    yield from (f"  {inert(line)}" for line in body[:SHOWN].splitlines())
    if len(body) > SHOWN:
        yield f"  … {len(body) - SHOWN} more characters; --raw writes all of it"


def readable(letter: DeadLetter) -> str | None:
    """The body as text, unpacked where it was sent compressed; None when it is none."""
    body = _unpacked(letter)
    if body is None:
        return None
    text = body.decode("utf-8", "replace")
    strange = sum(c == "\ufffd" or (not c.isprintable() and c not in "\n\r\t") for c in text[:SHOWN])
    return text if strange * 10 <= len(text[:SHOWN]) else None


def _unpacked(letter: DeadLetter) -> bytes | None:
    if letter.kind not in ("payload", "part"):
        return letter.body
    try:
        payload = msgspec.msgpack.decode(letter.again, type=Payload)
        if payload.headers.get("Content-Encoding") != "gzip":
            return letter.body
        return gzip.GzipFile(fileobj=io.BytesIO(letter.body)).read(UNPACKED)
    except (msgspec.MsgspecError, OSError, EOFError, zlib.error):
        return letter.body


def _block(name: str, text: str) -> Iterator[str]:
    yield ""
    yield f"{name}:"
    yield from (f"  {inert(line)}" for line in text.splitlines())
