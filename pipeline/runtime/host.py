"""Keeps one component open: its context manager is entered and left in a task of its own.

Shards come and go in any order, so their components cannot nest in one exit stack; and a component that opens a
task group must leave it in the task that entered it.
"""

import logging
from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager
from typing import Any, Generic, TypeVar

import anyio
from anyio.abc import TaskGroup, TaskStatus

log = logging.getLogger("dagtel.host")

T = TypeVar("T")
CLOSE_S = 5.0
"""A component that takes longer to close is left behind."""


class Host(Generic[T]):
    """An open component. Make it with `Host.open`; `close` waits until its context manager has been left."""

    def __init__(self, manager: AbstractAsyncContextManager[T]) -> None:
        self.component: T
        self._manager = manager
        self._closing, self._closed = anyio.Event(), anyio.Event()

    @classmethod
    async def open(cls, tasks: TaskGroup, manager: AbstractAsyncContextManager[T]) -> "Host[T]":
        """Enter the context manager; what it raises comes out here."""
        host = cls(manager)
        error = await tasks.start(host._live)
        if error is not None:
            raise error
        return host

    async def close(self) -> None:
        """Leave the context manager and wait for it. What leaving raises is logged: it has done its work."""
        self._closing.set()
        await self._closed.wait()

    async def _live(self, *, task_status: TaskStatus[Exception | None]) -> None:
        entered = False
        try:
            async with self._manager as self.component:
                entered = True
                task_status.started(None)
                await self._closing.wait()
        except Exception as error:
            if not entered:
                task_status.started(error)
            elif self._closing.is_set():
                log.exception("A component raised while it was closed.")
            else:
                raise
        finally:
            self._closed.set()


async def close_all(hosts: Iterable[Host[Any]]) -> None:
    """Close one after another; one that hangs is left behind after CLOSE_S."""
    for host in hosts:
        with anyio.move_on_after(CLOSE_S) as scope:
            await host.close()
        if scope.cancelled_caught:
            log.warning("A component does not close; going on without it.", extra={"component": repr(host.component)})
