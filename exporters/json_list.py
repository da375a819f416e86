"""Requests of JSON that hold one list, such as Loki's pushes and OTLP's, as one."""

from collections.abc import Sequence


def one_list(bodies: Sequence[bytes]) -> list[bytes | memoryview]:
    """Objects `{"name":[…]}` of one name, without spaces between, as one with the items of all, in order: the pieces
    that are to stand behind one another. Nothing is copied."""
    if len(bodies) == 1:
        return [bodies[0]]
    start = bodies[0].index(b"[") + 1
    parts: list[bytes | memoryview] = [bodies[0][:start]]
    for body in bodies:
        parts += (memoryview(body)[start:-2], b",")
    parts[-1] = b"]}"
    return parts
