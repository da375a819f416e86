"""The desk of the configuration in force, its pages, and the key that its links are signed with."""

import secrets
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING

from pipeline.action_links import Signer
from pipeline.clock import Clock
from pipeline.config.model import ApiConfig, ServiceConfig
from pipeline.http import Asgi, HttpClient
from pipeline.runtime.action_links import ActionLinks
from pipeline.store.place import Place
from pipeline.store.state import StateStore
from pipeline.topology.plan import Plan

if TYPE_CHECKING:
    from pipeline.runtime.desk import Desk

Acting = Callable[["Desk"], Mapping[str, Asgi]]
"""The web floor: a desk's pages by path."""

_LINK_KEY = "link_secret"


def link_key(store: StateStore) -> str:
    """The key that this store's links are signed with where the configuration has none; made at the first start."""
    if kept := store.secret(_LINK_KEY):
        return kept
    from pipeline.store.acts import kept_secret

    return store.within(partial(kept_secret, name=_LINK_KEY, fresh=secrets.token_urlsafe(32)))


class Desks:
    """See above. `links` goes by the configuration that it was told to follow last."""

    def __init__(
        self, key: str, api: ApiConfig, store: StateStore, clock: Clock, http: HttpClient, acting: Acting | None
    ) -> None:
        self._key, self._store, self._clock, self._http, self._acting = key, store, clock, http, acting
        self.links = ActionLinks(api, self._signer, clock)
        self._shown: tuple[ServiceConfig, Place | None, Mapping[str, Asgi]] | None = None

    def pages(self, plan: Plan, poke: Callable[[], None]) -> Mapping[str, Asgi]:
        """What is served by this plan's settings; the same as long as they are."""
        service, history = plan.service, history_of(plan)
        if not service.api.address or self._acting is None:
            return {}
        if self._shown is None or self._shown[:2] != (service, history):
            from pipeline.runtime.desk import Desk  # SQLAlchemy: for who serves the API

            signer = self._signer(service.api)
            desk = Desk(self._store, self._clock, self._http, service, signer, poke, history)
            self._shown = (service, history, self._acting(desk))
        return self._shown[2]

    def _signer(self, api: ApiConfig) -> Signer:
        return Signer(api.secrets() or (self._key,))


def history_of(plan: Plan) -> Place | None:
    """Where the plan's exporter `store` keeps the history; the first of several."""
    for node in plan.exporters.values():
        if node.spec.name == "store":
            other = getattr(node.options, "postgresql", None)
            path = str(getattr(node.options, "path", ""))
            return Place(path, other.url.reveal(), other.schema) if other else Place(path)
    return None
