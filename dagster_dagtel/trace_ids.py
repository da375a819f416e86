"""Trace and span ids, derived alike by the daemon and by user code inside Dagster.

A copy of the daemon's `pipeline/trace_ids.py`: this package must not drag the daemon in. Both are held against the
vectors in tests/data/trace-ids.json.
"""

from functools import lru_cache
from hashlib import sha256
from uuid import UUID


@lru_cache(maxsize=1024)
def trace_id(run_id: str) -> str:
    """32 hex digits: the run's UUID; a run id that is no UUID is digested to 128 bits."""
    try:
        return UUID(run_id).hex
    except ValueError:
        return sha256(run_id.encode()).hexdigest()[:32]


def run_span_id(run_id: str) -> str:
    """16 hex digits: the root span of a run."""
    return _digest("run", run_id)


def step_span_id(run_id: str, step_key: str, attempt: int) -> str:
    """16 hex digits: one attempt (from 1) of a step."""
    return _digest("step", run_id, step_key, str(attempt))


@lru_cache(maxsize=1024)
def _digest(*parts: str) -> str:
    return sha256("\0".join(parts).encode()).hexdigest()[:16]
