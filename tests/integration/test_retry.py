"""Retry against a real Dagster webserver: launched once, from its failure; refused and unanswered are told apart.

DAGTEL_TEST_DAGSTER_PYTHON names a Python that has dagster and dagster-webserver.
"""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from pipeline.config.model import WebserverConfig
from pipeline.reexecution import Refused, Unanswered, Webserver
from pipeline.runtime.http import open_http
from tests.ports import free_port
from tests.receivers.test_dagster_api_real import PYTHON, has_webserver, process
from tests.web.acting_desk import an_office

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.integration,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not has_webserver(), reason="DAGTEL_TEST_DAGSTER_PYTHON names no Python with dagster-webserver"),
]

PROJECT = """
from pathlib import Path
import dagster as dg

@dg.asset
def raw():
    with Path("FOLDER/raw").open("a") as ran: ran.write("x")

@dg.asset(deps=[raw])
def orders():
    if not Path("FOLDER/well").exists():
        raise ValueError("no answer from the shop")

job = dg.define_asset_job("nightly", selection="*", executor_def=dg.in_process_executor)
defs = dg.Definitions(assets=[raw, orders], jobs=[job])
"""
HOME = """
telemetry: {enabled: false}
run_coordinator: {module: dagster._core.run_coordinator, class: DefaultRunCoordinator}
"""
LAUNCH = """mutation { launchRun(executionParams: {mode: "default", selector: {
  repositoryName: "__repository__", repositoryLocationName: "shop", jobName: "nightly"}}) {
  __typename ... on LaunchRunSuccess { run { runId } } ... on Error { message } } }"""
RUNS = "{ runsOrError { ... on Runs { results { runId status parentRunId stepKeysToExecute } } } }"


class Dagster:
    """A webserver of its own, in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        (folder / "home").mkdir()
        (folder / "home" / "dagster.yaml").write_text(HOME)
        (folder / "shop.py").write_text(PROJECT.replace("FOLDER", str(folder)))
        (folder / "workspace.yaml").write_text(
            "load_from:\n  - python_file: {relative_path: shop.py, location_name: shop}\n"
        )

    @property
    def command(self) -> list[str]:
        workspace = str(self.folder / "workspace.yaml")
        return [PYTHON, "-m", "dagster_webserver", "-w", workspace, "-h", "127.0.0.1", "-p", str(self.port)]

    async def ask(self, query: str) -> Any:
        async with httpx.AsyncClient(timeout=120) as client:
            return (await client.post(f"{self.url}/graphql", json={"query": query})).json()["data"]

    async def until(self, what: str, found: Callable[[Any], Any], query: str = RUNS) -> Any:
        deadline = time.monotonic() + 300
        last: Any = None
        while time.monotonic() < deadline:
            try:
                last = await self.ask(query)
                if answer := found(last):
                    return answer
            except (httpx.HTTPError, json.JSONDecodeError):
                pass
            await anyio.sleep(0.3)
        raise AssertionError(f"not in time: {what}; last: {last}")

    async def runs(self) -> dict[str, dict[str, Any]]:
        return {run["runId"]: run for run in (await self.ask(RUNS))["runsOrError"]["results"]}

    async def ended(self, run: str) -> str:
        def status(data: Any) -> str:
            found = {each["runId"]: each["status"] for each in data["runsOrError"]["results"]}
            return found[run] if found.get(run) in ("FAILURE", "SUCCESS") else ""

        return str(await self.until(f"the end of {run}", status))

    async def launched(self) -> str:
        def run(data: Any) -> str:
            return str(data["launchRun"]["run"]["runId"]) if "run" in data["launchRun"] else ""

        return str(await self.until("a run", run, LAUNCH))


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dagster waits a minute for its code server, which a busy machine may need longer to start."""
    monkeypatch.setenv("DAGSTER_GRPC_TIMEOUT_SECONDS", "300")


@pytest.fixture
def dagster(tmp_path: Path) -> Iterator[Dagster]:
    one = Dagster(tmp_path)
    with process(tmp_path, *one.command):
        yield one


async def test_the_button_re_executes_the_run_from_its_failure_once(dagster: Dagster, tmp_path: Path) -> None:
    run = await dagster.launched()
    assert await dagster.ended(run) == "FAILURE"
    (tmp_path / "well").touch()
    config = WebserverConfig(url=dagster.url)
    async with open_http() as http, an_office(tmp_path, dagster=config) as office, office.client() as client:
        office.desk._webserver = Webserver(http, dagster.url, timeout_s=120)
        link = office.link("retry", run=run)
        offered = await client.get(link)
        assert "Retry this run from its failure?" in offered.text and "nightly" in offered.text
        assert set(await dagster.runs()) == {run}

        done = await client.post(link, data={"by": "Ann"})
        assert "Launched" in done.text, done.text
        (again,) = set(await dagster.runs()) - {run}
        assert again in done.text
        assert await dagster.ended(again) == "SUCCESS"
        found = (await dagster.runs())[again]
        assert (found["parentRunId"], found["stepKeysToExecute"]) == (run, ["orders"])
        assert (tmp_path / "raw").read_text() == "x"  # what had succeeded was not run again

        assert "It has been retried already" in (await client.post(link)).text
        assert "It has been retried already" in (await client.get(link)).text
        assert set(await dagster.runs()) == {run, again}

        well = await client.post(office.link("retry", run=again))
        assert (well.status_code, "is SUCCESS" in well.text) == (409, True)
        unknown = await client.post(office.link("retry", run="00000000-0000-0000-0000-000000000000"))
        assert (unknown.status_code, "could not be found" in unknown.text) == (409, True)


async def test_a_run_that_somebody_re_executed_in_dagster_is_not_launched_beside_it(
    dagster: Dagster, tmp_path: Path
) -> None:
    run = await dagster.launched()
    assert await dagster.ended(run) == "FAILURE"
    async with open_http() as http, an_office(tmp_path, dagster=WebserverConfig(url=dagster.url)) as office:
        webserver = Webserver(http, dagster.url, timeout_s=120)
        by_somebody = await webserver.reexecute(run)
        office.desk._webserver = webserver
        retried = await office.desk.retry(run, "Ann")
        assert (retried.run, retried.new) == (by_somebody, False)
        assert set(await dagster.runs()) == {run, by_somebody}


async def test_dagsters_own_refusal_is_told_and_a_webserver_that_is_gone_is_none(tmp_path: Path) -> None:
    dagster = Dagster(tmp_path)
    async with open_http() as http:
        webserver = Webserver(http, dagster.url, timeout_s=120)
        with process(tmp_path, *dagster.command):
            run = await dagster.launched()
            assert await dagster.ended(run) == "FAILURE"
            again = await webserver.reexecute(run)
            assert await dagster.ended(again) == "FAILURE"
            (tmp_path / "well").touch()
            well = await webserver.reexecute(again)
            assert await dagster.ended(well) == "SUCCESS"
            with pytest.raises(Refused, match="Cannot reexecute from failure a run that is not failed or canceled"):
                await webserver.reexecute(well)
        with pytest.raises(Unanswered):
            await webserver.look(run)
