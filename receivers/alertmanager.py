"""The `alertmanager` receiver: Prometheus' rules come in as Alertmanager's webhook, and go on as alerts of kind
`external`.

A call is answered with 200 once the checkpoint that holds it is committed: what Alertmanager counts as delivered
survives a crash, and what was not committed it sends again.
"""

import hmac
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Final

import anyio
import msgspec

from pipeline.addresses import is_loopback
from pipeline.components import Context, Intake, Position, Read, Receiver, ReceiverSpec, Rejected
from pipeline.conditions import Conditions, url_problems
from pipeline.errors import DecodeError
from pipeline.http import AsgiMessage
from pipeline.options import Duration, Secret, Size
from pipeline.signals import Alert, Severity, Signal
from receivers.alertmanager_payload import Active, Reading, findings, group_of
from receivers.asgi import Receives, Sends, answer, body_of

COMMIT_POLL_S: Final = 0.01

_SEVERITIES: Final[dict[str, Severity]] = {
    "critical": "CRITICAL",
    "page": "CRITICAL",
    "error": "ERROR",
    "warning": "WARNING",
    "info": "INFO",
    "none": "INFO",
}


class AlertmanagerReceiverConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Receives alerts from Prometheus Alertmanager (`webhook_configs`), as alerts of kind `external`.

    Begins an alerts pipeline. docs/sources.md explains it.
    """

    address: str = "127.0.0.1:9095"
    """Where it listens."""
    path: str = "/alertmanager"
    """The webhook's path."""
    token: Secret = Secret("")
    """What Alertmanager has to send (`authorization: {credentials: …}`). Needed where `address` is not this machine."""
    asset_labels: tuple[str, ...] = ("asset_name", "asset", "asset_key")
    """Labels that name the asset; the first that an alert has counts. By it alerts find owners, impact and routes."""
    check_labels: tuple[str, ...] = ("check_name",)
    """Labels that name the asset check."""
    job_labels: tuple[str, ...] = ("job_name", "dagster_job")
    """Labels that name the Dagster job. (`job` is Prometheus' own, of the scrape.)"""
    owner_labels: tuple[str, ...] = ("owner", "team")
    """Labels that name the owner."""
    severities: dict[str, Severity] = msgspec.field(default_factory=lambda: dict(_SEVERITIES))
    """The label `severity` → severity."""
    default_severity: Severity = "WARNING"
    """Of alerts whose label says nothing of that."""
    ignore: tuple[str, ...] = ("Watchdog", "InfoInhibitor")
    """Names of alerts that say nothing by firing."""
    ignore_labels: tuple[str, ...] = ("severity", "replica", "prometheus", "prometheus_replica", "instance", "job")
    """Labels that are no part of what is the same problem."""
    deployment: str = ""
    """Name of the deployment (`prod`): part of fingerprints."""
    dashboard_url: str = ""
    """Where an asset can be seen: `https://dagster.example.com/assets/{asset}`."""
    max_body: Size = Size("4MiB")
    """Larger payloads are refused."""
    max_open: int = 10_000
    """Alerts that fire at the same time, for telling news from repeats; the oldest are forgotten first."""
    commit_timeout: Duration = Duration("10s")
    """How long a call waits for its checkpoint; then it is answered with 503, and Alertmanager sends it again."""

    def problems(self) -> Iterator[tuple[str, str]]:
        """Path and message of each fault."""
        if not self.path.startswith("/"):
            yield "path", "begins with `/`"
        if not self.token.reveal() and not is_loopback(self.address):
            yield "token", f"is needed: {self.address} is reached from elsewhere, and an alert can be made up"
        if self.max_open < 1:
            yield "max_open", "must be at least 1"
        yield from url_problems("dashboard_url", self.dashboard_url)


class AlertmanagerReceiver:
    """The receiver, and the ASGI application that takes the calls, one after another."""

    def __init__(self, config: AlertmanagerReceiverConfig, context: Context) -> None:
        self._config, self._log = config, context.log
        self._source = f"webhook:{context.id}"
        self._conditions = Conditions(config.deployment, config.dashboard_url)
        self._reading = Reading(
            config.asset_labels,
            config.check_labels,
            config.job_labels,
            config.owner_labels,
            config.severities,
            config.default_severity,
            frozenset(config.ignore),
            frozenset(config.ignore_labels),
        )
        self._intake: Intake[object] | None = None
        self._position, self._active = Position(0), Active()
        self._turn = anyio.Lock()

    async def run(self, intake: Intake[object]) -> None:
        """Be there for calls until cancelled; with `once` there is nothing to read."""
        stored = (await intake.assign([self._source]))[self._source]
        if stored is not None:
            self._position = Position(stored.next, note=stored.note)
            self._active = msgspec.msgpack.decode(stored.note, type=Active) if stored.note else {}
        await intake.put(Read(self._source, (), self._position))  # nothing is behind: time need not wait for us
        if intake.once:
            return
        self._intake = intake
        try:
            await anyio.sleep_forever()
        finally:
            self._intake = None

    async def __call__(self, scope: AsgiMessage, receive: Receives, send: Sends) -> None:
        """One call of the webhook."""
        if scope["type"] != "http":
            return
        status, text = await self._answered(scope, receive)
        await answer(send, status, text)

    async def _answered(self, scope: AsgiMessage, receive: Receives) -> tuple[int, str]:
        if scope["method"] != "POST":
            return 405, "send alerts by POST"
        if not self._may(scope):
            return 401, "the token is missing or wrong"
        body = await body_of(receive, self._config.max_body)
        if body is None:
            return 413, f"more than {self._config.max_body}"
        if self._intake is None:
            return 503, "starting or stopping; try again"
        try:
            return await self._taken(self._intake, body)
        except TimeoutError:
            return 503, "not committed in time; try again"

    def _may(self, scope: AsgiMessage) -> bool:
        token = self._config.token.reveal()
        if not token:
            return True
        headers: list[tuple[bytes, bytes]] = scope["headers"]  # type: ignore[assignment]  # as ASGI has them
        given = next((value for name, value in headers if name.lower() == b"authorization"), b"")
        kind, _, credentials = given.partition(b" ")
        return kind.lower() == b"bearer" and hmac.compare_digest(credentials.strip(), token.encode())

    async def _taken(self, intake: Intake[object], body: bytes) -> tuple[int, str]:
        """Hand it over, and wait until it is committed. Raises TimeoutError."""
        with anyio.fail_after(self._config.commit_timeout):
            async with self._turn:
                rejected: tuple[Rejected, ...] = ()
                found: list[Alert] = []
                active = self._active
                try:
                    group = group_of(body)
                    found, active = findings(group, active, self._reading, self._conditions)
                    if group.truncated_alerts:
                        left_out = {"left_out": group.truncated_alerts, "group": group.group_key}
                        self._log.warning("Alertmanager left alerts out: raise its max_alerts.", extra=left_out)
                except DecodeError as error:
                    rejected = (Rejected(body, str(error), self._source),)
                position = self._after(active)
                await intake.put(Read(self._source, found, position, rejected, size=len(body)))
                self._position, self._active = position, msgspec.msgpack.decode(position.note, type=Active)
            await _committed(intake, self._source, position.next)
        return (400, rejected[0].reason) if rejected else (200, "")

    def _after(self, active: Active) -> Position:
        excess = len(active) - self._config.max_open
        if excess > 0:
            active = dict(list(active.items())[excess:])
        return Position(self._position.next + 1, note=msgspec.msgpack.encode(active))


async def _committed(intake: Intake[object], source: str, next: int) -> None:
    # The intake tells positions, it does not call back.
    while (stored := intake.committed().get(source)) is None or stored.next < next:  # noqa: ASYNC110
        await anyio.sleep(COMMIT_POLL_S)


@asynccontextmanager
async def build(config: AlertmanagerReceiverConfig, context: Context) -> AsyncIterator[Receiver[Alert]]:
    receiver = AlertmanagerReceiver(config, context)
    context.mount(config.address, config.path, receiver)
    yield receiver


def _listens(config: AlertmanagerReceiverConfig) -> tuple[str, ...]:
    return (config.address,)


SPEC = ReceiverSpec("alertmanager", AlertmanagerReceiverConfig, build, gives=Signal.ALERTS, listens=_listens)
