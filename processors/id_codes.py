"""Ids of a chunk as they are stored: MessagePack of the steps from one to the next in order, or of their bytes.

Ids of a run differ in their storage ids alone, so that most steps are one byte: 1.4 bytes an id where runs have ninety
events. Digests of events are as far from each other as numbers can be, and are kept as they are, 8 bytes each.
"""

from array import array
from collections.abc import Sequence
from itertools import accumulate, pairwise

import msgspec

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[int] | bytes).decode


def encoded(ids: Sequence[int]) -> bytes:
    """Ids below 2^64. What is shorter; steps have no order of their own."""
    steps = _encode([after - before for before, after in pairwise([0, *sorted(ids)])])
    plain = array("Q", ids).tobytes()
    return steps if len(steps) < len(plain) else _encode(plain)


def decoded(stored: bytes) -> Sequence[int]:
    """What `encoded` was given, in some order; of the stored bytes themselves where these are the ids. Raises
    ValueError for what it did not make."""
    try:
        found = _decode(stored)
        if isinstance(found, bytes):
            return memoryview(stored)[len(stored) - len(found) :].cast("Q")
        return array("Q", accumulate(found))
    except (msgspec.MsgspecError, TypeError, OverflowError) as error:
        raise ValueError("a stored chunk of ids is damaged") from error
