"""A desk on a state store of its own, its web app called without a network, and a Dagster that a test plays."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import msgspec

from pipeline.action_links import Act, Signer
from pipeline.alert_commands import Command
from pipeline.batch import WHOLE
from pipeline.config.model import ApiConfig, ServiceConfig
from pipeline.http import Response
from pipeline.runtime.desk import Desk
from pipeline.store import acts
from pipeline.store.place import Place
from pipeline.store.state import Commit, StateRow, StateStore
from pipeline.testing.clock import VirtualClock
from pipeline.testing.context import FakeHttp
from pipeline.web.acting import acting

NOW = 1_795_435_200
KEY = "k" * 32
HOUR = 3600


class Office:
    """`client` calls the app as `http://localhost:8890`; `asked` are the commands in the table."""

    def __init__(self, folder: Path, api: ApiConfig, history: Place | None = None) -> None:
        self.store = StateStore(folder / "state.db")
        self.clock = VirtualClock(NOW * 10**9)
        self.http = FakeHttp()
        self.pokes = 0
        self.signer = Signer([KEY])
        service = ServiceConfig(api=api)
        self.desk = Desk(self.store, self.clock, self.http, service, self.signer, self._poke, history)
        self._app: Any = next(iter(acting(self.desk).values()))

    def _poke(self) -> None:
        self.pokes += 1

    def client(self, base: str = "http://localhost:8890", **headers: str) -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=httpx.ASGITransport(app=self._app), base_url=base, headers=headers)

    def open(self, *fingerprints: str) -> None:
        """These problems are open, as the processor's last checkpoint says."""
        pack = msgspec.msgpack.encode
        rows = [StateRow(WHOLE, "processors.dedup", "lives", pack(f), 1, pack(b"")) for f in fingerprints]
        self.store.commit(Commit(rows=rows))

    @property
    def asked(self) -> list[Command]:
        rows = self.store.within(partial(acts.to_obey, next=0))
        return [row.command for row in rows if row.command is not None]

    def link(self, deed: Any = "silence", alert: str = "v1:ab#2", **more: Any) -> str:
        act = Act(deed, more.pop("until", NOW + HOUR), alert, more.pop("about", "raw/orders"), **more)
        return f"/act/{self.signer.token(act)}"


@asynccontextmanager
async def an_office(folder: Path, history: Place | None = None, **api: Any) -> AsyncIterator[Office]:
    office = Office(folder, ApiConfig(**{"address": "127.0.0.1:8890", **api}), history)
    try:
        yield office
    finally:
        office.store.close()


class FakeDagster:
    """Answers as the webserver does; a run that was launched re-executes its parent from then on."""

    def __init__(self, runs: dict[str, str], refuses: str = "") -> None:
        self.runs, self.refuses = runs, refuses
        self.launched: list[str] = []
        self.away = False
        self.after_launch: Callable[[], None] = lambda: None

    def answer(self, method: str, url: str, body: bytes) -> Response:
        from pipeline.errors import RetryableError

        if self.away:
            raise RetryableError("no answer from http://dagster: connection refused")
        asked = msgspec.json.decode(body)
        query, variables = asked["query"], asked["variables"]
        if "__type(" in query:
            data: Any = {
                "mutation": {"fields": [{"name": "launchRunReexecution"}]},
                "strategy": {"enumValues": [{"name": "FROM_FAILURE"}]},
            }
        elif "launchRunReexecution" in query:
            data = {"launchRunReexecution": self._launch(variables["params"])}
            self.after_launch()
        else:
            data = self._look(variables)
        return Response(200, {"content-type": "application/json"}, msgspec.json.encode({"data": data}))

    def _launch(self, params: dict[str, str]) -> dict[str, Any]:
        assert params["strategy"] == "FROM_FAILURE"
        if self.refuses:
            return {"__typename": "PythonError", "message": self.refuses}
        self.launched.append(params["parentRunId"])
        return {"__typename": "LaunchRunSuccess", "run": {"runId": f"again-{len(self.launched)}"}}

    def _look(self, variables: dict[str, Any]) -> dict[str, Any]:
        id = variables["id"]
        run: dict[str, Any] = {"__typename": "RunNotFoundError", "message": f"run {id} could not be found"}
        if id in self.runs:
            run = {"__typename": "Run", "runId": id, "status": self.runs[id], "jobName": "nightly"}
        again = [{"runId": f"again-{n}", "status": "STARTED"} for n, p in enumerate(self.launched, 1) if p == id]
        return {"runOrError": run, "runsOrError": {"__typename": "Runs", "results": again[:1]}}
