"""Requests of JSON that hold one list, such as Loki's pushes and OTLP's, as one."""

from collections.abc import Sequence

from pipeline.native import HAS_NATIVE, native


def one_list(bodies: Sequence[bytes]) -> bytes:
    """Objects `{"name":[…]}` of one name, without spaces between, as one with the items of all, in order."""
    if HAS_NATIVE and (made := native.one_list(bodies)) is not None:
        return made
    start = bodies[0].index(b"[") + 1
    insides = [memoryview(body)[start:-2] for body in bodies]  # copied once, by `join`
    parts = [part for inside in insides for part in (b",", inside)]
    return b"".join([bodies[0][:start], *parts[1:], b"]}"])
