"""Where people's wishes are taken down and looked up: what the HTTP API and the pages of the links stand on.

Nothing here touches the running pipelines: a wish is a row of the state store before it is answered, and
`pipeline.runtime.obeying` takes it from there. A retry is Dagster's to do, so it is done at once, and noted before and
after: killed in between, the next who asks finds the run that Dagster launched.
"""

import secrets
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import anyio
import anyio.to_thread
import msgspec

from pipeline import alert_asks
from pipeline.action_links import Act, Signer
from pipeline.alert_asks import AskError
from pipeline.alert_commands import Acknowledge, Command, Expire, Resolve
from pipeline.clock import MINUTE, Clock
from pipeline.config.model import ServiceConfig
from pipeline.http import HttpClient
from pipeline.reexecution import DONE, Refused, Run, Unanswered, Webserver
from pipeline.store import acts, alert_view
from pipeline.store.acts import Asked, Retry
from pipeline.store.alert_view import Standing
from pipeline.store.history import History, reading
from pipeline.store.place import Place
from pipeline.store.state import Look, StateStore

T = TypeVar("T")

GRACE = MINUTE
"""A launch that had no answer may still be under way for so long: none is begun beside it."""


class NotThere(AskError):
    """What was named is not there (any more)."""


class Retried(msgspec.Struct, frozen=True):
    """The run that re-executes another; `new`: it was launched just now."""

    run: str
    new: bool


class Desk:
    """One daemon's. `poke` says that something was asked."""

    def __init__(
        self,
        store: StateStore,
        clock: Clock,
        http: HttpClient,
        service: ServiceConfig,
        signer: Signer,
        poke: Callable[[], None],
        history: Place | None = None,
    ) -> None:
        self._history = history
        api, self._by_wall = service.api, service.clock == "system"
        self._store, self._clock, self._poke, self._signer = store, clock, poke, signer
        self.api = api
        dagster = api.dagster
        headers = {name: value.reveal() for name, value in dagster.headers.items()}
        self._webserver = Webserver(http, dagster.url, headers, dagster.timeout, dagster.tls) if dagster.url else None
        self._launching = anyio.Lock()

    @property
    def now_ns(self) -> int:
        """The wall's time."""
        return self._clock.wall_ns()

    def read(self, token: str) -> Act:
        """What a link does. Raises LinkError."""
        return self._signer.read(token, self.now_ns)

    # --- looking up ---

    async def history(self, ask: Callable[[History], T]) -> T:
        """What the history answers. Raises NotThere: the configuration keeps none, UnknownAlert."""
        place = self._history
        if place is None:
            raise NotThere("no history is kept: the configuration has no exporter `store` (docs/history.md)")

        def asked() -> T:
            with reading(place) as history:
                return ask(history)

        return await anyio.to_thread.run_sync(asked)

    async def silences(self) -> list[Standing]:
        """Those that have not ended, as asked for."""
        return await self._within(partial(alert_view.silences, now_ns=self.now_ns if self._by_wall else 0))

    async def acknowledgements(self, most: int) -> list[tuple[Acknowledge, bool]]:
        """The latest that were asked for, newest first, and whether the alerts stage has them."""
        found = await self._within(partial(acts.recent, most=most))
        return [(command, done) for command, done in found if isinstance(command, Acknowledge)]

    async def is_open(self, alert: str) -> bool:
        """Whether the problem of this name is open, as far as the last checkpoint says."""
        return alert.partition("#")[0] in await self._within(alert_view.open_alerts)

    async def asked_already(self, id: str) -> int | None:
        """When the command of this id was asked for; None if it was not."""
        return await self._within(partial(acts.asked_already, id=id))

    # --- asking ---

    async def silence(self, when: str, until_ns: int, by: str = "", why: str = "", id: str = "") -> tuple[str, Asked]:
        """Ask for a silence; gives its id. Raises AskError."""
        command = alert_asks.silence(id or new_id(), self.now_ns, when, until_ns, by, why)
        return command.id, await self._ask(command)

    async def expire(self, silence: str, by: str = "", id: str = "") -> Asked:
        """Ask for a silence's end. Raises NotThere."""
        if silence not in {one.silence.id for one in await self.silences()}:
            raise NotThere(f"there is no silence {silence}; it may have ended")
        return await self._ask(Expire(id or new_id(), self.now_ns, silence, alert_asks.person(by)))

    async def acknowledge(self, alert: str, by: str = "", why: str = "", id: str = "") -> Asked:
        """Say that somebody is at it. Raises AskError, NotThere."""
        name = await self._name(alert)
        return await self._ask(
            Acknowledge(id or new_id(), self.now_ns, name, alert_asks.person(by), alert_asks.line(why))
        )

    async def resolve(self, alert: str, by: str = "", why: str = "", id: str = "") -> Asked:
        """Say that it is well. Raises AskError, NotThere."""
        name = await self._name(alert)
        return await self._ask(Resolve(id or new_id(), self.now_ns, name, alert_asks.person(by), alert_asks.line(why)))

    async def _name(self, text: str) -> str:
        name = alert_asks.alert_name(text)
        if not await self.is_open(name):
            raise NotThere(f"no alert {name} is open; it may have been resolved")
        return name

    async def _ask(self, command: Command) -> Asked:
        asked = await self._within(partial(acts.ask, command=command))
        self._poke()
        return asked

    async def _within(self, do: Look[T]) -> T:
        return await anyio.to_thread.run_sync(self._store.within, do)

    # --- retry ---

    async def look_at(self, run: str) -> tuple[Run, Run | None]:
        """A run, and the run that re-executes it. Raises Refused, Unanswered."""
        return await self._dagster().look(run)

    async def retry(self, run: str, by: str = "") -> Retried:
        """Have Dagster re-execute a run from its failure, once, whoever asks. Raises Refused: nothing was launched;
        Unanswered: asking again finds out.
        """
        webserver = self._dagster()
        async with self._launching:
            known, again = await webserver.look(run)
            if again is not None:
                await self._within(partial(acts.settle_retry, retry=Retry(run, self.now_ns, by, again.id)))
                return Retried(again.id, new=False)
            if known.status not in DONE:
                raise Refused(f"run {run} is {known.status}: only a run that failed or was canceled is re-executed")
            claimed, mine = await self._within(
                partial(acts.claim_retry, retry=Retry(run, self.now_ns, alert_asks.person(by)))
            )
            if claimed.launched:  # and deleted since
                return Retried(claimed.launched, new=False)
            if not mine and self.now_ns - claimed.at_ns < GRACE:
                raise Unanswered("it was asked for a moment ago, and Dagster has not answered; look again in a minute")
            try:
                launched = await webserver.reexecute(run)
            except Refused:
                await self._within(partial(acts.drop_retry, run=run))
                raise
            await self._within(partial(acts.settle_retry, retry=msgspec.structs.replace(claimed, launched=launched)))
            return Retried(launched, new=True)

    def _dagster(self) -> Webserver:
        if self._webserver is None:
            raise Refused("no Dagster webserver is configured (service.api.dagster.url)")
        return self._webserver


def new_id() -> str:
    """The id of a command that nobody else gave one."""
    return secrets.token_hex(5)


__all__ = ["AskError", "Desk", "NotThere", "Refused", "Retried", "Unanswered", "new_id"]
