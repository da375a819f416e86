"""The size of a lake in an S3-compatible store (MinIO, S3, Ceph). The door to boto3, which the extra `s3` installs."""

from typing import Any

import msgspec

from pipeline.errors import PermanentError, RetryableError
from pipeline.options import Secret
from receivers.readings import Figure, Reading, SizeLimits, size


class LakeOption(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A bucket, or a part of one, whose objects are summed up."""

    bucket: str
    """Its name."""
    prefix: str = ""
    """Only keys that begin so (`warehouse/`)."""
    endpoint: str = ""
    """The store's URL (`http://minio:9000`). Empty: AWS."""
    region: str = ""
    """Its region; empty: what the environment says, else `us-east-1`."""
    access_key: Secret = Secret("")
    """Both keys empty: as the environment says (variables, profile, role)."""
    secret_key: Secret = Secret("")
    """See `access_key`."""
    limits: SizeLimits = SizeLimits()
    """From which size on somebody is told."""


def open_store(option: LakeOption) -> Any:
    """A client. Raises PermanentError where boto3 is not installed."""
    try:
        import boto3
        from botocore.config import Config
    except ImportError as error:
        raise PermanentError("the size of a lake needs boto3: install dagtel[s3]") from error
    keys = {}
    if option.access_key.reveal():
        keys["aws_access_key_id"] = option.access_key.reveal()
        keys["aws_secret_access_key"] = option.secret_key.reveal()
    config = Config(connect_timeout=10, read_timeout=60, retries={"max_attempts": 3, "mode": "standard"})
    region = option.region or None
    session = boto3.session.Session(region_name=region)
    if session.region_name is None:
        session = boto3.session.Session(region_name="us-east-1")
    return session.client("s3", endpoint_url=option.endpoint or None, config=config, **keys)


def measured(store: Any, option: LakeOption) -> tuple[int, int]:
    """Bytes and objects. Blocks: a thousand objects a call. Raises RetryableError."""
    from botocore.exceptions import BotoCoreError, ClientError

    total, objects = 0, 0
    try:
        pages = store.get_paginator("list_objects_v2").paginate(Bucket=option.bucket, Prefix=option.prefix)
        for page in pages:
            for each in page.get("Contents", ()):
                total, objects = total + int(each["Size"]), objects + 1
    except (BotoCoreError, ClientError) as error:
        raise RetryableError(f"bucket {option.bucket}: {error}") from error
    return total, objects


def reading(option: LakeOption, total: int, objects: int) -> Reading:
    """What the size means."""
    name = f"{option.bucket}/{option.prefix}" if option.prefix else option.bucket
    label = (("bucket", option.bucket), ("prefix", option.prefix))
    return Reading(
        f"lake {name}",
        f"Lake Grows Large: {name}",
        option.limits.level(total),
        f"{size(total)} in {objects:,} objects.",
        (Figure("storage_lake_size_bytes", float(total), label), Figure("storage_lake_objects", float(objects), label)),
    )
