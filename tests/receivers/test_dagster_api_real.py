"""Against a real Dagster webserver and daemon: what is down, what does not load, what fails, and when it is over.

DAGTEL_TEST_DAGSTER_PYTHON names a Python that has dagster and dagster-webserver.
"""

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import anyio
import pytest

from pipeline.options import Duration
from pipeline.runtime.http import open_http
from pipeline.signals import Alert
from pipeline.testing.context import FakeContext
from pipeline.testing.intake import FakeIntake
from receivers.dagster_api import SPEC, DagsterApiConfig
from tests.ports import free_port

PYTHON = os.environ.get("DAGTEL_TEST_DAGSTER_PYTHON", "")


def has_webserver() -> bool:
    asked = [PYTHON, "-c", "import dagster_webserver"]
    return bool(PYTHON) and subprocess.run(asked, capture_output=True, check=False).returncode == 0


pytestmark = [
    pytest.mark.anyio,
    pytest.mark.integration,
    pytest.mark.timeout(400),
    pytest.mark.skipif(not has_webserver(), reason="DAGTEL_TEST_DAGSTER_PYTHON names no Python with dagster-webserver"),
]

PROJECT = """
from pathlib import Path
import dagster as dg

@dg.asset
def orders(): return 1

job = dg.define_asset_job("nightly", selection="*")

@dg.sensor(job=job, minimum_interval_seconds=1, default_status=dg.DefaultSensorStatus.RUNNING)
def arrivals(context):
    if Path("FOLDER/well").exists():
        return dg.SkipReason("nothing new")
    raise ValueError("no answer from http://api/7")

at_three = dg.ScheduleDefinition(job=job, cron_schedule="0 3 * * *", name="at_three")
defs = dg.Definitions(assets=[orders], jobs=[job], sensors=[arrivals], schedules=[at_three])
"""


@contextmanager
def process(folder: Path, *command: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process of Dagster's, for as long as the block."""
    environment = {**os.environ, "DAGSTER_HOME": str(folder / "home"), "DAGSTER_DISABLE_TELEMETRY": "yes"}
    with (folder / "dagster.log").open("ab") as log:
        started = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
        try:
            yield started
        finally:
            started.terminate()
            try:
                started.wait(30)
            except subprocess.TimeoutExpired:
                started.kill()
                started.wait(10)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    (tmp_path / "shop.py").write_text(PROJECT.replace("FOLDER", str(tmp_path)))
    (tmp_path / "broken.py").write_text("import not_installed\n")
    (tmp_path / "workspace.yaml").write_text(
        "load_from:\n"
        "  - python_file: {relative_path: shop.py, location_name: shop}\n"
        "  - python_file: {relative_path: broken.py, location_name: broken}\n"
    )
    return tmp_path


async def until(
    intake: FakeIntake, what: str, holds: Callable[[list[Alert]], bool], seconds: float = 120
) -> list[Alert]:
    """The findings so far, once they say so."""
    deadline = time.monotonic() + seconds
    while True:
        alerts = [item for item in intake.items if isinstance(item, Alert)]
        if holds(alerts):
            return alerts
        told = [(alert.state, alert.title or alert.kind) for alert in alerts]
        assert time.monotonic() < deadline, f"not in {seconds} s: {what}; told: {told}"
        await anyio.sleep(0.2)


def failing(alerts: list[Alert], kind: str) -> dict[str, Alert]:
    return {alert.title: alert for alert in alerts if alert.kind == kind and alert.state == "failing"}


def recovered(alerts: list[Alert], of: Alert) -> bool:
    return any(alert.state == "recovered" and alert.fingerprint == of.fingerprint for alert in alerts)


async def test_daemons_code_locations_and_ticks_are_told_and_their_end_too(folder: Path) -> None:
    port = free_port()
    workspace = ["-w", str(folder / "workspace.yaml")]
    webserver = [PYTHON, "-m", "dagster_webserver", *workspace, "-h", "127.0.0.1", "-p", str(port)]
    config = DagsterApiConfig(
        url=f"http://127.0.0.1:{port}", interval=Duration("1s"), tick_interval=Duration("1s"), polls=3
    )
    intake, context = FakeIntake(), FakeContext("dagster_api")
    with ExitStack() as stack:
        served = stack.enter_context(process(folder, *webserver))
        async with open_http() as http:
            context.http = http
            async with SPEC.build(config, context) as receiver, anyio.create_task_group() as tasks:
                tasks.start_soon(receiver.run, intake)
                alerts = await until(
                    intake,
                    "daemons that are down",
                    lambda found: "Daemon Down: SENSOR" in failing(found, "daemon"),
                    180,
                )
                sensor = failing(alerts, "daemon")["Daemon Down: SENSOR"]
                location = failing(alerts, "daemon")["Code Location Does Not Load: broken"]
                assert "has never had a heartbeat" in sensor.summary
                assert location.summary.startswith("ModuleNotFoundError: No module named 'not_installed'")

                dagster_daemon = str(Path(PYTHON).with_name("dagster-daemon"))
                stack.enter_context(process(folder, dagster_daemon, "run", *workspace))
                await until(intake, "the daemon's recovery", lambda found: recovered(found, sensor))
                alerts = await until(intake, "failed ticks", lambda found: bool(failing(found, "tick_failure")))
                (tick,) = failing(alerts, "tick_failure").values()
                assert tick.title == "Sensor Tick Failed: arrivals"
                assert tick.error is not None
                assert (tick.error.type, tick.error.message) == ("ValueError", "no answer from http://api/7")
                assert tick.error.file.endswith("shop.py")
                assert tick.code_location == "shop"

                (folder / "well").touch()
                await until(intake, "the sensor's recovery", lambda found: recovered(found, tick))
                served.terminate()
                await until(
                    intake,
                    "a webserver that is gone",
                    lambda found: "Cannot Read Dagster's webserver" in failing(found, "daemon"),
                )
                tasks.cancel_scope.cancel()
