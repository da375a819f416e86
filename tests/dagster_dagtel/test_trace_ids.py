"""The ids that user code and the daemon derive must be the same ones."""

import json
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagster_dagtel import trace_ids as inside
from pipeline import trace_ids as daemon

VECTORS = json.loads((Path(__file__).parents[1] / "data" / "trace-ids.json").read_text())


@pytest.mark.parametrize("module", [inside, daemon])
@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: str(vector["step_key"]))
def test_ids_equal_the_vectors(module: ModuleType, vector: dict[str, str]) -> None:
    run, step = vector["run_id"], vector["step_key"]
    assert module.trace_id(run) == vector["trace_id"]
    assert module.run_span_id(run) == vector["run_span_id"]
    assert module.step_span_id(run, step, vector["attempt"]) == vector["step_span_id"]


@given(st.text(), st.text(), st.integers(1, 99))
def test_both_copies_agree_on_any_run_and_step(run: str, step: str, attempt: int) -> None:
    assert inside.trace_id(run) == daemon.trace_id(run)
    assert inside.run_span_id(run) == daemon.run_span_id(run)
    assert inside.step_span_id(run, step, attempt) == daemon.step_span_id(run, step, attempt)
