"""Ports for servers that tests start: below those that the kernel gives to connections, or one of theirs could have
taken it by the time the server binds it."""

import os
import random
import socket
from contextlib import ExitStack

_choice = random.Random(os.urandom(8))  # not the global one: the runner seeds it alike in each of its processes


def free_port(*beside: int) -> int:
    """A port that is free, as are those that much higher."""
    while True:
        port = _choice.randrange(10_000, 32_000)
        try:
            with ExitStack() as probes:
                for each in (port, *(port + more for more in beside)):
                    probes.enter_context(socket.socket()).bind(("127.0.0.1", each))
            return port
        except OSError:
            continue


def free_address() -> str:
    """The same of this machine."""
    return f"127.0.0.1:{free_port()}"
