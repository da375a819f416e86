"""dagster_dagtel in real Dagster runs: in one process and with a process a step.

Needs a Python that has Dagster and the OpenTelemetry SDK, named by DAGTEL_TEST_DAGSTER_PYTHON; Dagster's environment is
never ours.
"""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from pipeline.trace_ids import step_span_id, trace_id

PYTHON = os.environ.get("DAGTEL_TEST_DAGSTER_PYTHON", "")
HERE = Path(__file__).parent
ROOT = HERE.parents[1]

pytestmark = pytest.mark.skipif(
    not PYTHON, reason="DAGTEL_TEST_DAGSTER_PYTHON names no Python with dagster and opentelemetry-sdk"
)


class Observed:
    """What a run of observed_project.py left: spans by name and attempt, log texts by step."""

    def __init__(self, runs: list[dict[str, Any]], spans: list[dict[str, Any]]) -> None:
        self.assets_run, self.ops_run = (run["run_id"] for run in runs)
        self.events = [event for run in runs for event in run["events"]]
        self.spans: dict[str, list[dict[str, Any]]] = {}
        for span in spans:
            self.spans.setdefault(span["name"], []).append(span)

    def place(self, name: str, nth: int = 0) -> tuple[str, str]:
        """(trace id, parent id) of a span."""
        span = self.spans[name][nth]
        parent = span["parent_id"]
        return span["context"]["trace_id"].removeprefix("0x"), (parent or "").removeprefix("0x")

    def span_id(self, name: str) -> str:
        return str(self.spans[name][0]["context"]["span_id"]).removeprefix("0x")

    def fields(self, event: str, nth: int = 0) -> dict[str, Any]:
        lines = [e["text"] for e in self.events if e["text"].startswith(f"{event} ⟦dagtel⟧")]
        found: dict[str, Any] = json.loads(lines[nth].split("⟦dagtel⟧", 1)[1])
        return found


@pytest.fixture(scope="module", params=["in_process", "multiprocess"])
def observed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Observed:
    folder = tmp_path_factory.mktemp(request.param)
    (folder / "home").mkdir()
    shutil.copytree(ROOT / "dagster_dagtel", folder / "path" / "dagster_dagtel")  # and nothing else of the house
    project = folder / "path" / "observed_project.py"
    shutil.copy(HERE / "observed_project.py", project)
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(folder / "path"),
        "OBSERVED_FOLDER": str(folder),
        "DAGSTER_DISABLE_TELEMETRY": "1",
    }
    done = subprocess.run(
        [PYTHON, str(project), request.param], env=environment, capture_output=True, text=True, timeout=150, cwd=folder
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Failed to detach context" not in done.stderr
    spans = [json.loads(line) for line in (folder / "spans.jsonl").read_text().splitlines()]
    return Observed(json.loads(done.stdout.splitlines()[-1]), spans)


@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("entries_work", "entries"),
        ("second", "entries"),
        ("check_work", "entries_outer_check"),
        ("left_work", "both_sides"),
        ("right_work", "both_sides"),
        ("async_work", "from_coroutine"),
    ],
)
def test_the_outermost_operation_of_an_asset_or_check_is_a_child_of_its_step(
    observed: Observed, name: str, step: str
) -> None:
    run = observed.assets_run
    assert observed.place(name) == (trace_id(run), step_span_id(run, step, 1))


@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("spread_work", "spread"),
        ("vacuum_work", "vacuum[bad_table]"),
        ("async_generator_work", "async_spread"),
        ("left_open_work", "left_open"),
        ("last_work", "last"),
    ],
)
def test_ops_generators_and_dynamic_steps_nest_under_their_own_step(observed: Observed, name: str, step: str) -> None:
    run = observed.ops_run
    assert observed.place(name) == (trace_id(run), step_span_id(run, step, 1))


@pytest.mark.parametrize(
    ("name", "parent"),
    [("fetch_from_api", "entries_work"), ("async_inner", "async_work"), ("thread_copied", "entries_work")],
)
def test_an_operation_within_another_is_its_child(observed: Observed, name: str, parent: str) -> None:
    assert observed.place(name) == (trace_id(observed.assets_run), observed.span_id(parent))


def test_a_thread_without_the_steps_context_has_a_plain_span(observed: Observed) -> None:
    trace, parent = observed.place("thread_bare")
    assert parent == ""
    assert trace != trace_id(observed.assets_run)


def test_each_attempt_has_its_own_parent_and_the_failed_one_its_exception(observed: Observed) -> None:
    run = observed.ops_run
    assert [observed.place("flaky_work", n)[1] for n in (0, 1)] == [step_span_id(run, "flaky", n) for n in (1, 2)]
    first, second = observed.spans["flaky_work"]
    assert first["status"] == {"status_code": "ERROR", "description": "TimeoutError: Connection timeout after 30s"}
    assert first["events"][0]["attributes"]["exception.type"] == "TimeoutError"
    assert (second["status"], second["events"]) == ({"status_code": "UNSET"}, [])


def test_the_outermost_operation_says_which_step_it_belongs_to(observed: Observed) -> None:
    assert observed.spans["entries_work"][0]["attributes"] == {
        "cicd.pipeline.run.id": observed.assets_run,
        "cicd.pipeline.task.name": "entries",
        "dagster.step.attempt": 1,
        "n": 1,
        "keys": ["a", "b"],
        "late": True,
    }
    assert observed.spans["fetch_from_api"][0]["attributes"] == {"rows_fetched": 487}


def test_log_lines_stand_in_the_event_log_with_their_fields_and_their_span(observed: Observed) -> None:
    assert observed.fields("asset_started") == {"asset_name": "entries", "timestamp": "2024-10-15T10:35:42"}
    assert observed.fields("api_fetch_success") == {
        "trace_id": trace_id(observed.assets_run),
        "span_id": observed.span_id("fetch_from_api"),
        "asset_name": "entries",
        "rows_returned": 487,
        "ratio": 99.5,
    }


def test_an_exception_is_logged_with_type_message_and_stack(observed: Observed) -> None:
    fields = observed.fields("asset_failed")
    assert (fields["error_type"], fields["error_message"]) == ("TimeoutError", "Connection timeout after 30s")
    assert fields["error_stack"].rstrip().endswith("TimeoutError: Connection timeout after 30s")
    assert [e["level"] for e in observed.events if e["text"].startswith("asset_failed")] == ["ERROR"]


def test_threads_and_io_managers_reach_the_event_log_of_their_step(observed: Observed) -> None:
    steps = {e["text"].split(" ")[0]: e["step"] for e in observed.events if "⟦dagtel⟧" in e["text"]}
    assert (steps["from_thread"], steps["io_manager_line"]) == ("entries", "left_open")
    assert [observed.fields("from_thread", n)["how"] for n in (0, 1)] == ["copied", "bare"]
