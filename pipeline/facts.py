"""Small values that events, outcomes and signals share."""

from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec

if TYPE_CHECKING:
    Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"
else:
    Json = Any  # msgspec looks a name up in the module of the struct that uses it, where `Json` need not be
Metadata: TypeAlias = dict[str, Json]
"""Metadata label → plain value: int, float, bool, text, url, path, md_str; lists and dicts for Json and tables."""


class ErrorInfo(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """An error as a person wants it: the innermost cause, and the frame in the user's own code.

    Source: Dagster's SerializableErrorInfo. `type` is the class name of the innermost cause, `message` its text
    without the leading class name, `chain` the class names from the outermost to the innermost, `stack` the
    whole text of all causes. `file`, `line`, `function` are those of the innermost user frame ("" and 0 if none);
    `frames` are the user frames as `file:function`, outermost first, without line numbers.
    """

    type: str
    message: str
    file: str = ""
    line: int = 0
    function: str = ""
    frames: tuple[str, ...] = ()
    chain: tuple[str, ...] = ()
    stack: str = ""


class Parts(msgspec.Struct, frozen=True):
    """What a fingerprint is made of. `message` is masked; `place` is the asset; the step, of one that makes several
    (docs/decisions/0014); else job and step.

    Its encoding as JSON is what `pipeline.fingerprint` hashes: another field would be another algorithm.
    """

    kind: str
    place: tuple[str, ...]
    check: str = ""
    chain: tuple[str, ...] = ()
    frames: tuple[str, ...] = ()
    message: tuple[str, ...] = ()
    override: str = ""
    deployment: str = ""


class RunFacts(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """What the event log does not say of a run: its row and tags. One object a run, shared by its events."""

    tags: dict[str, str] = {}
    code_location: str = ""
    partition: str | None = None
    backfill: str = ""
    parent_run_id: str = ""
    root_run_id: str = ""
