"""From a plan to a running daemon and its exit code: what is opened around the service, and closed after it."""

import gc
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import anyio
import anyio.to_thread

from pipeline.clock import Clock, SystemClock
from pipeline.runtime.allocator import HEAP
from pipeline.runtime.context import Gifts
from pipeline.runtime.desks import Acting, Desks, link_key
from pipeline.runtime.http import open_http
from pipeline.runtime.orphans import settle
from pipeline.runtime.own_log import OwnLog
from pipeline.runtime.reload import Reloading
from pipeline.runtime.service import Service
from pipeline.runtime.sites import Serve
from pipeline.runtime.stop_signals import Signals
from pipeline.runtime.telemetry import Telemetry
from pipeline.store.state import open_state
from pipeline.topology.plan import Plan

GC_THRESHOLDS = (50_000, 20, 100)
"""A batch makes tens of thousands of objects and hardly a cycle: the default of 700 costs a fifth of all CPU time."""

SWITCH_S = 0.0005
"""How long a worker thread waits for the interpreter's lock at most, where the loop is busy. SQLite lets go of it for
every row: reading 20,000 rows of state beside a loop that starts up takes 0.28 s with Python's 5 ms, and 0.07 s so."""


async def run_service(
    plan: Plan,
    once: bool,
    serve: Serve,
    clock: Clock | None = None,
    reloading: Reloading | None = None,
    worker: str = "",
    leaves: bool = False,
    acting: Acting | None = None,
) -> int:
    """Run a plan until it is told to stop (SIGTERM, SIGINT), or with `once` to the present end of its input.

    `serve` is the web floor (`pipeline.web.app.serve`), `acting` what it serves of `service.api`; `reloading` is what
    SIGHUP and `--watch` are to do, without it a SIGHUP is not listened to; `worker` is this process's number where
    several share the work; `leaves`: it gives its share up when it stops. Gives the exit code: 0, or 1 when a component
    failed for good or payloads were left in the
    outbox. Raises ConfigError and StateError before anything was taken in.
    """
    gc.freeze()  # what was imported lives as long as the daemon
    gc.set_threshold(*GC_THRESHOLDS)
    gc.enable()  # the command line starts without
    sys.setswitchinterval(SWITCH_S)
    HEAP.keep_whole()
    with OwnLog(plan.service.telemetry.logs, worker) as own_log:
        try:
            async with anyio.create_task_group() as listening:
                signals = Signals()
                await listening.start(signals.listen, reloading is not None)
                async with AsyncExitStack() as stack:
                    opened = _opened(
                        plan, once, serve, clock or SystemClock(), signals, own_log, reloading, worker, leaves, acting
                    )
                    code = await (await stack.enter_async_context(opened)).run()
                listening.cancel_scope.cancel()
            return code
        except BaseExceptionGroup as group:
            raise _first(group) from group


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error that ended everything; the others followed from it."""
    inner = group.exceptions[0]
    return _first(inner) if isinstance(inner, BaseExceptionGroup) else inner


@asynccontextmanager
async def _opened(
    plan: Plan,
    once: bool,
    serve: Serve,
    clock: Clock,
    signals: Signals,
    own_log: OwnLog,
    reloading: Reloading | None,
    worker: str,
    leaves: bool,
    acting: Acting | None,
) -> AsyncIterator[Service]:
    state = plan.service.state
    other = state.postgresql
    url, schema = (other.url.reveal(), other.schema) if other else ("", "")
    store = await anyio.to_thread.run_sync(open_state, state.path, url, schema)
    try:
        await anyio.to_thread.run_sync(settle, store, plan)
        traces = plan.service.telemetry.traces
        telemetry = Telemetry(
            plan.service.telemetry.metrics.level, traces.endpoint, {k: v.reveal() for k, v in traces.headers.items()}
        )
        async with open_http() as http, anyio.create_task_group() as tasks:
            desks = Desks(await anyio.to_thread.run_sync(link_key, store), plan.service.api, store, clock, http, acting)
            gifts = Gifts(once, http, telemetry.meter, telemetry.tracer, worker, leaves, desks.links)
            service = Service(
                plan, once, store, clock, telemetry, gifts, tasks, serve, signals, own_log, reloading, desks
            )
            await service.open()
            yield service
            await service.close()
            tasks.cancel_scope.cancel()
        await anyio.to_thread.run_sync(telemetry.close)
    finally:
        store.close()
