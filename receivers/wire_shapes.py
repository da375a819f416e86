"""Dagster's own shapes inside an event: the fields that are read, by the names under which they are stored.

Where one part of another shape must not hide the whole (a materialization counts, whatever its tags are), there is a
loose twin that reads that part by itself.
"""

from collections.abc import Callable
from typing import Final, TypeAlias

import msgspec
from msgspec import Raw

NULL: Final = Raw(b"null")


class Key(msgspec.Struct, gc=False):
    path: list[str]

    def joined(self) -> str:
        return "/".join(self.path)


class Enum(msgspec.Struct, gc=False):
    name: str = msgspec.field(name="__enum__", default="")


Member: TypeAlias = Enum | str | None


def member(value: Member) -> str:
    """`{"__enum__": "AssetCheckSeverity.WARN"}` is `WARN`; old versions wrote the bare name."""
    name = value.name if isinstance(value, Enum) else value or ""
    return name.rpartition(".")[2]


_text: Callable[[Raw], str | None] = msgspec.json.Decoder(str | None).decode
_tags = msgspec.json.Decoder(dict[str, str] | None).decode
_enum = msgspec.json.Decoder(Enum | str | None).decode


def optional_text(raw: Raw) -> str | None:
    try:
        return _text(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None


def optional_tags(raw: Raw) -> dict[str, str]:
    try:
        return _tags(raw) or {}
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return {}


def optional_member(raw: Raw) -> str:
    try:
        return member(_enum(raw))
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return ""


class Planned(msgspec.Struct, gc=False):
    asset_key: Key
    partition: str | None = None


class CheckPlanned(msgspec.Struct, gc=False):
    asset_key: Key
    check_name: str


class AssetEvent(msgspec.Struct, gc=False):
    """AssetMaterialization and AssetObservation."""

    asset_key: Key
    partition: str | None = None
    description: str | None = None
    metadata_entries: Raw = NULL
    metadata: Raw = NULL
    tags: dict[str, str] | None = None


class LooseAssetEvent(msgspec.Struct, gc=False):
    """The same where a part that is not the key is of another shape: that must not hide the event."""

    asset_key: Key
    partition: Raw = NULL
    description: Raw = NULL
    metadata_entries: Raw = NULL
    metadata: Raw = NULL
    tags: Raw = NULL

    def firm(self) -> AssetEvent:
        return AssetEvent(
            self.asset_key,
            optional_text(self.partition),
            optional_text(self.description),
            self.metadata_entries,
            self.metadata,
            optional_tags(self.tags),
        )


class Materialization(msgspec.Struct, gc=False):
    materialization: AssetEvent


class LooseMaterialization(msgspec.Struct, gc=False):
    materialization: LooseAssetEvent


class Observation(msgspec.Struct, gc=False):
    asset_observation: AssetEvent


class LooseObservation(msgspec.Struct, gc=False):
    asset_observation: LooseAssetEvent


class Check(msgspec.Struct, gc=False):
    asset_key: Key
    check_name: str
    success: bool | None = None
    passed: bool | None = None
    severity: Member = None
    blocking: bool | None = None
    partition: str | None = None
    description: str | None = None
    metadata: Raw = NULL
    metadata_entries: Raw = NULL


class LooseCheck(msgspec.Struct, gc=False):
    """The same, of which only what is needed to count it is of the right shape."""

    asset_key: Key
    check_name: str
    success: bool | None = None
    passed: bool | None = None
    severity: Raw = NULL
    metadata: Raw = NULL
    metadata_entries: Raw = NULL

    def firm(self) -> Check:
        severity = optional_member(self.severity)
        return Check(
            self.asset_key,
            self.check_name,
            self.success,
            self.passed,
            severity,
            metadata=self.metadata,
            metadata_entries=self.metadata_entries,
        )


class Failed(msgspec.Struct, gc=False):
    """StepFailureData, StepRetryData, HookErroredData, PipelineFailureData, PipelineCanceledData."""

    error: Raw = NULL
    error_source: Member = None
    seconds_to_wait: float | None = None
    failure_reason: Member = None
    first_step_failure_event: Raw = NULL


class LooseFailed(msgspec.Struct, gc=False):
    """The same, of which the error must not be hidden by what stands beside it."""

    error: Raw = NULL
    error_source: Raw = NULL
    failure_reason: Raw = NULL
    first_step_failure_event: Raw = NULL

    def firm(self) -> Failed:
        source, reason = optional_member(self.error_source), optional_member(self.failure_reason)
        return Failed(self.error, source, None, reason, self.first_step_failure_event)


class Success(msgspec.Struct, gc=False):
    duration_ms: float


class Engine(msgspec.Struct, gc=False):
    error: Raw = NULL
    marker_start: str | None = None
    marker_end: str | None = None


class Io(msgspec.Struct, gc=False):
    """HandledOutputData and LoadedInputData, and the AssetStoreOperationData that came before them."""

    output_name: str | None = None
    input_name: str | None = None
    manager_key: str | None = None
    asset_store_key: str | None = None


class Enqueued(msgspec.Struct, gc=False):
    code_location_name: str | None = None
    repository_name: str | None = None
    partition_key: str | None = None


class Freshness(msgspec.Struct, gc=False):
    key: Key
    new_state: Member = None
    previous_state: Member = None
    state_change_timestamp: float = 0.0


class NotMadeData(msgspec.Struct, gc=False):
    asset_key: Key
    partition: str | None = None
    reason: Member = None


class NotMade(msgspec.Struct, gc=False):
    """AssetFailedToMaterializeData: the key stands in a part of its own, in early versions beside the error."""

    asset_materialization_failure: NotMadeData | None = None
    asset_key: Key | None = None
    partition: str | None = None
    reason: Member = None
    error: Raw = NULL


class ExpectationResult(msgspec.Struct, gc=False):
    success: bool
    label: str | None = None


class Expectation(msgspec.Struct, gc=False):
    expectation_result: ExpectationResult


class Wiped(msgspec.Struct, gc=False):
    asset_key: Key
    partition_keys: list[str] | None = None
