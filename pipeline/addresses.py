"""Addresses in configurations: their faults, for a component's `problems()`, and whom they let in."""

from collections.abc import Iterator
from ipaddress import ip_address


def url_fault(path: str, url: str, example: str) -> Iterator[tuple[str, str]]:
    """A fault when `url` is neither "" nor an HTTP address: OTLP's `host:port` of gRPC is the usual one."""
    if url and not url.startswith(("http://", "https://")):
        yield path, f"{url!r} is no URL: it begins with http:// or https://, as in `{example}`"


def address_fault(path: str, address: str, example: str) -> Iterator[tuple[str, str]]:
    """A fault when `address` is neither "" nor `host:port`."""
    host, colon, port = address.rpartition(":")
    if address and not (colon and host and port.isascii() and port.isdigit() and int(port[:6]) <= 65535):
        yield path, f"{address!r} is no address; write for example `{example}`"


def is_loopback(address: str) -> bool:
    """Whether nobody but this machine reaches `host:port`. A name other than `localhost` may be anybody's."""
    host = address.rpartition(":")[0].strip("[]")
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"
