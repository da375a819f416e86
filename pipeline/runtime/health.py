"""`/healthz` (the process turns) and `/readyz` (it takes input, each pipeline on its own), as bare ASGI."""

from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime

import msgspec

from pipeline.clock import SECOND
from pipeline.http import Asgi, AsgiMessage
from pipeline.runtime.reload import Outcome
from pipeline.runtime.status import Status, Statuses
from pipeline.topology.plan import Plan

_NOT_READY = frozenset({Status.STARTING, Status.PERMANENT, Status.STOPPED})


def readiness(
    plan: Plan, statuses: Statuses, blocked: str, reload: Outcome | None = None
) -> tuple[bool, dict[str, object]]:
    """Whether all pipelines are ready, and what to show. `blocked` says why no input is taken, "" if it is.

    A `reload` that was refused is shown and takes nothing from being ready: the configuration before it works.
    """
    pipelines: dict[str, object] = {}
    ready = not blocked
    for id, pipeline in plan.pipelines.items():
        members = (
            [("receivers" if r in plan.receivers else "connectors", r) for r in pipeline.receivers]
            + [("processors", node.id) for node in pipeline.processors]
            + [("exporters" if e in plan.exporters else "connectors", e) for e in pipeline.exporters]
        )
        found = {f"{kind}.{member}": statuses.of(f"{kind}.{member}") for kind, member in members}
        receiving = [s for name, (s, _) in found.items() if name.startswith("receivers.")]
        fine = not any(s in _NOT_READY for s in receiving) and not any(s is Status.PERMANENT for s, _ in found.values())
        ready = ready and fine
        pipelines[id] = {
            "ready": fine,
            "components": {name: {"status": s.value, "reason": reason} for name, (s, reason) in found.items()},
        }
    shown: dict[str, object] = {"ready": ready, "blocked": blocked, "pipelines": pipelines}
    if reload is not None:
        at = datetime.fromtimestamp(reload.at_ns // SECOND, UTC).isoformat()
        shown["last_reload"] = {"successful": reload.successful, "at": at, "reasons": reload.reasons}
    return ready, shown


def health_app(check: Callable[[], tuple[bool, Mapping[str, object]]]) -> Asgi:
    """An app that answers 200 or 503 and the check's JSON."""

    async def app(
        scope: AsgiMessage,
        receive: Callable[[], Awaitable[AsgiMessage]],
        send: Callable[[AsgiMessage], Awaitable[None]],
    ) -> None:
        fine, shown = check()
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200 if fine else 503, "headers": headers})
        await send({"type": "http.response.body", "body": msgspec.json.encode(shown)})

    return app
