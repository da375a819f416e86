"""The desk of the configuration in force, its pages, and the key that its links are signed with."""

import secrets
from collections.abc import Callable, Mapping
from functools import partial

from pipeline.action_links import Signer
from pipeline.clock import Clock
from pipeline.config.model import ApiConfig, ServiceConfig
from pipeline.http import Asgi, HttpClient
from pipeline.runtime.action_links import ActionLinks
from pipeline.runtime.desk import Desk
from pipeline.store.acts import kept_secret
from pipeline.store.state import StateStore

Acting = Callable[[Desk], Mapping[str, Asgi]]
"""The web floor: a desk's pages by path."""


def link_key(store: StateStore) -> str:
    """The key that this store's links are signed with where the configuration has none; made at the first start."""
    return store.within(partial(kept_secret, name="link_secret", fresh=secrets.token_urlsafe(32)))


class Desks:
    """See above. `links` goes by the configuration that it was told to follow last."""

    def __init__(
        self, key: str, api: ApiConfig, store: StateStore, clock: Clock, http: HttpClient, acting: Acting | None
    ) -> None:
        self._key, self._store, self._clock, self._http, self._acting = key, store, clock, http, acting
        self.links = ActionLinks(api, self._signer, clock)
        self._shown: tuple[ServiceConfig, Mapping[str, Asgi]] | None = None

    def pages(self, service: ServiceConfig, poke: Callable[[], None]) -> Mapping[str, Asgi]:
        """What is served by these settings; the same as long as they are."""
        if not service.api.address or self._acting is None:
            return {}
        if self._shown is None or self._shown[0] != service:
            desk = Desk(self._store, self._clock, self._http, service, self._signer(service.api), poke)
            self._shown = (service, self._acting(desk))
        return self._shown[1]

    def _signer(self, api: ApiConfig) -> Signer:
        return Signer(api.secrets() or (self._key,))
