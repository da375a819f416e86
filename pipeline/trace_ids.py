"""Trace and span ids, derived so that every part of the house (and user code inside Dagster) gets the same ones.

`dagster_dagtel` holds a copy of these three functions, because it must not drag the daemon in; both are held against
the same vectors in tests/data/trace-ids.json.
"""

from functools import lru_cache
from hashlib import sha256
from typing import Final
from uuid import UUID

_RUNS: Final = 512  # 270 bytes each; who asks with each event remembers more
_SPANS: Final = 512


@lru_cache(maxsize=_RUNS)
def trace_id(run_id: str) -> str:
    """32 hex digits: the run's UUID; a run id that is no UUID is digested to 128 bits."""
    try:
        return UUID(run_id).hex
    except ValueError:
        return sha256(run_id.encode()).hexdigest()[:32]


@lru_cache(maxsize=_RUNS)
def run_span_id(run_id: str) -> str:
    """16 hex digits: the root span of a run."""
    return _digest(f"run\0{run_id}")


@lru_cache(maxsize=_SPANS)
def step_span_id(run_id: str, step_key: str, attempt: int) -> str:
    """16 hex digits: one attempt (from 1) of a step."""
    return _digest(f"step\0{run_id}\0{step_key}\0{attempt}")


def inner_span_id(run_id: str, step_key: str, attempt: int, name: str, started_ns: int) -> str:
    """16 hex digits: something within a run or step, told apart by its name and start."""
    return _digest(f"inner\0{run_id}\0{step_key}\0{attempt}\0{name}\0{started_ns}")  # asked for once


def _digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:16]
