"""Keeps one component open: its context manager is entered and left in a task of its own.

Shards come and go in any order, so their components cannot nest in one exit stack; and a component that opens a
task group must leave it in the task that entered it.
"""

from contextlib import AbstractAsyncContextManager
from typing import Generic, TypeVar

import anyio
from anyio.abc import TaskGroup, TaskStatus

T = TypeVar("T")


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
        """Leave the context manager and wait for it."""
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
            if entered:
                raise
            task_status.started(error)
        finally:
            self._closed.set()
