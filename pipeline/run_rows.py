"""The row that Dagster keeps of a run: what its event log does not say (tags, parent, code location).

The bridge sends it beside every event, in the header `dagster-run`; enrichment makes `RunFacts` of it, or asks the
storage itself. Source: Dagster's tables `runs` (its serialized DagsterRun, `run_body`) and `run_tags`.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Protocol

import msgspec

from pipeline.errors import DecodeError
from pipeline.facts import RunFacts

HEADER = "dagster-run"
"""Name of the record header that carries a `RunRow` as JSON."""

_HIDDEN = ".dagster/"  # Dagster's own bookkeeping (gRPC addresses and the like): its interface hides it, too
_REPOSITORY = ".dagster/repository"  # "__repository__@location"
_LOCATION = "dagster/code_location"


class RunRow(msgspec.Struct, frozen=True, omit_defaults=True):
    """The facts of one run, as the header carries them."""

    tags: dict[str, str] = {}
    parent_run_id: str = ""
    root_run_id: str = ""
    code_location: str = ""

    def facts(self) -> RunFacts:
        """The same for the pipelines: partition and backfill are tags of their own name."""
        return RunFacts(
            tags=self.tags,
            code_location=self.code_location,
            partition=self.tags.get("dagster/partition"),
            backfill=self.tags.get("dagster/backfill", ""),
            parent_run_id=self.parent_run_id,
            root_run_id=self.root_run_id,
        )


class RunRows(Protocol):
    """Looks up runs in Dagster's storage."""

    async def look_up(self, run_ids: Iterable[str]) -> Mapping[str, RunRow]:
        """The rows of those runs that have one. Raises RetryableError when the storage does not answer."""
        ...


encode_header = msgspec.json.Encoder().encode
_decode_header = msgspec.json.Decoder(RunRow).decode


def decode_header(value: bytes) -> RunRow:
    """The row that a `dagster-run` header carries. Raises DecodeError."""
    try:
        return _decode_header(value)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise DecodeError(f"header {HEADER}: {error}") from error


class _Location(msgspec.Struct):
    location_name: str = ""


class _Repository(msgspec.Struct):
    repository_location_origin: _Location | None = None


class _Job(msgspec.Struct):
    external_repository_origin: _Repository | None = None


class _Body(msgspec.Struct):
    tags: dict[str, object] = {}
    parent_run_id: str | None = None
    root_run_id: str | None = None
    external_pipeline_origin: _Job | None = None


_decode_body = msgspec.json.Decoder(_Body).decode


def run_row(body: str | bytes, tags: Iterable[tuple[str, str | None]] = ()) -> RunRow:
    """The row of one run from its `run_body` and the rows of `run_tags`, which win.

    A body that is no DagsterRun leaves what the tags say: a run without facts is better than no events.
    """
    parsed = _body(body)
    every = {key: value for key, value in parsed.tags.items() if isinstance(value, str)}
    every.update((key, value) for key, value in tags if value is not None)
    return RunRow(
        tags={key: value for key, value in every.items() if not key.startswith(_HIDDEN)},
        parent_run_id=parsed.parent_run_id or "",
        root_run_id=parsed.root_run_id or "",
        code_location=_location(parsed) or every.get(_LOCATION) or every.get(_REPOSITORY, "").partition("@")[2],
    )


def _body(body: str | bytes) -> _Body:
    try:
        return _decode_body(body)
    except (msgspec.MsgspecError, RecursionError):
        pass
    try:  # run configuration may hold NaN, which Python writes and reads and JSON does not know
        return msgspec.convert(json.loads(body), _Body)
    except (ValueError, RecursionError):
        return _Body()


def _location(body: _Body) -> str:
    job = body.external_pipeline_origin
    repository = job.external_repository_origin if job else None
    location = repository.repository_location_origin if repository else None
    return location.location_name if location else ""
