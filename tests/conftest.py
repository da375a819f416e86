"""What all tests share."""

import os
import shutil
from collections.abc import Generator

import pytest
from hypothesis import HealthCheck, settings

# A law is no less true on a machine that is busy: no test fails for the time that it took.
settings.register_profile("dagtel", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("dagtel")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, pytest.TestReport]:
    """With DAGTEL_TEST_ALL (as in .ci/run) nothing may be skipped: every backend is there. But where nothing compiles
    Rust there are no compiled twins."""
    report = yield
    missing = report.skipped and not hasattr(report, "wasxfail")
    if missing and "dagtel-native is not installed" in str(report.longrepr) and shutil.which("cargo") is None:
        return report
    if missing and os.environ.get("DAGTEL_TEST_ALL"):
        report.outcome, report.longrepr = "failed", f"skipped, and DAGTEL_TEST_ALL is set: {report.longrepr}"
    return report
