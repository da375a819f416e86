"""Daemons that are gone with their test, and a small disk."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.daemon import Daemon
from tests.small_disk import small

DISK = 6 * 2**20


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    one = Daemon(tmp_path)
    yield one
    if hasattr(one, "process") and one.process.poll() is None:
        one.process.kill()
        one.process.wait()
    print(one.log.read_text()[-6000:] if one.log.exists() else "")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 6 MiB."""
    with small(tmp_path / "disk", DISK) as folder:
        yield folder
