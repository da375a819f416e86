"""Whether what this process owns is still its own, where several processes share one store.

A shard's epoch in the store is counted up by whoever takes the shard on. Commits carry the epochs and fail by
themselves (`pipeline.store`); calls to backends cannot, so each is preceded by a look at the store. A process that
was stopped, or cut off from Kafka, finds so that others have its shards before it tells anybody anything, and ends.

What cannot be fenced: a process that is stopped between the look and the call, a fraction of a millisecond, makes that
one call when it goes on. The receivers of such a call know it by its key (docs/cluster.md).
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

import anyio
import anyio.to_thread

from pipeline.clock import Clock
from pipeline.errors import RetryableError
from pipeline.http import Asgi, AsgiMessage
from pipeline.store.state import StateStore, replaced_by

T = TypeVar("T")

LOOK_EVERY_S = 1.0
"""How often an idle process looks."""
FRESH_S = 5.0
"""What is served (figures) is served no longer than this after the last look that was good. Less than any sensible
`session_timeout`: before that is over, nobody else has the shard."""


class Fence:
    """The epochs under which this process took its shards on. In a store of one owner nothing is looked up."""

    def __init__(self, store: StateStore, clock: Clock) -> None:
        self._store, self._clock = store, clock
        self._epochs: dict[str, int] = {}
        self._lock = anyio.Lock()
        self._looked_s = clock.monotonic()

    def epochs(self, shard: str) -> dict[str, int]:
        """What a commit to this shard alone has to carry; nothing in a store of one owner."""
        return {shard: self._epochs[shard]} if self._store.shared and shard in self._epochs else {}

    @property
    def owned(self) -> Mapping[str, int]:
        """The shards of this process, and their epochs."""
        return self._epochs

    def holds(self, shard: str) -> bool:
        """Whether this process took the shard on and has not let it go."""
        return shard in self._epochs or not self._store.shared

    @property
    def fresh(self) -> bool:
        """Whether nobody else can have our shards yet."""
        return not self._store.shared or self._clock.monotonic() - self._looked_s < FRESH_S

    async def taking(self, take: Callable[[], Awaitable[Mapping[str, int]]]) -> None:
        """Run what takes shards on and gives their epochs; no look falls in between, which would find them strange."""
        async with self._lock:
            self._epochs.update(await take())

    async def undisturbed(self, write: Callable[[], Awaitable[T]]) -> T:
        """Run a commit that carries epochs of ours, while they do not change."""
        async with self._lock:
            return await write()

    def drop(self, shard: str) -> None:
        """It was let go: its next owner may have it by now."""
        self._epochs.pop(shard, None)

    async def look(self) -> None:
        """Before a call to a backend: raises StateError when another process has one of our shards, RetryableError when
        the store does not say."""
        if not self._store.shared:
            return
        asked_s = self._clock.monotonic()
        async with self._lock:
            if self._looked_s > asked_s:
                return  # somebody looked while we waited for our turn
            began_s, epochs = self._clock.monotonic(), dict(self._epochs)
            taken = await anyio.to_thread.run_sync(self._store.taken_over, epochs)
            if taken is not None:
                raise replaced_by(taken)
            self._looked_s = began_s

    def guarding(self, app: Asgi) -> Asgi:
        """The app, as long as `fresh`: a process that was stopped and goes on shows nobody the figures of before."""

        async def guarded(
            scope: AsgiMessage,
            receive: Callable[[], Awaitable[AsgiMessage]],
            send: Callable[[AsgiMessage], Awaitable[None]],
        ) -> None:
            if self.fresh:
                await app(scope, receive, send)
                return
            await send({"type": "http.response.start", "status": 503, "headers": [(b"content-type", b"text/plain")]})
            await send({"type": "http.response.body", "body": b"not known at present who owns these figures\n"})

        return guarded if self._store.shared else app

    async def watch(self) -> None:
        """Look now and then until cancelled; raises StateError as `look` does."""
        while self._store.shared:
            try:
                await self.look()
            except RetryableError:
                pass  # whoever writes says so
            await anyio.sleep(LOOK_EVERY_S)
