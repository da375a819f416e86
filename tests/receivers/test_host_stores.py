"""The host receiver against real servers: PostgreSQL's connections, and the objects of an S3-compatible store."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import psycopg
import pytest

from pipeline.errors import RetryableError
from pipeline.options import Secret, Size
from receivers import host_lake, host_postgres
from receivers.host_lake import LakeOption
from receivers.host_postgres import PostgresOption
from receivers.readings import Limits, SizeLimits
from tests.ports import free_port

# --- PostgreSQL ------------------------------------------------------------------------------------------------------

POSTGRES = os.environ.get("DAGTEL_TEST_POSTGRES", "")
needs_postgres = pytest.mark.skipif(not POSTGRES, reason="DAGTEL_TEST_POSTGRES is not set")


def option(url: str = POSTGRES, **limits: Any) -> PostgresOption:
    return PostgresOption(name="dagster", url=Secret(url), limits=Limits(**limits))


@needs_postgres
@pytest.mark.integration
@pytest.mark.anyio
async def test_connections_are_counted() -> None:
    _, most = await host_postgres.counted(option())
    with ExitStack() as stack:
        for _ in range(5):
            stack.enter_context(psycopg.connect(POSTGRES))
        used, _ = await host_postgres.counted(option())
    assert used >= 6, "five and our own"
    assert most >= 10
    reading = host_postgres.reading(option(warning=0.001), used, most, "")
    assert reading.level == "WARNING"
    assert reading.words.startswith(f"{used} of {most} connections in use")
    assert {figure.name: figure.value for figure in reading.figures} == {
        "connection_pool_used": used,
        "connection_pool_size": most,
    }


@needs_postgres
@pytest.mark.integration
@pytest.mark.anyio
async def test_a_server_that_takes_no_more_is_exhausted_and_not_unreadable() -> None:
    """A role with a limit of one connection meets the same refusal (53300) as a server that is full."""
    role = f"dagtel_pool_{os.getpid()}"
    with psycopg.connect(POSTGRES, autocommit=True) as admin:
        admin.execute(psycopg.sql.SQL("create role {} login connection limit 1").format(psycopg.sql.Identifier(role)))
        try:
            limited = psycopg.conninfo.make_conninfo(POSTGRES, user=role)
            with psycopg.connect(limited):
                assert await host_postgres.counted(option(limited)) == (0, 0)
        finally:
            admin.execute(psycopg.sql.SQL("drop role {}").format(psycopg.sql.Identifier(role)))
    reading = host_postgres.reading(option(), 0, 0, "")
    assert (reading.level, reading.figures) == ("CRITICAL", ())


@pytest.mark.anyio
async def test_a_server_that_is_not_there_is_an_error_without_its_password() -> None:
    with pytest.raises(RetryableError, match="PostgreSQL dagster") as caught:
        await host_postgres.counted(option(f"postgresql://me:hunter2@127.0.0.1:{free_port()}/x"), timeout_s=2)
    assert "hunter2" not in str(caught.value)


# --- the lake --------------------------------------------------------------------------------------------------------

boto3 = pytest.importorskip("boto3", reason="boto3 is not installed (the extra `s3`)")
pytest.importorskip("moto", reason="moto is not installed")


@pytest.fixture(scope="module")
def store() -> Iterator[str]:
    """A server that speaks S3, in a process of its own."""
    url = f"http://127.0.0.1:{free_port()}"
    command = [sys.executable, "-W", "ignore", "-m", "moto.server", "-H", "127.0.0.1", "-p", url.rpartition(":")[2]]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                urlopen(f"{url}/moto-api/", timeout=5).close()
                break
            except (URLError, ConnectionError):
                assert time.monotonic() < deadline, "the store does not come up"
                assert process.poll() is None, "the store has ended"
                time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.wait(20)


def lake(url: str, **more: Any) -> LakeOption:
    return LakeOption(bucket="lake", endpoint=url, access_key=Secret("test"), secret_key=Secret("test"), **more)


# botocore hands a deprecated argument on to urllib3 where these are of different ages.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_objects_of_a_bucket_are_summed_up(store: str) -> None:
    client = host_lake.open_store(lake(store))
    client.create_bucket(Bucket="lake")
    for number in range(1005):  # more than one page
        client.put_object(Bucket="lake", Key=f"warehouse/{number}.parquet", Body=b"x" * 10)
    client.put_object(Bucket="lake", Key="other/a", Body=b"x" * 5)
    assert host_lake.measured(client, lake(store)) == (10_055, 1006)
    assert host_lake.measured(client, lake(store, prefix="warehouse/")) == (10_050, 1005)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_bucket_that_is_not_there_is_an_error_to_try_again(store: str) -> None:
    gone = LakeOption(bucket="gone", endpoint=store, access_key=Secret("test"), secret_key=Secret("hunter2"))
    with pytest.raises(RetryableError, match="bucket gone") as caught:
        host_lake.measured(host_lake.open_store(gone), gone)
    assert "hunter2" not in str(caught.value)


def test_a_lake_that_grows_is_told_from_its_limit_on() -> None:
    option = LakeOption(bucket="lake", prefix="warehouse/", limits=SizeLimits(warning=Size("250GB")))
    small, large = host_lake.reading(option, 10**9, 7), host_lake.reading(option, 280 * 10**9, 12_345)
    assert (small.level, large.level) == ("", "WARNING")
    assert (large.title, large.words) == ("Lake Grows Large: lake/warehouse/", "280 GB in 12,345 objects.")
    assert large.figures[0].labels == (("bucket", "lake"), ("prefix", "warehouse/"))
