"""Containers by Docker's API: which are there, which run, which call themselves unhealthy.

Source: https://docs.docker.com/reference/api/engine/version/v1.47/#tag/Container (also spoken by Podman).
"""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from urllib.parse import quote

import msgspec

from pipeline.errors import PermanentError, RetryableError
from pipeline.http import HttpClient, Tls, expect_ok
from receivers.readings import Figure, Level, Reading


class DockerOption(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Docker's API, for the health of containers."""

    address: str = ""
    """Where it listens: `unix:///var/run/docker.sock`, `http://host:2375`, `https://host:2376`. Empty: not asked."""
    expected: tuple[str, ...] = ()
    """Names or patterns of containers that are to run. A name must be there; of a pattern, what is there must run."""
    ignore: tuple[str, ...] = ()
    """Names or patterns of containers that nobody is told of; their gauge is given nevertheless."""
    tls: Tls = Tls()
    """TLS of the connection."""


class Container(msgspec.Struct, rename="pascal"):
    """A container of `GET /containers/json`; `status` is for people ("Up 2 hours (healthy)")."""

    names: list[str] = []
    state: str = ""
    status: str = ""

    @property
    def name(self) -> str:
        """Without the slash before it."""
        return self.names[0].lstrip("/") if self.names else ""

    @property
    def unhealthy(self) -> bool:
        """Its own check says so."""
        return "(unhealthy)" in self.status

    @property
    def well(self) -> bool:
        """It runs, and its check, where it has one, does not say otherwise."""
        return self.state == "running" and not self.unhealthy


_decode = msgspec.json.Decoder(list[Container]).decode


async def containers(http: HttpClient, option: DockerOption, timeout_s: float = 10.0) -> list[Container]:
    """All containers, those that have ended too. Raises RetryableError whatever went wrong."""
    address, what = option.address, "Docker's API"
    if address.startswith("unix://"):
        address = f"http+unix://{quote(address.removeprefix('unix://'), safe='')}"
    try:
        url = f"{address.rstrip('/')}/containers/json?all=1"
        return _decode(expect_ok(await http.request("GET", url, timeout_s=timeout_s, tls=option.tls), what).body)
    except (PermanentError, msgspec.MsgspecError) as error:
        raise RetryableError(f"{what}: {error}") from error


def readings(found: Sequence[Container], option: DockerOption) -> list[Reading]:
    """One for each container that is there or should be."""
    named = {container.name: container for container in found if container.name}
    told = [_reading(container, option) for container in named.values()]
    missing = [name for name in option.expected if not _is_pattern(name) and name not in named]
    return told + [
        Reading(
            f"container {name}",
            f"Container Missing: {name}",
            "ERROR",
            "It is expected to run, and Docker has no container of this name.",
            (Figure("container_health", 0.0, (("container_name", name),)),),
        )
        for name in missing
    ]


def _reading(container: Container, option: DockerOption) -> Reading:
    name = container.name
    label = (("container_name", name),)
    return Reading(
        f"container {name}",
        f"Container {'Unhealthy' if container.unhealthy else 'Not Running'}: {name}",
        _level(container, option),
        f"Docker says: {container.status or container.state}.",
        (Figure("container_health", float(container.well), label),),
    )


def _level(container: Container, option: DockerOption) -> Level:
    """What has ended and is not expected to run is no news: a job's container ends."""
    if container.well or _named(container.name, option.ignore):
        return ""
    if container.unhealthy or container.state in ("restarting", "dead") or _named(container.name, option.expected):
        return "ERROR"
    return ""


def _named(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _is_pattern(name: str) -> bool:
    return any(sign in name for sign in "*?[")
