"""Daemons that are gone with their test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.daemon import Daemon


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    one = Daemon(tmp_path)
    yield one
    if hasattr(one, "process") and one.process.poll() is None:
        one.process.kill()
        one.process.wait()
    print(one.log.read_text()[-6000:] if one.log.exists() else "")
