"""A test alert through the real notifiers: who would be told of it, and what each notifier's call comes to.

It goes through the alerts pipelines of the configuration, on an empty state of their own, so that routes, severities
and mute windows say who is told; then the real notifiers send it, outside of any daemon. Whatever is sent says TEST
where it is read first, and its end follows, so that no incident stays open.
"""

from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final, Literal

import anyio
import msgspec
from opentelemetry import trace

from pipeline.batch import WHOLE, Batch
from pipeline.channels import NOBODY, meant_for, names
from pipeline.clock import Clock
from pipeline.components import ExporterSpec, Payload, Seals
from pipeline.errors import ConfigError, DagtelError, PartialError, PermanentError, RetryableError
from pipeline.runtime.context import ComponentContext, Gifts, ShardTables
from pipeline.runtime.http import open_http
from pipeline.runtime.telemetry import Telemetry
from pipeline.scenario.machine import told_of
from pipeline.signals import Alert, Severity, Signal
from pipeline.topology.plan import Node, Plan

MARK: Final = "TEST"
PATIENCE_S: Final = 30.0
"""How long a notifier may take for one message, where its `timeout` does not say less."""

Outcome = Literal["sent", "off", "not meant", "refused", "no answer", "failed"]


class Fired(msgspec.Struct, frozen=True):
    """What became of one notifier. `messages` were sent, in `seconds`; `detail` says why not, or why not all."""

    notifier: str
    outcome: Outcome
    messages: int = 0
    seconds: float = 0.0
    detail: str = ""


class Wish(msgspec.Struct, frozen=True):
    """What is to be fired. With `to` these notifiers (types or ids) are meant, whatever the routes say."""

    severity: Severity
    to: tuple[str, ...] = ()
    kind: str = "asset_failure"
    asset: str = ""
    owners: tuple[str, ...] = ()
    by: str = ""
    ends: bool = True


def notifiers(plan: Plan) -> dict[str, Node]:
    """Exporters that tell people."""
    found = {id: node for id, node in plan.exporters.items() if isinstance(node.spec, ExporterSpec)}
    in_alerts = {id for p in plan.pipelines.values() if p.signal == Signal.ALERTS for id in p.exporters}
    return {id: node for id, node in found.items() if id in in_alerts and _tells(node)}


def _tells(node: Node) -> bool:
    return isinstance(node.spec, ExporterSpec) and node.spec.urgent


async def fire(plan: Plan, wish: Wish, id: str, clock: Clock, folder: Path) -> list[Fired]:
    """Fire, and say what came of it, a row a notifier. `id` tells this test from others; `folder` is for its state.

    Raises ConfigError: a name in `to` that is no notifier; whatever building a component raises.
    """
    there = notifiers(plan)
    strange = [name for name in wish.to if not any(names((name,), id) for id in there)]
    if strange:
        known = ", ".join(sorted(there)) or "none"
        raise ConfigError(f"{strange[0]} is no notifier of this configuration; there are: {known}")
    finding = _finding(wish, id, clock.wall_ns())
    told = [finding] if wish.to else await told_of(plan, finding, folder)
    rows: list[Fired] = []
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(open_http())
        telemetry = Telemetry("none")
        gifts = Gifts(False, http, telemetry.meter, trace.NoOpTracer())
        for name, node in there.items():
            if wish.to and not names(wish.to, name):
                rows.append(Fired(name, "not meant", detail="it is not named"))
                continue
            alert = next((alert for alert in told if meant_for(alert, name)), told[0] if told else None)
            channels = (name,) if wish.to else alert.channels if alert else (NOBODY,)
            if alert is None or channels == (NOBODY,):
                rows.append(Fired(name, "not meant", detail="nobody is told now"))
                continue
            row = await _sent(node, _marked(alert, finding, channels, wish), gifts, clock)
            if row.outcome == "off" and channels and not names(channels, name):
                row = Fired(name, "not meant", detail=f"told are: {', '.join(channels)}")
            rows.append(row)
    return rows


def _finding(wish: Wish, id: str, now_ns: int) -> Alert:
    who = f" by {wish.by}" if wish.by else ""
    return Alert(
        kind=wish.kind,
        state="failing",
        severity=wish.severity,
        fingerprint=f"test:{id}",
        now_ns=now_ns,
        first_ns=now_ns,
        last_ns=now_ns,
        title=f"{MARK} of the notifiers",
        summary=f"Nothing is broken: this was sent{who} with `dagtel alerts send-test`.",
        asset=wish.asset,
        job="" if wish.asset else "dagtel send-test",
        owners=wish.owners,
    )


def _marked(alert: Alert, finding: Alert, channels: tuple[str, ...], wish: Wish) -> tuple[Alert, ...]:
    """What is sent: as it was routed, with TEST in front of every name that a notifier may show first."""
    fired = msgspec.structs.replace(
        alert,
        state="firing",
        title=finding.title,
        summary=finding.summary,
        asset=f"{MARK} {alert.asset}" if alert.asset else "",
        job=f"{MARK} {alert.job}" if alert.job else "",
        key=f"{finding.fingerprint}#1",
        channels=channels,
    )
    return (fired, msgspec.structs.replace(fired, state="resolved")) if wish.ends else (fired,)


async def _sent(node: Node, alerts: Sequence[Alert], gifts: Gifts, clock: Clock) -> Fired:
    spec, owner = node.spec, f"exporters.{node.id}"
    assert isinstance(spec, ExporterSpec)
    context = ComponentContext(owner, node.id, WHOLE, gifts, ShardTables(owner, WHOLE, {}))
    began, count = clock.monotonic(), 0
    try:
        async with spec.build(node.options, context) as exporter:
            for alert in alerts:
                for payload in exporter.build(Batch((alert,), WHOLE, alert.now_ns)):
                    await _send(exporter, payload, node)
                    count += 1
    except PartialError as error:
        return Fired(node.id, "refused", count, clock.monotonic() - began, f"by some: {error}")
    except PermanentError as error:
        return Fired(node.id, "refused", count, clock.monotonic() - began, str(error))
    except RetryableError as error:
        return Fired(node.id, "no answer", count, clock.monotonic() - began, str(error))
    except TimeoutError:
        return Fired(node.id, "no answer", count, clock.monotonic() - began, "it took too long")
    except DagtelError as error:
        return Fired(node.id, "failed", count, clock.monotonic() - began, str(error))
    except Exception as error:  # noqa: BLE001  # a plugin's bug: the other notifiers are to be tried, too
        return Fired(node.id, "failed", count, clock.monotonic() - began, repr(error))
    if not count:
        return Fired(node.id, "off", detail="its settings are empty, or it takes no alerts of this kind")
    return Fired(node.id, "sent", count, clock.monotonic() - began)


async def _send(exporter: Any, payload: Payload, node: Node) -> None:
    timeout = float(node.delivery.timeout) if node.delivery and node.delivery.timeout else PATIENCE_S
    with anyio.fail_after(min(timeout, PATIENCE_S)):
        await exporter.send(exporter.seal(payload) if isinstance(exporter, Seals) else payload)
